"""The calibration of a run's space in its checkpoint; runs of earlier versions are in the raw space."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from clips4.config import load_config, saved_config
from clips4.method.calibration import SpaceCalibration
from clips4.models.card import parse_card
from clips4.models.checkpoint import CARD, load_checkpoint, prototypes_of, save_checkpoint
from clips4.models.student import empty_student
from tests.helpers import unit
from tests.models.test_checkpoint import CONFIG, DIMENSIONS, make_prototypes

SPACE = SpaceCalibration(unit(DIMENSIONS, dtype=torch.float32), unit(DIMENSIONS, seed=1, dtype=torch.float32), 0.3, 0.2)


def test_checkpoint_with_a_space_comes_back(tmp_path: Path) -> None:
    given = replace(make_prototypes(), space=SPACE, unknown_margin=0.0625)
    save_checkpoint(tmp_path, 1, CONFIG, empty_student(CONFIG.student, DIMENSIONS), given, {}, 1)
    found = load_checkpoint(tmp_path).prototypes
    assert found.space is not None
    assert torch.equal(found.space.pixel_offset, SPACE.pixel_offset)
    assert torch.equal(found.space.text_offset, SPACE.text_offset)
    assert (found.space.pixel_spread, found.space.text_spread, found.unknown_margin) == (0.3, 0.2, 0.0625)


def test_checkpoint_of_an_earlier_version_is_raw(tmp_path: Path) -> None:
    prototypes = make_prototypes()
    path = save_checkpoint(tmp_path, 1, CONFIG, empty_student(CONFIG.student, DIMENSIONS), prototypes, {}, 1)
    card = json.loads((path / CARD).read_text())
    del card["config"]["teacher"]["calibrate"]
    (path / CARD).write_text(json.dumps(card))
    found = load_checkpoint(tmp_path)
    assert found.prototypes.space is None
    assert found.prototypes.unknown_margin == 0
    assert not found.config.teacher.calibrate


def test_prototypes_of_onnx_metadata_hold_the_space() -> None:
    from safetensors.torch import load, save

    given = make_prototypes()
    tensors = {f"prototypes.{name}": getattr(given, name) for name in ("text", "known", "unknown")} | SPACE.tensors()
    classes = dict(zip(given.names, map(list, given.classes.aliases), strict=True))
    values = {"format": 2, "step": 1, "classes": classes, "embed_dim": DIMENSIONS, "config": {}}
    found = prototypes_of(parse_card(values, "card"), CONFIG, load(save(tensors)))
    assert found.space is not None
    assert torch.equal(found.space.text_offset, SPACE.text_offset)


def test_saved_config_keeps_keys_of_a_newer_run() -> None:
    values = load_config("cpu", ["teacher.calibrate=true"]).model_dump(mode="json")
    assert saved_config(values, "card").teacher.calibrate


def test_checkpoint_with_a_head_scale_comes_back_and_one_without_has_all_of_it(tmp_path: Path) -> None:
    for scale in (0.0, 0.5, 1.0):
        given = replace(make_prototypes(), head_scale=scale)
        save_checkpoint(tmp_path / str(scale), 1, CONFIG, empty_student(CONFIG.student, DIMENSIONS), given, {}, 1)
        assert load_checkpoint(tmp_path / str(scale)).prototypes.head_scale == scale


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_checkpoint_with_a_text_prior_comes_back(weight: float, tmp_path: Path) -> None:
    given = replace(make_prototypes(), text_prior=weight)
    save_checkpoint(tmp_path, 1, CONFIG, empty_student(CONFIG.student, DIMENSIONS), given, {}, 1)
    assert load_checkpoint(tmp_path).prototypes.text_prior == weight


def test_prototypes_of_a_spoiled_run_are_the_teachers() -> None:
    given = make_prototypes()
    fitted = replace(given, fitted=unit(len(given.all()), DIMENSIONS, seed=9, dtype=torch.float32))
    assert torch.equal(replace(fitted, head_scale=0.0).queries(), given.all())
    assert torch.equal(replace(fitted, head_scale=0.5).queries(), fitted.queries())
