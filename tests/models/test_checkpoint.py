import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from clips4.config import Config, StudentConfig, load_config, with_overrides
from clips4.data.class_names import load_classes
from clips4.errors import UserError
from clips4.models.checkpoint import (
    CARD,
    FOLDER,
    STATE,
    WEIGHTS,
    Prototypes,
    checkpoint_folders,
    load_checkpoint,
    load_state,
    save_checkpoint,
)
from clips4.models.student import Embedder, empty_student
from tests.helpers import generator, unit

CONFIG = load_config("cpu", ["student.width=16", "student.frozen=false", "segments.clusters=[3, 5]", "train.lr=0.0123"])
DIMENSIONS = 12


def make_prototypes(unknown: int = 4) -> Prototypes:
    text, known = unit(2, DIMENSIONS, dtype=torch.float32), unit(2, DIMENSIONS, seed=1, dtype=torch.float32)
    return Prototypes(
        load_classes(["cat", "dining table: table, desk"]),
        text,
        known,
        unit(unknown, DIMENSIONS, seed=2, dtype=torch.float32),
        unit(5, DIMENSIONS, seed=3, dtype=torch.float16),
    )


class Run:
    """A student that has made one step, so that its optimiser has a state."""

    def __init__(self, folder: Path):
        torch.manual_seed(0)
        self.folder = folder
        self.student = empty_student(CONFIG.student, DIMENSIONS).train()
        self.optimizer = make_optimizer(self.student)
        z = self.student(torch.rand(1, 3, 64, 64, generator=generator(0)))
        (z * torch.randn(z.shape, generator=generator(1))).sum().backward()
        self.optimizer.step()
        self.prototypes = make_prototypes()

    def state(self) -> dict[str, object]:
        return {"optimiser": self.optimizer.state_dict(), "failures": 2}

    def save(self, step: int, keep: int = 2, config: Config = CONFIG) -> Path:
        return save_checkpoint(self.folder, step, config, self.student, self.prototypes, self.state(), keep)


