import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from clips4.config import load_config
from clips4.errors import UserError
from clips4.models.card import check_sizes, parse_card
from clips4.models.checkpoint import CARD, checkpoint_folders, load_checkpoint
from tests.helpers import unit

VALUES: dict[str, Any] = {
    "format": 2,
    "step": 7,
    "classes": {"cat": ["cat"], "table": ["table", "desk"]},
    "embed_dim": 6,
    "bank": 3,
    "backbone": {"config": {"num_hidden_layers": 12, "hidden_size": 384}},
    "config": load_config("cpu").model_dump(mode="json"),
    "versions": {"torch": "2.13.0"},
    "files": {"student.safetensors": "0" * 64},
}


def tensors() -> dict[str, Tensor]:
    return {
        "prototypes.text": unit(2, 6),
        "prototypes.known": unit(2, 6, seed=1),
        "prototypes.unknown": unit(4, 6, seed=2),
        "prototypes.fitted": unit(6, 6, seed=3),
        "prototypes.bank": unit(3, 6, seed=4).half(),
        "space.pixel_offset": torch.zeros(6),
        "space.text_offset": torch.zeros(6),
        "space.spreads": torch.tensor([0.1, 0.2]),
    }


def test_parse_card_whole_one_has_its_classes() -> None:
    assert parse_card(VALUES, "card").class_list.aliases == (("cat",), ("table", "desk"))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("step", float("inf")),
        ("step", -1),
        ("step", True),
        ("step", "7"),
        ("step", 10**400),
        ("classes", ["a"]),
        ("classes", {}),
        ("classes", {"cat": []}),
        ("classes", {"cat": [1]}),
        ("classes", {"cat": "cat"}),
        ("classes", {"": ["a"]}),
        ("classes", {"a\0": ["a"]}),
        ("classes", {"a": ["a\x1b[31m"]}),
        ("classes", {"a\nb": ["a"]}),
        ("classes", {"cat": ["a"], "CAT": ["b"]}),
        ("classes", {"unknown": ["a"]}),
        ("embed_dim", 0),
        ("embed_dim", 10**9),
        ("embed_dim", 1.5),
        ("bank", -1),
        ("backbone", []),
        ("backbone", {"config": {"hidden_size": 10**9}}),
        ("backbone", {"config": {"num_hidden_layers": 100_000}}),
        ("backbone", {"class_vectors": [1000, 2**40]}),
        ("config", None),
        ("versions", {"torch": None}),
        ("versions", {"torch": "a\nb"}),
        ("files", {"student.safetensors": "0"}),
        ("files", ["student.safetensors"]),
        ("format", 9),
        ("format", "2"),
    ],
)
def test_parse_card_wrong_value_raises_and_names_the_key(key: str, value: object) -> None:
    with pytest.raises(UserError, match=key) as caught:
        parse_card({**VALUES, key: value}, "card")
    assert "\n" not in str(caught.value)


def test_check_sizes_tensors_that_fit_pass() -> None:
    check_sizes(parse_card(VALUES, "card"), tensors(), 4, "file")


@pytest.mark.parametrize("name", list(tensors()))
def test_check_sizes_tensor_of_another_size_type_or_nan_raises(name: str) -> None:
    card, whole = parse_card(VALUES, "card"), tensors()
    for wrong in (whole[name][:1], whole[name][..., None], whole[name].long(), whole[name] * float("nan")):
        with pytest.raises(UserError, match=r"file: (prototypes|space)\."):
            check_sizes(card, {**whole, name: wrong}, 4, "file")


@pytest.mark.parametrize("rows", [2, 4, 6])
def test_check_sizes_several_prototypes_per_class_pass_up_to_their_number(rows: int) -> None:
    several = {**tensors(), "prototypes.known": unit(rows, 6), "prototypes.fitted": unit(rows + 4, 6)}
    check_sizes(parse_card(VALUES, "card"), several, 4, "card", per_class=3)


@pytest.mark.parametrize(("known", "fitted", "per_class"), [(4, 8, 1), (8, 12, 3), (5, 9, 3), (4, 6, 3), (0, 4, 3)])
def test_check_sizes_uneven_or_too_many_prototypes_per_class_raises(known: int, fitted: int, per_class: int) -> None:
    wrong = {**tensors(), "prototypes.known": unit(known, 6), "prototypes.fitted": unit(fitted, 6)}
    with pytest.raises(UserError, match="has shape"):
        check_sizes(parse_card(VALUES, "card"), wrong, 4, "card", per_class)


def test_check_sizes_too_many_unknown_no_bank_or_negative_spread_raises() -> None:
    card, whole = parse_card(VALUES, "card"), tensors()
    for changed, words in (
        ({**whole, "prototypes.unknown": unit(9, 6), "prototypes.fitted": unit(11, 6)}, "9 unknown prototypes"),
        ({key: value for key, value in whole.items() if key != "prototypes.bank"}, "a bank of 3 segments"),
        ({**whole, "space.spreads": -whole["space.spreads"]}, "not positive"),
    ):
        with pytest.raises(UserError, match=words):
            check_sizes(card, changed, 4, "file")


def test_load_checkpoint_card_of_a_giant_student_raises_before_memory_is_taken(tiny_run: Path, tmp_path: Path) -> None:
    source, own = checkpoint_folders(tiny_run)[-1], tmp_path / "checkpoints/step-00000001"
    own.mkdir(parents=True)
    (own / "student.safetensors").symlink_to(source / "student.safetensors")
    card = json.loads((source / CARD).read_text())
    del card["files"]
    card["config"]["student"]["width"] = 2**20
    (own / CARD).write_text(json.dumps(card))
    with pytest.raises(UserError, match="wrongly shaped"):
        load_checkpoint(tmp_path)
