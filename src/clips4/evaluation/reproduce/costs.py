"""What the steps of a table cost: hours by kind of card, disk and memory; all unit costs stand in this module.

Measured: ``SECONDS``, of one CPU thread (EPYC, 2026, shared with other jobs; CPU time of ``benchmarks/unit_costs.py``).
Estimated, since no GPU was available: everything else. A card is taken to reach 30 % of its published peak, where the
thread that was measured computes 0.148 TFLOP/s with the same networks.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from clips4.config import Config
from clips4.data.benchmarks.davis import SPLITS as DAVIS_SPLITS
from clips4.data.benchmarks.registry import SEMANTIC
from clips4.evaluation.protocols import SCLIP, TCL
from clips4.evaluation.reproduce.plan import Check, Plan, Step
from clips4.evaluation.reproduce.tables import Scoring, Training
from clips4.evaluation.run import TASKS
from clips4.training.teacher_cache import estimate_bytes

# seconds of one CPU thread for one image; preset paper: CLIP ViT-B/16 at 384 x 512, ResNet-50 with 2 views of 224
SECONDS = {"decode": 0.0052, "regions": 1.23, "map": 1.05, "train": 1.76, "encode": 1.11}
_LOADER = 0.04  # estimated: seconds of a worker for the two views of an image
_POSTPROCESS = 0.05  # estimated: seconds of a CPU for upsampling and scoring an image
_SEGMENTS = 0.1  # estimated: seconds of a CPU for the teacher's segments of an image
_PROPAGATE = 0.3  # estimated: seconds for the affinities of a frame
_FRAMES = 67  # of a sequence of DAVIS: 1,999 in 30
_SIZE = (500, 375)  # pixels of a typical image of VOC, Context and COCO
_REGION_MIB, _RUN_GIB = (
    0.1,
    0.7,
)  # estimated: the hierarchy of an image; two checkpoints of a ResNet-50 with its optimizer
_BASE_GIB, _IMAGE_GIB = 2.0, 0.7  # estimated: memory of a training, and of each image of its batch
_WINDOWS = {SCLIP: 1.5, TCL: 2.0}  # area of all windows of an image, as a share of the image at the model's own size


@dataclass(frozen=True)
class Card:
    """A machine.

    Attributes:
        name: with its memory.
        half, full: how many CPU threads it is as fast as, in reduced precision and in float32.
        cores: CPU cores for decoding and regions.
    """

    name: str
    half: float
    full: float
    cores: int = 8


CARDS = (
    Card("RTX 4090 24 GB", 330, 165),
    Card("A100 80 GB", 630, 40),
    Card("H100 80 GB", 2000, 135),
    Card("2 CPU cores", 2, 2, cores=2),
)


@dataclass(frozen=True)
class Cost:
    """Of one step: hours by the names of ``CARDS``, GiB of disk, GiB of memory of the device."""

    step: Step
    hours: dict[str, float]
    disk_gib: float
    memory_gib: float


def estimate(plan: Plan) -> list[Cost]:
    """The cost of every step of a plan, with the published numbers of images.

    Regions and teacher maps of a split are counted where they are first needed.
    """
    prepared: set[tuple[str, str]] = set()
    costs = []
    for step in plan.steps():
        work, disk, memory = step.work, 0.0, 0.0
        if isinstance(work, Training):
            new = (work.dataset, work.split) not in prepared
            prepared.add((work.dataset, work.split))
            config = plan.config(work, step.seed)
            hours = {card.name: _training(work, config, card, new, plan.processes) / 3600 for card in CARDS}
            images = _images(work.dataset, work.split)
            maps = _maps_gib(images, config)
            disk = _RUN_GIB + new * (images * _REGION_MIB / 1024 + (maps if maps <= config.teacher.cache_gib else 0))
            memory = _BASE_GIB + config.train.batch * _IMAGE_GIB * (config.data.crop / 224) ** 2
        elif isinstance(work, Check):
            seconds = _images(work.dataset, work.split) * SECONDS["decode"] * work.labels
            hours = {card.name: seconds / 3600 for card in CARDS}
        else:
            hours = {card.name: _scoring(work, plan, card) / 3600 for card in CARDS}
            memory = _BASE_GIB
        costs.append(Cost(step, hours, disk, memory))
    return costs


def _images(dataset: str, split: str) -> int:
    return DAVIS_SPLITS[dataset][split] * _FRAMES if dataset in DAVIS_SPLITS else SEMANTIC[dataset].splits[split]


def _maps_gib(images: int, config: Config) -> float:
    return estimate_bytes(images, [_SIZE], config.data.long_side, 16, config.teacher.cache_dims or 512) / 2**30


def _training(work: Training, config: Config, card: Card, new: bool, processes: int) -> float:
    """Seconds: one pass of preparation, then the steps; n processes are taken to be n cards."""
    images = _images(work.dataset, work.split)
    kept = _maps_gib(images, config) <= config.teacher.cache_gib
    workers = min(card.cores, max(1, config.data.workers))
    one_map = SECONDS["map"] / (card.full if config.teacher.precision == "32-true" else card.half)
    first = images * (SECONDS["decode"] + (SECONDS["regions"] if new else 0)) / workers
    first += images * (_SEGMENTS + (one_map if new or not kept else 0)) / processes
    speed = card.full if config.train.precision == "32-true" else card.half
    device = SECONDS["train"] / speed * (config.data.crop / 224) ** 2 + (0 if kept else one_map)
    loader = (SECONDS["decode"] + _LOADER) / workers
    return first + config.train.steps * config.train.accumulate * config.train.batch * max(device, loader)


def _scoring(work: Scoring, plan: Plan, card: Card) -> float:
    images = _images(work.choice.dataset, work.choice.score)
    encode = SECONDS["encode"] / card.half
    if work.kind == "tracking":
        return images * len(work.features) * (encode + _PROPAGATE)
    if work.kind == "unsupervised":
        labeled = _images(work.choice.dataset, work.choice.train)
        passes = 2 * images + (len(TASKS) - 1) * (images + labeled)  # clusters take two, the others one of each split
        return passes * len(work.features) * (encode + _POSTPROCESS)
    windows = _WINDOWS.get(plan.protocol, 1.0)
    if work.training is None:  # once plain, once refined
        return 2 * images * (windows * SECONDS["map"] / card.full + _POSTPROCESS)
    seconds = images * (windows * encode + _POSTPROCESS)
    if work.fold is not None:  # prototypes of the unknown names
        seconds += _images(work.training.dataset, work.training.split) * (_SEGMENTS + SECONDS["decode"])
    return seconds


def describe(plan: Plan, costs: Sequence[Cost]) -> str:
    """A Markdown table of all steps with their state, their sum, and what is measured and what estimated."""
    names = [card.name for card in CARDS]
    lines = [
        "| step | state | " + " | ".join(f"hours, {name}" for name in names) + " | disk, GiB | memory, GiB |",
        "|---|---|" + "---:|" * (len(names) + 2),
    ]
    left = []
    for cost in costs:
        done = plan.result(cost.step) is not None
        left += [] if done else [cost]
        cells = [f"{cost.hours[name]:.2f}" for name in names] + [f"{cost.disk_gib:.1f}", f"{cost.memory_gib:.0f}"]
        lines.append(f"| {cost.step.name} | {'done' if done else 'to do'} | " + " | ".join(cells) + " |")
    sums = [f"{sum(cost.hours[name] for cost in left):.1f}" for name in names]
    sums += [f"{sum(cost.disk_gib for cost in left):.1f}", f"{max((c.memory_gib for c in left), default=0):.0f}"]
    lines.append(f"| to do, together | {len(left)} of {len(costs)} | " + " | ".join(sums) + " |")
    lines += [
        "",
        "Measured: CPU seconds of one image on one thread (EPYC, shared with other jobs). Estimated: hours of GPUs (30",
        "% of their peak), disk and memory. benchmarks/unit_costs.py measures a machine.",
    ]
    return "\n".join(lines)
