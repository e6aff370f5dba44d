"""The loop: it learns, repeats itself bit for bit, resumes, and stops cleanly."""

import json
import math
import os
import signal
from pathlib import Path
from typing import cast

import pytest
import torch
from torch import nn

from clips4.config import Config, TrainConfig, load_config
from clips4.data.class_names import load_classes
from clips4.errors import UserError
from clips4.models.checkpoint import Prototypes, checkpoint_folders, load_checkpoint
from clips4.models.student import Embedder
from clips4.training.log import LOG, read_log
from clips4.training.loop import Interrupted, train
from clips4.training.optim import learning_rate_factor
from clips4.utils.progress import NoProgress
from tests.helpers import TINY, write_broken_images

CLASSES = load_classes("cat,cup,grass")


def weights(run: Path) -> dict[str, torch.Tensor]:
    checkpoint = load_checkpoint(run)
    return {**checkpoint.student.state_dict(), "unknown": checkpoint.prototypes.unknown}


def assert_same_bits(one: Path, two: Path) -> None:
    ours, theirs = weights(one), weights(two)
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        assert torch.equal(value, theirs[key]), key


def losses(run: Path) -> list[dict[str, float]]:
    return [{key: value for key, value in line.items() if key != "seconds"} for line in read_log(run / LOG)]


class StopAt(NoProgress):
    """Ctrl-C after some steps."""

    def __init__(self, steps: int):
        self.left = steps

    def advance(self, values: dict[str, float]) -> None:
        if values:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGINT)


def test_same_seed_gives_the_same_weights_bit_for_bit(
    images: Path, tiny_run: Path, tiny_config: Config, tmp_path: Path
) -> None:
    train(sorted(images.iterdir()), CLASSES, tiny_config, tmp_path / "again", device="cpu")
    assert_same_bits(tiny_run, tmp_path / "again")


