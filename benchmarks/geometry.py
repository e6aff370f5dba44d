"""The same teacher in CLIP's geometry: student and teacher on coco128, plain and reshaped, which should be alike.

    python benchmarks/geometry.py --data ../shared/data --out runs/geometry

The reshaped teacher loses no information: every pixel vector z becomes normalize([a z, 1, 0]) and every text vector t
normalize([a t, .2, .98]), with a = .5. Prints mIoU over the classes present, by text / by prototypes, of teacher and
student (transductive, clips4-v1), and the ratio of each figure to the plain teacher's. ``--raw`` turns calibration off.
"""

import argparse
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor, nn

from clips4.config import saved_config, with_overrides
from clips4.data.benchmarks.registry import semantic_spec
from clips4.data.class_names import load_classes
from clips4.data.image_folder import find_images
from clips4.evaluation.open_vocabulary import score_language
from clips4.inference.segmenter import Segmenter
from clips4.models.calibrated_teacher import calibrated
from clips4.models.card import parse_card
from clips4.models.checkpoint import CARD, WEIGHTS, Prototypes, checkpoint_folders, prototypes_of
from clips4.models.residual_student import ResidualStudent
from clips4.models.student import Embedder
from clips4.models.teacher_trunk import TeacherTrunk, trunk_of
from clips4.models.teachers.base import Teacher, load_teacher
from clips4.training.loop import train
from clips4.training.recipe import AUTO, choose_config
from clips4.utils.progress import ProgressBars
from clips4.utils.tensors import read_tensors
from clips4.utils.text import read_json

A = 0.5
PAPER_OBJECTIVE = [
    "extensions.text_weight=0",
    "extensions.context=0",
    "extensions.unknown_apart=false",
    "extensions.exclude_same_class=false",
    "extensions.student_prototypes=false",
    "extensions.em_iterations=0",
]
OBJECTIVES = {"auto": (AUTO, []), "paper's objective": ("cpu", PAPER_OBJECTIVE)}


def reshape_pixels(pixel_map: Tensor) -> Tensor:
    """(B, D, h, w) unit -> (B, D + 2, h, w) unit."""
    ones = torch.ones_like(pixel_map[:, :1])
    return F.normalize(torch.cat([A * pixel_map, ones, torch.zeros_like(ones)], 1), dim=1)


def reshape_text(text: Tensor) -> Tensor:
    """(K, D) unit -> (K, D + 2) unit."""
    return F.normalize(torch.cat([A * text, text.new_tensor([0.2, 0.98]).expand(len(text), 2)], 1), dim=1)


