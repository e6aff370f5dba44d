"""The unit costs that `clips4 reproduce --dry-run` multiplies (evaluation/reproduce/costs.py), measured here.

    python benchmarks/unit_costs.py                                   one CPU thread, minutes
    python benchmarks/unit_costs.py --device cuda --batch 32          a line for the table of cards

Networks have random weights of the preset's architecture, which cost as much as trained ones: CLIP ViT-B/16 and a
dilated ResNet-50. On a CPU the seconds are those of this process alone, so that other jobs count little.
"""

import argparse
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from clips4.config import Config, load_config
from clips4.data.image_folder import load_training_image
from clips4.method.objective import objective
from clips4.models.student import build_student
from clips4.regions.cache import RegionCache
from clips4.utils.images import RGB


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--scratch", type=Path, default=Path("/tmp/clips4-unit-costs"))
    arguments = parser.parse_args()
    device, repeat = torch.device(arguments.device), arguments.repeat
    if device.type == "cpu":
        torch.set_num_threads(1)
    arguments.scratch.mkdir(parents=True, exist_ok=True)
    paths = [photo(arguments.scratch / f"{index}.jpg", index) for index in range(repeat)]
    config = load_config("paper", ["student.weights=random", f"train.batch={arguments.batch}"])

    images = [load_training_image(path, config.data.long_side) for path in paths]
    report("decoding an image", lambda: [load_training_image(path, 512) for path in paths], repeat, device)
    report(
        "regions by hed-ucm", lambda: [regions(config, image, arguments.scratch) for image in images], repeat, device
    )
    vision = clip_vision().to(device)
    pixels = torch.rand(1, 3, 384, 512, device=device)
    with torch.no_grad():
        report("teacher map", lambda: [vision(pixels, interpolate_pos_encoding=True) for _ in images], repeat, device)
    student = build_student(config.student, 512).to(device)
    views = torch.rand(arguments.batch * 2, 3, 224, 224, device=device)
    report("training, per image", lambda: step(config, student, views), arguments.batch, device)
    report("encoding an image", lambda: encode(student, pixels), 1, device)


def photo(path: Path, seed: int) -> Path:
    """A JPEG of COCO's usual size with structure at several scales."""
    random = np.random.default_rng(seed)
    total = np.zeros((480, 640, 3))
    for cells in (4, 16, 64):
        part = Image.fromarray(random.integers(0, 256, (cells, cells, 3), np.uint8)).resize((640, 480))
        total += np.asarray(part, np.float64) / 3
    Image.fromarray(total.astype(np.uint8)).save(path, quality=90)
    return path


def regions(config: Config, image: RGB, scratch: Path) -> int:
    """Number of regions of one image, never from the cache."""
    found = RegionCache(config.regions, scratch / "cache")(image)
    shutil.rmtree(scratch / "cache")
    return int(found.max()) + 1


def clip_vision() -> torch.nn.Module:
    """ViT-B/16 with CLIP's shape."""
    from transformers import CLIPVisionConfig, CLIPVisionModel

    return CLIPVisionModel(
        CLIPVisionConfig(
            hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, patch_size=16
        )
    ).eval()


def step(config: Config, student: torch.nn.Module, views: torch.Tensor) -> None:
    """Forward and backward of a batch of two views per image, as training does it."""
    student.train()
    with torch.autocast(views.device.type, torch.bfloat16, enabled=views.device.type == "cuda"):
        z = student(views)
    number, dims, height, width = z.shape
    cells = torch.arange(height)[:, None] // 4 * 8 + torch.arange(width)[None] // 4
    own = cells + 64 * (torch.arange(number) // 2)[:, None, None]  # regions are numbered through over the images
    pixel_map = torch.nn.functional.normalize(torch.randn(number, dims, height, width, device=z.device), dim=1)
    prototypes = torch.nn.functional.normalize(torch.randn(60, dims, device=z.device), dim=1)
    drawn = torch.randperm(number * height * width, device=z.device)[: 256 * number]
    found = objective(
        z.float(), own.to(z.device), pixel_map, prototypes, config.objective, config.segments, drawn=drawn
    )
    found.total.backward()


def encode(student: torch.nn.Module, pixels: torch.Tensor) -> None:
    """One image at the preset's inference side."""
    student.eval()
    with torch.no_grad():
        student(pixels)


def report(name: str, work: Callable[[], object], count: int, device: torch.device) -> None:
    """Print seconds per item: of this process on a CPU, of the clock elsewhere."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    work()  # weights, caches and kernels are ready
    started = clock()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    print(f"{name}: {(clock() - started) / count:.4f} s", flush=True)


if __name__ == "__main__":
    main()