@pytest.mark.slow
def test_compiled_student_ends_with_the_same_weights_up_to_rounding(
    images: Path, tiny_run: Path, tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def by_graph(network: nn.Module, **_: object) -> nn.Module:
        return cast(nn.Module, compile_by(network, backend="aot_eager"))  # needs no C++ compiler

    compile_by = torch.compile
    monkeypatch.setattr(torch, "compile", by_graph)
    config = tiny_config.model_copy(update={"train": tiny_config.train.model_copy(update={"compile": True})})
    train(sorted(images.iterdir()), CLASSES, config, tmp_path / "compiled", device="cpu")
    ours, theirs = weights(tmp_path / "compiled"), weights(tiny_run)
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        torch.testing.assert_close(value, theirs[key], rtol=1e-3, atol=1e-4)


def test_interrupted_run_by_sgd_and_the_gradient_of_a_distance_ends_like_an_unbroken_one(
    images: Path, tiny_run: Path, tmp_path: Path
) -> None:
    settings = ["train.optimizer=sgd", "train.lr=0.02", "prototypes.unknown_update=gradient", "train.steps=4"]
    config, paths = load_config("cpu", [*TINY, *settings, "train.save_every=3"]), sorted(images.iterdir())
    train(paths, CLASSES, config, tmp_path / "whole", device="cpu")
    with pytest.raises(Interrupted):
        train(paths, CLASSES, config, tmp_path / "part", device="cpu", progress=StopAt(2))
    train(paths, CLASSES, config, tmp_path / "part", resume=True, device="cpu")
    assert_same_bits(tmp_path / "whole", tmp_path / "part")
    by_adam = load_checkpoint(tiny_run).student.state_dict()["head.project.weight"]
    assert not torch.equal(weights(tmp_path / "whole")["head.project.weight"], by_adam)


def test_second_stage_starts_from_the_student_of_the_first(images: Path, tiny_run: Path, tmp_path: Path) -> None:
    still = [
        "train.lr=1e-12",
        "train.backbone_lr=0",
        "train.weight_decay=0",
        "train.steps=1",
        "extensions.em_iterations=0",
    ]
    config = load_config("cpu", [*TINY, *still, f"train.start_from={tiny_run}", "train.seed=5"])
    train(sorted(images.iterdir()), CLASSES, config, tmp_path / "second", device="cpu")
    before, after = (
        load_checkpoint(tiny_run).student.state_dict(),
        load_checkpoint(tmp_path / "second").student.state_dict(),
    )
    for key, value in before.items():
        torch.testing.assert_close(after[key], value, rtol=0, atol=1e-9)
    other = load_config("cpu", [*TINY, f"train.start_from={tiny_run}", "student.width=24"])
    with pytest.raises(UserError, match=r"train\.start_from = .*: has another network"):
        train(sorted(images.iterdir()), CLASSES, other, tmp_path / "other", device="cpu")


def test_another_seed_gives_other_weights(images: Path, tiny_run: Path, tmp_path: Path) -> None:
    config = load_config("cpu", [*TINY, "train.seed=1"])
    train(sorted(images.iterdir()), CLASSES, config, tmp_path / "other", device="cpu")
    ours, theirs = weights(tiny_run), weights(tmp_path / "other")
    assert not torch.equal(ours["head.project.weight"], theirs["head.project.weight"])


def test_interrupted_run_ends_like_an_unbroken_one(images: Path, tmp_path: Path) -> None:
    config = load_config("cpu", [*TINY, "train.steps=4", "train.save_every=3"])
    paths = sorted(images.iterdir())
    train(paths, CLASSES, config, tmp_path / "whole", device="cpu")
    with pytest.raises(Interrupted) as stopped:
        train(paths, CLASSES, config, tmp_path / "broken", device="cpu", progress=StopAt(2))
    assert stopped.value.step == 2
    result = train(paths, CLASSES, config, tmp_path / "broken", resume=True, device="cpu")
    assert result.steps == 4
    assert_same_bits(tmp_path / "whole", tmp_path / "broken")
    assert losses(tmp_path / "whole") == losses(tmp_path / "broken")


def test_resuming_with_other_settings_or_classes_is_refused(
    images: Path, copied_run: Path, tiny_config: Config
) -> None:
    paths = sorted(images.iterdir())
    with pytest.raises(UserError, match="other settings or classes"):
        train(paths, load_classes("cat,dog,grass"), tiny_config, copied_run, resume=True, device="cpu")
    other = load_config("cpu", [*TINY, "train.lr=0.5"])
    with pytest.raises(UserError, match="other settings or classes"):
        train(paths, CLASSES, other, copied_run, resume=True, device="cpu")
    with pytest.raises(UserError, match="already holds a run"):
        train(paths, CLASSES, tiny_config, copied_run, device="cpu")


def test_refused_resumption_leaves_the_run_as_it_was(images: Path, copied_run: Path) -> None:
    before = {path: path.read_bytes() for path in copied_run.rglob("*") if path.is_file()}
    other = load_config("cpu", [*TINY, "prototypes.m=3"])
    with pytest.raises(UserError, match="other settings"):
        train(sorted(images.iterdir()), CLASSES, other, copied_run, resume=True, device="cpu")
    assert {path: path.read_bytes() for path in copied_run.rglob("*") if path.is_file()} == before


def test_losses_fall_on_images_seen_again_and_again(images: Path, tmp_path: Path) -> None:
    config = load_config("cpu", [*TINY, "train.steps=30", "train.lr=0.003", "train.save_every=30"])
    train(sorted(images.iterdir()), CLASSES, config, tmp_path / "run", device="cpu")
    log = read_log(tmp_path / "run" / LOG)
    assert [line["step"] for line in log] == list(range(1, 31))
    for name in ("loss", "contrast", "embedding", "semantic"):
        first = sum(line[name] for line in log[:5])
        last = sum(line[name] for line in log[-5:])
        assert last < first, name


def test_term_of_weight_zero_is_switched_off(images: Path, tmp_path: Path) -> None:
    config = load_config("cpu", [*TINY, "train.steps=1", "objective.contrast_weight=0", "objective.semantic_weight=0"])
    train(sorted(images.iterdir()), CLASSES, config, tmp_path / "run", device="cpu")
    (line,) = read_log(tmp_path / "run" / LOG)
    assert line["contrast"] == line["semantic"] == 0
    assert line["loss"] == line["embedding"] > 0


def test_broken_images_are_left_out_and_reported(images: Path, tiny_config: Config, tmp_path: Path) -> None:
    broken = write_broken_images(tmp_path / "broken")
    paths = [*sorted(images.iterdir()), *broken.values()]
    result = train(paths, CLASSES, tiny_config, tmp_path / "run", device="cpu")
    assert result.images == 3
    assert [skipped.path for skipped in result.skipped] == list(broken.values())


def test_teacher_is_never_trained(images: Path, tiny_run: Path, tiny_config: Config) -> None:
    tensors = load_checkpoint(tiny_run).student.state_dict()
    assert not [key for key in tensors if "teacher" in key or "sentences" in key]


def test_known_prototypes_stay_and_unknown_ones_move(images: Path, tmp_path: Path) -> None:
    config = load_config("cpu", [*TINY, "train.keep_checkpoints=9", "prototypes.unknown=8"])
    train(sorted(images.iterdir()), CLASSES, config, tmp_path / "run", device="cpu")
    first, last = (load_checkpoint(folder).prototypes for folder in checkpoint_folders(tmp_path / "run"))
    assert torch.equal(first.known, last.known)
    assert not torch.equal(first.unknown, last.unknown)
    torch.testing.assert_close(last.unknown.norm(dim=1), torch.ones(len(last.unknown)))


def spoil(monkeypatch: pytest.MonkeyPatch, steps: set[int]) -> None:
    """Make the objective NaN at some steps, counted from 0."""
    import clips4.method.objective

    honest, calls = clips4.method.objective.objective, iter(range(10**6))

    def spoilt(*arguments: object, **options: object) -> object:
        terms = honest(*arguments, **options)  # type: ignore[arg-type]
        return terms._replace(total=terms.total * (math.nan if next(calls) in steps else 1))

    monkeypatch.setattr("clips4.training.step.objective", spoilt)


def test_losses_that_stay_not_finite_stop_with_the_reason_and_the_images(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, {1, 2, 3})
    config = load_config("cpu", [*TINY, "train.steps=9", "train.max_nonfinite_steps=3"])
    with pytest.raises(UserError, match=r"step 4: the loss was not finite, 3 times .*lower train.lr.*photo\d.png"):
        train(sorted(images.iterdir()), CLASSES, config, tmp_path / "run", device="cpu")
    checkpoint = load_checkpoint(tmp_path / "run")
    assert all(value.isfinite().all() for value in checkpoint.student.state_dict().values())
    result = train(sorted(images.iterdir()), CLASSES, config, tmp_path / "run", resume=True, device="cpu")
    assert result.steps == 9


def test_step_that_is_not_finite_is_left_out_and_counted(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, {2})
    config = load_config("cpu", [*TINY, "train.steps=3", "train.keep_checkpoints=9"])
    result = train(sorted(images.iterdir()), CLASSES, config, tmp_path / "run", device="cpu")
    assert result.left_out_steps == 1
    folders = checkpoint_folders(tmp_path / "run")
    assert_same_bits(folders[1], folders[2])
    assert "loss" not in read_log(tmp_path / "run" / LOG)[2]


def test_gradients_of_batches_are_averaged_over_a_step(images: Path, tmp_path: Path) -> None:
    settings = [*TINY, "train.steps=1", "train.batch=1", "objective.contrast_weight=0", "objective.semantic_weight=0"]
    paths = sorted(images.iterdir())
    for parts in (1, 3):
        config = load_config("cpu", [*settings, f"train.accumulate={parts}"])
        train(paths, CLASSES, config, tmp_path / str(parts), device="cpu")
    once, thrice = (read_log(tmp_path / str(parts) / LOG)[0] for parts in (1, 3))
    assert once["embedding"] != thrice["embedding"]


def test_moving_average_is_saved_as_the_student_and_resumed(images: Path, tmp_path: Path) -> None:
    paths = sorted(images.iterdir())
    plain = load_config("cpu", [*TINY, "train.steps=4", "train.save_every=1", "train.keep_checkpoints=9"])
    config = load_config(
        "cpu", [*TINY, "train.steps=4", "train.save_every=1", "train.keep_checkpoints=9", "train.ema=0.75"]
    )
    train(paths, CLASSES, plain, tmp_path / "plain", device="cpu")
    train(paths, CLASSES, config, tmp_path / "whole", device="cpu")
    expected: torch.Tensor | None = None
    for ours, theirs in zip(
        checkpoint_folders(tmp_path / "whole"), checkpoint_folders(tmp_path / "plain"), strict=True
    ):
        raw = weights(theirs)["head.project.weight"]
        expected = raw if expected is None else 0.75 * expected + 0.25 * raw
        torch.testing.assert_close(weights(ours)["head.project.weight"], expected)
    with pytest.raises(Interrupted):
        train(paths, CLASSES, config, tmp_path / "broken", device="cpu", progress=StopAt(2))
    train(paths, CLASSES, config, tmp_path / "broken", resume=True, device="cpu")
    assert_same_bits(tmp_path / "whole", tmp_path / "broken")


def test_callback_gets_the_student_as_it_is_used(images: Path, tmp_path: Path) -> None:
    seen: list[int] = []

    def watch(step: int, student: Embedder, prototypes: Prototypes) -> dict[str, float]:
        assert not student.training
        assert not student(torch.rand(1, 3, 64, 64)).requires_grad
        seen.append(step)
        return {"score": 0.5}

    config = load_config("cpu", [*TINY, "train.steps=5", "train.eval_every=2"])
    train(sorted(images.iterdir()), CLASSES, config, tmp_path / "run", device="cpu", callback=watch)
    assert seen == [2, 4, 5]
    assert [line.get("score") for line in read_log(tmp_path / "run" / LOG)] == [None, 0.5, None, 0.5, 0.5]


def test_every_stage_of_a_run_ends_at_its_total(images: Path, tmp_path: Path) -> None:
    """With prototypes fitted to the student, and the space of the teacher calibrated."""

    class Stages(NoProgress):
        def __init__(self) -> None:
            self.seen: list[list[object]] = []

        def stage(self, name: str, total: int) -> None:
            self.seen.append([name, total, 0])

        def advance(self, values: dict[str, float]) -> None:
            self.seen[-1][2] += 1  # type: ignore[operator]

    progress = Stages()
    config = load_config("cpu", [*TINY, "teacher.calibrate=true", "extensions.em_iterations=1"])
    train(sorted(images.iterdir()), CLASSES, config, tmp_path / "run", device="cpu", progress=progress)
    assert {str(name) for name, _, _ in progress.seen} >= {
        "calibrating the teacher's space",
        "encoding images",
        "training",
        "fitting prototypes",
        "quality report",
    }
    assert [(name, total) for name, total, _ in progress.seen] == [(name, done) for name, _, done in progress.seen]


def test_resuming_with_other_images_is_refused(images: Path, copied_run: Path, tiny_config: Config) -> None:
    with pytest.raises(UserError, match="other images"):
        train(sorted(images.iterdir())[:2], CLASSES, tiny_config, copied_run, resume=True, device="cpu")


def test_what_does_not_matter_may_change_when_resuming(images: Path, copied_run: Path) -> None:
    config = load_config("cpu", [*TINY, "train.save_every=7", "data.workers=1", "objective.chunk_mib=3"])
    result = train(sorted(images.iterdir()), CLASSES, config, copied_run, resume=True, device="cpu")
    assert result.steps == 2
    other = load_config("cpu", [*TINY, "train.batch=3"])
    with pytest.raises(UserError, match=r"2 images per step .*now it is 3"):
        train(sorted(images.iterdir()), CLASSES, other, copied_run, resume=True, device="cpu")


def test_crop_that_the_stride_does_not_divide_is_refused(images: Path, tmp_path: Path) -> None:
    config = load_config("cpu", [*TINY, "data.crop=60"])
    with pytest.raises(UserError, match=r"not a multiple of student\.stride"):
        train(sorted(images.iterdir()), CLASSES, config, tmp_path / "run", device="cpu")


def test_learning_rate_rises_then_falls() -> None:
    config = TrainConfig(steps=100, warmup=10, poly_power=1.0)
    factors = [learning_rate_factor(step, config) for step in range(100)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[9] == max(factors)
    assert factors[50] == pytest.approx(0.5)
    assert factors == sorted(factors[:10]) + sorted(factors[10:], reverse=True)


@pytest.mark.parametrize("second", ['{"step": 2, "lo', '{"loss": 2}', "[2]", '{"step": "2"}', "\0", "[" * 100_000])
def test_log_with_a_damaged_line_is_read_up_to_there(second: str, tmp_path: Path) -> None:
    (tmp_path / LOG).write_text(json.dumps({"step": 1}) + f"\n{second}\n" + json.dumps({"step": 3}) + "\n")
    assert read_log(tmp_path / LOG) == [{"step": 1}]


# ---------------------------------------------------------------------------------------------------------- shards


def write_shards(images: Path, folder: Path) -> list[Path]:
    """The pictures as two tar files, with one that is broken."""
    import tarfile

    folder.mkdir()
    (folder / "broken.png").write_bytes(b"no picture")
    members = [sorted(images.iterdir())[:2], [*sorted(images.iterdir())[2:], folder / "broken.png"]]
    for number, paths in enumerate(members):
        with tarfile.open(folder / f"{number}.tar", "w") as tar:
            for path in paths:
                tar.add(path, path.name)
    return sorted(folder.glob("*.tar"))


def test_run_on_shards_resumes_like_an_unbroken_one(images: Path, tmp_path: Path) -> None:
    shards = write_shards(images, tmp_path / "shards")
    config = load_config("cpu", [*TINY, "train.steps=3"])
    result = train(shards, CLASSES, config, tmp_path / "whole", device="cpu")
    assert result.images == 3
    (skipped,) = result.skipped
    assert skipped.path.name == "broken.png"
    with pytest.raises(Interrupted):
        train(shards, CLASSES, config, tmp_path / "broken", device="cpu", progress=StopAt(1))
    train(shards, CLASSES, config, tmp_path / "broken", resume=True, device="cpu")
    assert_same_bits(tmp_path / "whole", tmp_path / "broken")
    other = load_config("cpu", [*TINY, "train.steps=3", "data.workers=2"])
    with pytest.raises(UserError, match=r"started with 1 readers of shards .*now it is 2"):
        train(shards, CLASSES, other, tmp_path / "broken", resume=True, device="cpu")


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_train_in_mixed_precision_the_loss_falls(images: Path, tmp_path: Path, precision: str) -> None:
    config = load_config("cpu", [*TINY, "train.steps=4", f"train.precision={precision}", "train.lr=0.003"])
    result = train(sorted(images.iterdir()), CLASSES, config, tmp_path / "run", device="cpu")
    assert result.left_out_steps == 0
    log = read_log(tmp_path / "run" / LOG)
    assert log[-1]["loss"] < log[0]["loss"]