class ReshapedTrunk(TeacherTrunk):
    """A trunk whose map is reshaped, for a residual student."""

    def __init__(self, trunk: TeacherTrunk):
        super().__init__()
        self.trunk = trunk
        for name in ("channels", "strides", "mean", "std", "cell", "context_dim"):
            setattr(self, name, getattr(trunk, name))
        self.embed_dim = trunk.embed_dim + 2

    @property
    def architecture(self) -> dict[str, Any] | None:
        return self.trunk.architecture

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.trunk(images)

    def pixel_map(self, levels: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        pixel_map, context = self.trunk.pixel_map(levels)
        return reshape_pixels(pixel_map), context


class ReshapedTeacher:
    """A teacher in CLIP's geometry."""

    def __init__(self, teacher: Teacher):
        self.teacher, self.name, self.patch_stride = teacher, teacher.name, teacher.patch_stride
        self.embed_dim, self.settings = teacher.embed_dim + 2, {**teacher.settings, "reshaped": A}
        self.trunk: nn.Module = ReshapedTrunk(trunk_of(teacher))

    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        """K prompts -> (K, D + 2) unit rows."""
        return reshape_text(self.teacher.encode_text(prompts))

    def encode_pixels(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, D + 2, h, w) unit."""
        return reshape_pixels(self.teacher.encode_pixels(images))

    def unknown_terms(self, texts: Sequence[str]) -> list[str]:
        """The words of texts that its text model does not know."""
        return self.teacher.unknown_terms(texts)

    def to(self, device: torch.device) -> "ReshapedTeacher":
        """Move to a device, in place."""
        self.teacher.to(device)
        return self


class Keep:
    """A callback that keeps the trained student: a run of the reshaped teacher cannot be loaded by name."""

    student: Embedder

    def __call__(self, step: int, student: Embedder, prototypes: Prototypes) -> dict[str, float]:
        self.student = deepcopy(student).eval()
        return {}


def main() -> None:
    """Train and score both geometries for each objective, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("runs/geometry"))
    parser.add_argument("--steps", type=int, help="training steps; by default those of the preset")
    parser.add_argument("--images", type=int, default=128, help="training images; all 100 labeled ones are scored")
    parser.add_argument("--objectives", nargs="+", choices=list(OBJECTIVES), default=list(OBJECTIVES))
    parser.add_argument("--raw", action="store_true", help="teacher.calibrate=false, for comparison")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()

    dataset, classes = semantic_spec("coco128").load(arguments.data / "coco128"), load_classes("coco128")
    paths = find_images(arguments.data / "coco128/images")[: arguments.images]
    found: dict[tuple[str, str, str, str], float] = {}
    with ProgressBars(Console(stderr=True)) as bars:
        for objective in arguments.objectives:
            preset, overrides = OBJECTIVES[objective]
            steps = [f"train.steps={arguments.steps}"] if arguments.steps else []
            calibrate = [f"teacher.calibrate={str(not arguments.raw).lower()}"]
            config, _ = choose_config(preset, paths, [*overrides, *steps, *calibrate, *arguments.set], None, "cpu")
            config = with_overrides(config, [f"train.eval_every={config.train.steps}"])
            for shape in ("plain", "reshaped"):
                plain = load_teacher(config.teacher)
                teacher: Teacher = plain if shape == "plain" else ReshapedTeacher(plain)
                keep, run = Keep(), arguments.out / f"{preset}-{shape}"
                train(paths, classes, config, run, progress=bars, callback=keep, teacher=teacher)
                prototypes = read_prototypes(run)
                if isinstance(keep.student, ResidualStudent):  # set after the last step, as are the prototypes
                    keep.student.head_scale = prototypes.head_scale
                seen, side = calibrated(teacher, prototypes.space), config.data.inference_side
                cpu = torch.device("cpu")
                models = {
                    "teacher": Segmenter(seen.encode_pixels, config.teacher, config.data.long_side, cpu, teacher=seen),
                    "student": Segmenter(keep.student, config.teacher, side, cpu, prototypes),
                }
                banks = {"teacher": prototypes.known, "student": prototypes.query_known}
                for who, segmenter in models.items():
                    vectors = {"text": prototypes.text, "prototypes": banks[who]}
                    scored = score_language(segmenter, dataset, vectors, bars)
                    found |= {(objective, shape, who, how): s.miou_present for how, s in scored.items()}
                print_row(objective, shape, found)


def read_prototypes(run: Path) -> Prototypes:
    """The class vectors of a run whose student need not load."""
    folder = checkpoint_folders(run)[-1]
    card = parse_card(read_json(folder / CARD), CARD)
    return prototypes_of(card, saved_config(card.config, CARD), read_tensors(folder / WEIGHTS))


def print_row(objective: str, shape: str, found: dict[tuple[str, str, str, str], float]) -> None:
    """One line of the table: the four figures in percent and their ratios to the plain teacher's."""
    cells = []
    for who in ("teacher", "student"):
        for how in ("text", "prototypes"):
            value = found[objective, shape, who, how]
            cells.append(f"{100 * value:.2f} ({value / found[objective, 'plain', who, how]:.3f})")
    print(f"| {objective} | {shape} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