def make_optimizer(student: Embedder) -> torch.optim.AdamW:
    backbone = {"params": list(student.backbone.parameters()), "lr": 1e-3}
    head = {"params": list(student.head.parameters()), "lr": 1e-2}
    return torch.optim.AdamW([backbone, head])


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with a checkpoint, for tests that leave it as it is."""
    run = Run(tmp_path_factory.mktemp("run"))
    run.save(7)
    return run


@pytest.fixture
def run(tmp_path: Path, saved: Run) -> Run:
    """A run with a checkpoint of its own to damage."""
    own = Run.__new__(Run)
    own.__dict__.update(saved.__dict__, folder=tmp_path)
    own.save(7)
    return own


def equal_states(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(a[key].dtype == b[key].dtype and torch.equal(a[key], b[key]) for key in a)


# ------------------------------------------------------------------------------------------------------ round trip


def test_everything_comes_back_bit_for_bit(saved: Run) -> None:
    checkpoint = load_checkpoint(saved.folder)
    assert checkpoint.step == 7
    assert checkpoint.config == CONFIG
    assert equal_states(checkpoint.student.state_dict(), saved.student.state_dict())
    assert checkpoint.prototypes.names == saved.prototypes.names
    for part in ("text", "known", "unknown", "bank"):
        assert torch.equal(getattr(checkpoint.prototypes, part), getattr(saved.prototypes, part))
        assert getattr(checkpoint.prototypes, part).dtype == getattr(saved.prototypes, part).dtype


def test_run_without_a_bank(tmp_path: Path, saved: Run) -> None:
    without = replace(saved.prototypes, bank=None)
    save_checkpoint(tmp_path, 1, CONFIG, saved.student, without, saved.state(), 1)
    checkpoint = load_checkpoint(tmp_path)
    assert checkpoint.prototypes.bank is None
    assert checkpoint.card["bank"] == 0


def test_students_predictions_come_back_bit_for_bit(saved: Run) -> None:
    student = load_checkpoint(saved.folder).student
    images = torch.rand(1, 3, 70, 50, generator=generator(3))
    assert not student.training
    with torch.no_grad():
        assert torch.equal(student(images), saved.student.eval()(images))


def test_optimisers_state_comes_back_bit_for_bit(saved: Run) -> None:
    checkpoint = load_checkpoint(saved.folder)
    optimizer = make_optimizer(checkpoint.student)
    state = load_state(checkpoint)
    assert state["failures"] == 2
    optimizer.load_state_dict(state["optimiser"])
    ours, theirs = optimizer.state_dict(), saved.optimizer.state_dict()
    assert ours["param_groups"] == theirs["param_groups"]
    assert ours["state"].keys() == theirs["state"].keys()
    assert len(theirs["state"]) > 100
    for index in theirs["state"]:
        assert equal_states(ours["state"][index], theirs["state"][index])


def test_run_without_unknown_prototypes(tmp_path: Path, saved: Run) -> None:
    save_checkpoint(tmp_path, 1, CONFIG, saved.student, make_prototypes(0), saved.state(), 1)
    assert load_checkpoint(tmp_path).prototypes.unknown.shape == (0, DIMENSIONS)


def test_all_prototypes_are_known_then_unknown() -> None:
    prototypes = make_prototypes()
    assert torch.equal(prototypes.all(), torch.cat([prototypes.known, prototypes.unknown]))


def test_card_names_what_made_the_weights(saved: Run) -> None:
    path = load_checkpoint(saved.folder).path
    card = json.loads((path / CARD).read_text())
    assert card["step"] == 7
    assert card["classes"] == {"cat": ["cat"], "dining table": ["table", "desk"]}
    assert card["embed_dim"] == DIMENSIONS
    assert Config.model_validate(card["config"]) == CONFIG
    assert {"clips4", "torch", "python"} <= card["versions"].keys()
    assert load_checkpoint(saved.folder).card == card


def test_checkpoint_may_be_given_instead_of_the_run(saved: Run) -> None:
    path = load_checkpoint(saved.folder).path
    assert load_checkpoint(path).path == path


# ---------------------------------------------------------------------------------------------------------- keeping


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_newest_are_kept(tmp_path: Path, saved: Run, keep: int) -> None:
    for step in (5, 10, 90, 100):
        save_checkpoint(tmp_path, step, CONFIG, saved.student, saved.prototypes, saved.state(), keep)
    names = [folder.name for folder in checkpoint_folders(tmp_path)]
    assert names == ["step-00000005", "step-00000010", "step-00000090", "step-00000100"][-keep:]
    assert load_checkpoint(tmp_path).step == 100
    assert sorted(path.name for path in (tmp_path / FOLDER).iterdir()) == names


def test_saving_a_step_again_replaces_it(run: Run) -> None:
    run.prototypes = make_prototypes(1)
    run.save(7)
    assert len(checkpoint_folders(run.folder)) == 1
    assert len(load_checkpoint(run.folder).prototypes.unknown) == 1


def test_failed_save_leaves_what_was_there_and_no_part(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        run.save(8)
    assert [path.name for path in (run.folder / FOLDER).iterdir()] == ["step-00000007"]
    assert load_checkpoint(run.folder).step == 7


def test_parts_left_by_a_killed_run_are_not_taken_for_checkpoints(run: Run) -> None:
    (run.folder / FOLDER / ".step-00000009.123.part").mkdir()
    (run.folder / FOLDER / "step-00000009").mkdir()  # without a card
    (run.folder / FOLDER / "step-00000010").write_text("a file")
    assert [folder.name for folder in checkpoint_folders(run.folder)] == ["step-00000007"]


# ---------------------------------------------------------------------------------------------------------- damage


@pytest.mark.parametrize("name", ["nothing", "empty"])
def test_no_checkpoint_raises_with_advice(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    assert checkpoint_folders(tmp_path / name) == []
    with pytest.raises(UserError, match=f"{name}: holds no checkpoint; give the folder"):
        load_checkpoint(tmp_path / name)


def assert_damaged(run: Run) -> None:
    with pytest.raises(UserError, match=r"step-00000007") as caught:
        load_checkpoint(run.folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", "null", '"card"', "{}", '{"config": {}}', '{"config": {"train": {"stepps": 1}}}']
)
def test_damaged_card_is_the_users_error(run: Run, text: str) -> None:
    (load_checkpoint(run.folder).path / CARD).write_text(text)
    assert_damaged(run)


def test_card_that_is_no_text_is_the_users_error(run: Run) -> None:
    (load_checkpoint(run.folder).path / CARD).write_bytes(b"\xff\xfe\x00\x80")
    assert_damaged(run)


@pytest.mark.parametrize("key", ["step", "classes", "embed_dim", "config"])
def test_card_that_lacks_a_key_is_the_users_error(run: Run, key: str) -> None:
    path = load_checkpoint(run.folder).path / CARD
    card = json.loads(path.read_text())
    del card[key]
    path.write_text(json.dumps(card))
    assert_damaged(run)


@pytest.mark.parametrize("content", [b"", b"no weights", None])
def test_damaged_or_missing_weights_are_the_users_error(run: Run, content: bytes | None) -> None:
    path = load_checkpoint(run.folder).path / WEIGHTS
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    assert_damaged(run)


def test_truncated_weights_are_the_users_error(run: Run) -> None:
    path = load_checkpoint(run.folder).path / WEIGHTS
    path.write_bytes(path.read_bytes()[:-1])
    assert_damaged(run)


@pytest.mark.parametrize("key", ["prototypes.known", "student.head.project.weight"])
def test_weights_that_lack_a_tensor_are_the_users_error(run: Run, key: str) -> None:
    path = load_checkpoint(run.folder).path / WEIGHTS
    tensors = load_file(path)
    del tensors[key]
    save_file(tensors, path)
    assert_damaged(run)


def test_weights_of_another_student_are_the_users_error(run: Run) -> None:
    run.save(7, config=CONFIG.model_copy(update={"student": StudentConfig(width=24)}))
    assert_damaged(run)


class Trap:
    """Executes code when unpickled."""

    def __init__(self, sprung: Path):
        self._sprung = sprung

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self._sprung,)


@pytest.mark.parametrize("file", [WEIGHTS, STATE])
@pytest.mark.parametrize("zipped", [False, True])
def test_code_in_a_checkpoint_is_never_run(run: Run, file: str, zipped: bool) -> None:
    path, sprung = load_checkpoint(run.folder).path / file, run.folder / "sprung"
    if zipped:
        torch.save({"state": Trap(sprung)}, path)
    else:
        path.write_bytes(pickle.dumps({"state": Trap(sprung)}, protocol=2))
    if file == WEIGHTS:
        assert_damaged(run)
    else:
        checkpoint = load_checkpoint(run.folder)
        with pytest.raises(UserError, match=r"state\.pt: cannot be resumed"):
            load_state(checkpoint)
    assert not sprung.exists()


def test_missing_state_is_the_users_error_only_where_it_is_needed(run: Run) -> None:
    (load_checkpoint(run.folder).path / STATE).unlink()
    checkpoint = load_checkpoint(run.folder)
    with pytest.raises(UserError, match="cannot be resumed"):
        load_state(checkpoint)
    with pytest.raises(UserError, match="damaged"):
        load_checkpoint(run.folder, resuming=True)


@pytest.mark.parametrize("file", [WEIGHTS, STATE, CARD])
def test_where_the_newest_is_damaged_the_one_before_is_used_with_a_warning(run: Run, file: str) -> None:
    run.save(8)
    path = checkpoint_folders(run.folder)[-1] / file
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1  # one bit
    path.write_bytes(data) if file != CARD else path.write_text("{")
    logged: list[str] = []
    assert load_checkpoint(run.folder, resuming=True, log=logged.append).step == 7
    (line,) = logged
    assert "step-00000008: damaged" in line
    assert "\n" not in line


def test_where_all_are_damaged_it_is_the_users_error(run: Run) -> None:
    run.save(8)
    for folder in checkpoint_folders(run.folder):
        (folder / WEIGHTS).write_bytes(b"")
    with pytest.raises(UserError, match="damaged"):
        load_checkpoint(run.folder, log=lambda _: None)


def test_checkpoints_of_format_1_are_read(run: Run) -> None:
    path = load_checkpoint(run.folder).path
    card = json.loads((path / CARD).read_text())
    del card["files"]
    (path / CARD).write_text(json.dumps({**card, "format": 1}))
    (path / STATE).unlink()
    assert load_checkpoint(run.folder).step == 7


def test_checkpoint_of_several_prototypes_per_class_comes_back(tmp_path: Path, saved: Run) -> None:
    known, unknown = (unit(count, DIMENSIONS, seed=count, dtype=torch.float32) for count in (6, 4))
    before = replace(saved.prototypes, known=known, fitted=torch.cat([-known, unknown]), per_class="nearest")
    config = with_overrides(CONFIG, ["prototypes.per_class=nearest", "prototypes.m=3"])
    save_checkpoint(tmp_path, 7, config, saved.student, before, saved.state(), 2)
    found = load_checkpoint(tmp_path).prototypes
    assert (found.per_class, found.rows_per_class) == ("nearest", 3)
    assert torch.equal(found.known, known)
    assert torch.equal(found.query_known, -known)
    assert torch.equal(found.query_unknown, unknown)
    assert found.groups is not None
    assert found.groups.tolist() == [0, 0, 0, 1, 1, 1, 2, 3, 4, 5]
    assert len(found.groups) == len(found.all()) == len(found.queries())


def test_groups_of_one_prototype_per_class_are_none(saved: Run) -> None:
    found = load_checkpoint(saved.folder).prototypes
    assert (found.per_class, found.rows_per_class, found.groups) == ("mean", 1, None)
