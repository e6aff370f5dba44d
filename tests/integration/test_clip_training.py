"""Training with a CLIP teacher: the command line, maps cached or on the fly, and MaskCLIP+."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from clips4.config import Config, TeacherConfig, load_config
from clips4.data.class_names import load_classes
from clips4.errors import UserError
from clips4.inference.jobs.load import TeacherOptions, load_segmenter
from clips4.inference.refine.maskclip import Refinement, confident_classes
from clips4.inference.segmenter import Segmenter
from clips4.models.checkpoint import load_checkpoint
from clips4.models.teachers.base import load_teacher
from clips4.models.teachers.text.prompts import class_vectors, load_templates
from clips4.training.log import LOG, read_log
from clips4.training.loop import train
from clips4.utils.progress import NoProgress
from tests.cli.test_app import SETTINGS, clips4
from tests.helpers import TINY, FakeTeacher, photograph, unit
from tests.models.teachers.models import write_clip

# the stand-in for CLIP's vocabulary has "cat" and no other class name
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:words that the text model")]

CLASSES = load_classes(["cat", "cup: cup, mug", "grass"])


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip") / "model"
    write_clip(folder)
    return folder


def config(clip: Path, *more: str) -> Config:
    return load_config("cpu", [*TINY, f"teacher.name={clip}", *more])


def run(images: Path, settings: Config, out: Path, **options: Any) -> Path:
    train(sorted(images.iterdir()), CLASSES, settings, out, device="cpu", **options)
    return out


def tensors(out: Path) -> dict[str, torch.Tensor]:
    checkpoint = load_checkpoint(out)
    return {**checkpoint.student.state_dict(), "known": checkpoint.prototypes.known, "text": checkpoint.prototypes.text}


def assert_same_bits(one: Path, two: Path) -> None:
    ours, theirs = tensors(one), tensors(two)
    assert all(torch.equal(value, theirs[key]) for key, value in ours.items())


def test_some_dozen_steps_by_the_command_line(images: Path, clip: Path, tmp_path: Path) -> None:
    arguments: list[str | Path] = [
        "--teacher",
        clip,
        "--set",
        "teacher.templates=maskclip-85",
        "--set",
        "teacher.dense_attention=naclip",
    ]
    steps = ["--set", "train.steps=24", "--set", "train.save_every=12", "--set", "train.lr=0.003"]
    out, given = tmp_path / "run", ("--classes", "cat,cup,grass", "--device", "cpu")
    done = clips4("train", images, *given, "--out", out, *SETTINGS, *arguments, *steps)
    assert done.returncode == 0, done.stderr
    assert "Trained on 3 images (0 skipped), 24 steps" in done.stdout
    assert "teacher maps of 3 images need about" in done.stderr
    assert "computed once and kept in" in done.stderr
    log = read_log(out / LOG)
    assert len(log) == 24
    assert sum(line["loss"] for line in log[-6:]) < sum(line["loss"] for line in log[:6])
    card = json.loads((load_checkpoint(out).path / "card.json").read_text())
    assert card["embed_dim"] == 24
    assert card["config"]["teacher"]["name"] == str(clip.resolve())
    assert card["config"]["teacher"]["dense_attention"] == "naclip"
    answers = tmp_path / "answers"
    done = clips4("segment", out, images, "--out", answers, "--device", "cpu", "--classes", "cat,a new thing")
    assert done.returncode == 0, done.stderr
    assert len(list(answers.glob("*.json"))) == 3


def test_on_the_fly_trains_the_same_bits_as_cached(images: Path, clip: Path, tmp_path: Path) -> None:
    cached = run(images, config(clip), tmp_path / "cached")
    again = run(images, config(clip), tmp_path / "again")
    now = run(images, config(clip, "teacher.cache_gib=0"), tmp_path / "now")
    workers = run(images, config(clip, "teacher.cache_gib=0", "data.workers=1"), tmp_path / "workers")
    for other in (again, now, workers):
        assert_same_bits(cached, other)


def test_interrupted_run_on_the_fly_resumes(images: Path, clip: Path, tmp_path: Path) -> None:
    settings = config(clip, "teacher.cache_gib=0", "train.steps=3", "train.keep_checkpoints=9")
    whole = run(images, settings, tmp_path / "whole")
    part = tmp_path / "part"
    first = whole / "checkpoints" / "step-00000001"
    (part / "checkpoints").mkdir(parents=True)
    first.rename(part / "checkpoints" / first.name)
    run(images, settings, part, resume=True)
    assert_same_bits(whole, part)


def test_fewer_dimensions_in_the_cache_train_the_same_student_dimension(
    images: Path, clip: Path, tmp_path: Path
) -> None:
    out = run(images, config(clip, "teacher.cache_dims=8"), tmp_path / "run")
    assert load_checkpoint(out).prototypes.known.shape == (3, 24)


def test_student_never_holds_the_teacher(images: Path, clip: Path, tmp_path: Path) -> None:
    before = {key: value.clone() for key, value in load_teacher(str(clip)).model.state_dict().items()}  # type: ignore[attr-defined]
    out = run(images, config(clip), tmp_path / "run")
    assert sum(value.numel() for value in load_checkpoint(out).student.state_dict().values()) < 6_000_000
    after = load_teacher(str(clip)).model.state_dict()  # type: ignore[attr-defined]
    assert all(torch.equal(value, after[key]) for key, value in before.items())


# ------------------------------------------------------------------------------------------------------- MaskCLIP+


def test_maskclip_plus_trains_by_labels_then_by_itself(images: Path, clip: Path, tmp_path: Path) -> None:
    mode = ["objective.mode=maskclip-plus", "train.steps=20", "train.save_every=20", "train.lr=0.003"]
    out = run(images, config(clip, *mode, "objective.guided_share=1"), tmp_path / "guided")
    log = read_log(out / LOG)
    assert all(line["contrast"] == line["embedding"] == 0 for line in log)
    assert sum(line["loss"] for line in log[-5:]) < 0.8 * sum(line["loss"] for line in log[:5])
    prototypes = load_checkpoint(out).prototypes
    text = class_vectors(load_teacher(str(clip)), CLASSES, load_templates("simple"))
    torch.testing.assert_close(prototypes.known, text)
    assert torch.equal(prototypes.known, prototypes.text)
    assert prototypes.unknown.shape == (0, 24)
    assert Segmenter.load(out, "cpu").segment(photograph()).unknown_share == 0

    own = read_log(run(images, config(clip, *mode, "objective.guided_share=0.5"), tmp_path / "own") / LOG)
    assert [line["loss"] for line in own[:10]] == [line["loss"] for line in log[:10]]
    assert own[10]["loss"] < log[10]["loss"], "one's own labels are easier"


# ---------------------------------------------------------------------------------------------------- teacher alone


def test_refinements_of_a_teacher_alone(clip: Path) -> None:
    image, classes = photograph(), "cat,cup,grass,sky"
    answers = {
        refinement: Segmenter.from_teacher(str(clip), device="cpu", refinement=refinement).segment(image, classes)
        for refinement in (
            Refinement(),
            Refinement(key_smoothing=True),
            Refinement(prompt_denoising=True, threshold=0.9999999),
            Refinement(pamr=True),
            Refinement(True, True, True),
        )
    }
    plain = answers.pop(Refinement())
    assert plain.labels.shape == (72, 96)
    assert any((answer.labels != plain.labels).any() for answer in answers.values())
    smoothed = answers[Refinement(key_smoothing=True)]
    assert smoothed.similarity.max() <= 1


def test_denoising_predicts_the_classes_that_are_left(clip: Path) -> None:
    """Labels are of the asked list, not of what denoising left of it."""
    segmenter = Segmenter.from_teacher(str(clip), device="cpu", refinement=Refinement(prompt_denoising=True))
    read = segmenter.encode_image(photograph())
    vectors = unit(40, 24, dtype=torch.float32)
    asked = confident_classes(torch.einsum("dhw,ld->lhw", read.z, vectors), 0.5)
    assert 1 < len(asked) < 40
    labels, _ = segmenter.classify(read, vectors)
    assert set(labels.unique().tolist()) <= set(asked.tolist())
    assert labels.max() > len(asked), "numbered as asked"


def test_options_of_a_teacher_alone(clip: Path, images: Path, tiny_run: Path) -> None:
    options = TeacherOptions("sclip", "imagenet-80", True, True)
    config, refinement = options.settings()
    assert (config.teacher.dense_attention, config.teacher.templates) == ("sclip", "imagenet-80")
    assert refinement == Refinement(prompt_denoising=True, key_smoothing=True)
    segmenter, paths, *_ = load_segmenter([images], str(clip), "cpu", options)
    assert len(paths) == 3
    assert segmenter.segment(photograph(), "cat,cup").labels.shape == (72, 96)
    for wrong, words in (
        (TeacherOptions(dense_attention="best"), "teacher.dense_attention = 'best': input should be 'maskclip'"),
        (TeacherOptions(templates="few"), "unknown prompt templates 'few'"),
    ):
        with pytest.raises(UserError, match=words):
            load_segmenter([images], str(clip), "cpu", wrong)[0].segment(photograph(), "cat")
    for option in (TeacherOptions(dense_attention="sclip"), TeacherOptions(key_smoothing=True)):
        with pytest.raises(UserError, match="are for --teacher-only"):
            load_segmenter([tiny_run, images], None, "cpu", option)


def test_key_smoothing_needs_a_teacher_with_keys() -> None:
    teacher, cpu = FakeTeacher(), torch.device("cpu")
    with pytest.raises(UserError, match="conse has no attention keys"):
        Segmenter(teacher.encode_pixels, TeacherConfig(), 64, cpu, None, teacher, Refinement(key_smoothing=True))


def test_log_lines_reach_the_reporter(images: Path, clip: Path, tmp_path: Path) -> None:
    heard: list[str] = []

    class Ear(NoProgress):
        def log(self, line: str) -> None:
            heard.append(line)

    run(images, config(clip, "teacher.cache_gib=0", "train.steps=1"), tmp_path / "run", progress=Ear())
    assert len(heard) == 1
    assert "computed in every step" in heard[0]
