"""Protocols, folds of unknown classes (trap 6), class files."""

import json
from pathlib import Path

import pytest

from clips4.data.benchmarks.registry import SEMANTIC
from clips4.data.class_names import load_classes
from clips4.errors import UserError
from clips4.evaluation.protocols import (
    PROTOCOLS,
    known_classes,
    language_protocol,
    set_truth,
    training_set,
    unknown_classes,
)
from clips4.models.teachers.text.prompts import load_templates
from tests.data.benchmarks import miniatures


@pytest.mark.parametrize("name", PROTOCOLS)
@pytest.mark.parametrize("dataset", SEMANTIC)
def test_every_protocol_states_everything(name: str, dataset: str) -> None:
    protocol = language_protocol(name, dataset, "simple")
    record = protocol.describe()
    assert record["id"] == name
    assert {
        "short_side",
        "window",
        "stride",
        "class_file",
        "templates",
        "aliases",
        "background",
        "ignore_index",
    } <= set(record)
    assert {"truth", "upsampling", "averaging"} <= set(record)
    json.dumps(record)
    assert (protocol.background is not None) == SEMANTIC[dataset].background, "trap 3: never threshold without one"
    assert load_classes(protocol.class_file).names == load_classes(SEMANTIC[dataset].class_file).names
    assert load_templates(protocol.templates)


def test_sclip_and_tcl_as_published() -> None:
    def window_of(name: str, dataset: str) -> tuple[int | None, int | None, int | None]:
        protocol = language_protocol(name, dataset, "simple")
        return protocol.short_side, protocol.window, protocol.stride

    assert window_of("sclip", "voc21") == (336, 224, 112)
    assert window_of("sclip", "cityscapes19") == (560, 224, 112)
    assert window_of("sclip", "coco-stuff171") == (448, 224, 112)
    assert window_of("tcl", "ade150") == (448, 448, 224)
    assert window_of("clips4-v1", "voc20") == (None, None, None)
    voc = language_protocol("sclip", "voc21", "simple")
    assert voc.aliases == "max"
    assert voc.class_file == "voc21-sclip"
    for dataset in ("voc20", "context59", "context60", "cityscapes19", "coco-stuff171", "ade150", "coco-object"):
        assert language_protocol("sclip", dataset, "simple").class_file == f"{dataset}-sclip"
    assert language_protocol("sclip", "camvid11", "simple").class_file == "camvid11", "that paper has no list"
    assert voc.background is not None
    assert (voc.background.probability, voc.background.scale, voc.background.min_share) == (0.1, 65, 0.1)
    assert voc.describe()["background"] == {"threshold": 0.1, "scale": 65, "asked": True, "area": 0.1}


def test_sclip_aliases_are_those_of_its_files() -> None:
    """Some lines of each file as published; spaces are missing there, too."""
    words = {
        "voc20": {"boat": ("ship",), "diningtable": ("table",), "pottedplant": ("pottedplant",)},
        "context59": {"pottedplant": ("pottedplant",), "aeroplane": ("aeroplane",)},
        "context60": {"background": ("background",)},
        "cityscapes19": {"traffic light": ("trafficlight",), "vegetation": ("vegetation",)},
        "coco-stuff171": {"traffic light": ("trafficlight",), "wall-other": ("wall-other",)},
        "ade150": {"windowpane": ("windowpane",)},
    }
    for dataset, some in words.items():
        classes = load_classes(f"{dataset}-sclip")
        assert classes.names == load_classes(dataset).names
        found = dict(zip(classes.names, classes.aliases, strict=True))
        for name, aliases in some.items():
            assert found[name] == aliases
    voc = load_classes("voc20-sclip")
    assert len(voc.aliases[voc.names.index("person")]) == 7
    assert len(voc.aliases[voc.names.index("tvmonitor")]) == 5


def test_wrong_names_are_reported() -> None:
    with pytest.raises(UserError, match="choose one of clips4-v1, sclip, tcl"):
        language_protocol("mine", "voc21", "simple")
    with pytest.raises(UserError, match="has no folds"):
        unknown_classes("camvid11", 0)
    with pytest.raises(UserError, match="has folds 0 to 3"):
        unknown_classes("context59", 4)


@pytest.mark.parametrize(
    ("dataset", "folds", "sizes"), [("context59", 4, {14, 15}), ("coco128", 3, {30, 31}), ("voc20", 4, {5})]
)
def test_folds_share_all_classes_out(dataset: str, folds: int, sizes: set[int]) -> None:
    names = load_classes(dataset).names
    parts = [unknown_classes(dataset, fold) for fold in range(folds)]
    assert sorted(name for part in parts for name in part) == sorted(names)
    assert {len(part) for part in parts} == sizes


def test_folds_are_what_their_files_list() -> None:
    from hashlib import sha256

    for dataset, folds in (("context59", 4), ("coco128", 3), ("voc20", 4)):
        names = load_classes(dataset).names
        order = sorted(names, key=lambda name: sha256(f"{dataset}:{name}".encode()).hexdigest())
        for fold in range(folds):
            assert unknown_classes(dataset, fold) == set(order[fold::folds])


def test_trap_6_an_unknown_name_is_nowhere_in_what_a_run_raises() -> None:
    for fold in range(4):
        known = known_classes("context60", fold)
        assert not set(known.names) & unknown_classes("context60", fold)
        assert known.names[0] == "background"
        assert len(known) + len(unknown_classes("context60", fold)) == 60


def test_training_set_has_the_names_of_known_foreground_classes_alone(tmp_path: Path) -> None:
    root = miniatures.voc(tmp_path)
    paths, classes = training_set("voc21", root, "trainaug", fold=0)
    assert [path.name for path in paths] == ["2007_000042.jpg"]
    unknown = unknown_classes("voc21", 0)
    assert classes.names == tuple(name for name in load_classes("voc20").names if name not in unknown)
    assert training_set("voc20", root, "val")[1].names == load_classes("voc20").names
    with pytest.raises(UserError, match=r"train\.txt"):
        training_set("voc20", root)


def test_truth_of_a_set_for_saved_predictions(tmp_path: Path) -> None:
    truth, classes = set_truth("voc21", miniatures.voc(tmp_path), None)
    assert truth.names == ("2007_000033", "2007_000042")
    assert truth.classes == len(classes) == 21
