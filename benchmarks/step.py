"""Where the time of a training step goes.

    python benchmarks/step.py                                        preset cpu on synthetic images, one minute
    python benchmarks/step.py --set train.compile=auto               the same with a compiled student, if it is faster
    python benchmarks/step.py --preset paper --set train.batch=32 --device cuda --set train.precision=bf16-mixed

Prints seconds (median over steps) of the loader, the student's forward pass, k-means and pooling, losses, their
backward pass to the embedding, prototypes, the student's backward pass, and the optimizer; the own parts' share of the
step; peak memory; images per second. Each part is timed by itself in a loop that does what ``training.train`` does;
on CUDA the device is waited for at every border, which a real step does not do, so the whole step is timed as well.
"""

import argparse
import resource
import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from clips4.config import Config, load_config
from clips4.data.loader import Positions, ViewStream, batches
from clips4.data.views import ItemMaker
from clips4.method.losses.contrastive import pixel_segment_contrast
from clips4.method.losses.embedding_consistency import embedding_consistency
from clips4.method.losses.semantic_consistency import semantic_consistency
from clips4.method.objective import objective
from clips4.method.prototypes import update_unknown
from clips4.method.segments import cut_by_regions, flatten_pixels, pool, spherical_kmeans
from clips4.models.student import build_student
from clips4.regions.cache import RegionCache
from clips4.training.optim import build_optimizer
from clips4.training.setup import compiled_student
from clips4.utils.devices import make_fabric
from clips4.utils.progress import NoProgress

OWN = ("k-means and pooling", "losses", "losses, backward", "prototypes")


class Printed(NoProgress):
    """Print what becomes of the compilation."""

    def log(self, text: str) -> None:
        print(text, flush=True)


class Clock:
    """Seconds by the name of the part, each from the mark before."""

    def __init__(self, device: torch.device):
        self._device = device
        self.seconds: dict[str, list[float]] = defaultdict(list)

    def start(self) -> None:
        self._wait()
        self._last = time.perf_counter()

    def mark(self, name: str) -> None:
        self._wait()
        now = time.perf_counter()
        self.seconds[name].append(now - self._last)
        self._last = now

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


def make_images(folder: Path, count: int, config: Config) -> list[Path]:
    """Images with coarse patches and fine grain, of the size that training reduces to."""
    draw, paths = np.random.default_rng(0), []
    size = config.data.long_side, config.data.long_side * 3 // 4
    for number in range(count):
        coarse = Image.fromarray(draw.integers(0, 256, (6, 8, 3), np.uint8)).resize(size, Image.Resampling.BICUBIC)
        grain = draw.normal(0, 8, (size[1], size[0], 3))
        paths.append(folder / f"{number}.jpg")
        Image.fromarray((np.asarray(coarse) + grain).clip(0, 255).astype(np.uint8)).save(paths[-1], quality=90)
    return paths


def measure(config: Config, device: str, steps: int, embed_dim: int) -> None:
    """Time the parts of some steps, then whole steps, and print."""
    fabric = make_fabric(device, config.train.precision)
    where = fabric.device
    torch.manual_seed(0)
    student = build_student(config.student, embed_dim)
    student.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = build_optimizer(student, config.train)
    parameters = sum(p.numel() for p in student.parameters())
    network = compiled_student(student, config, fabric, Printed()) if config.train.compile else student
    model, fabric_optimizer = fabric.setup(network, optimizer)
    model.train()
    known = F.normalize(torch.randn(92, embed_dim), dim=1).to(where)
    text = F.normalize(torch.randn(92, embed_dim), dim=1).to(where)
    unknown = F.normalize(torch.randn(config.prototypes.unknown, embed_dim), dim=1).to(where)
    kmeans, weights = config.segments, config.objective
    clock = Clock(where)
    with tempfile.TemporaryDirectory() as folder:
        paths = make_images(Path(folder), 4 * config.train.batch, config)

        def teacher_map(image: object) -> Tensor:
            """Replaces a cached map: smooth, in half precision."""
            coarse = torch.randn(1, embed_dim, 12, 16, generator=torch.Generator().manual_seed(0))
            return F.normalize(coarse, dim=1)[0].half()

        make_item = ItemMaker(
            RegionCache(config.regions, Path(folder)),
            teacher_map,
            config.data,
            student.stride,
            0,
            weights.contrast_pixels // config.train.batch,
        )
        stream = ViewStream(paths, make_item)
        places = Positions(range(2 * steps + 3), 1, config.train.batch)
        feed = batches(stream, places, config.train.batch, config.data.workers, pin=where.type == "cuda")
        if where.type == "cuda":
            torch.cuda.reset_peak_memory_stats(where)
        for step in range(steps + 3):
            clock.start()
            batch = next(feed)
            clock.mark("loader")
            images, regions, pixel_map, drawn = (fabric.to_device(part) for part in batch[:4])
            clock.mark("to the device")
            z = model(images)
            clock.mark("student, forward")
            leaf = z.detach().requires_grad_()
            segments = cut_by_regions(spherical_kmeans(leaf.detach(), kmeans.clusters, kmeans.iterations), regions)
            pixels, labels = flatten_pixels(leaf), segments.labels.flatten()
            v = pool(pixels, labels, len(segments.region))
            guidance = pool(flatten_pixels(pixel_map), labels, len(v))
            clock.mark("k-means and pooling")
            loss = weights.contrast_weight * pixel_segment_contrast(
                pixels[drawn],
                regions.flatten()[drawn],
                labels[drawn],
                v,
                segments.region,
                weights.concentration,
                weights.exclude_own,
                budget=weights.chunk_mib * 2**20,
            )
            loss = loss + weights.embedding_weight * embedding_consistency(v, guidance)
            loss = loss + weights.semantic_weight * semantic_consistency(
                v, guidance, torch.cat([known, unknown]), weights.temperature
            )
            loss = loss + weights.semantic_weight * config.extensions.text_weight * semantic_consistency(
                v, guidance, torch.cat([text, unknown]), weights.temperature
            )
            clock.mark("losses")
            loss.backward()
            clock.mark("losses, backward")
            unknown = update_unknown(unknown, known, guidance, config.prototypes.unknown_step)
            clock.mark("prototypes")
            fabric.backward(z, leaf.grad)
            clock.mark("student, backward")
            fabric.clip_gradients(
                model, fabric_optimizer, max_norm=config.train.max_grad_norm, error_if_nonfinite=False
            )
            fabric_optimizer.step()
            fabric_optimizer.zero_grad()
            clock.mark("optimizer")
            if step < 3:  # warming up
                clock.seconds.clear()
        for _ in range(steps):
            clock.start()
            batch = next(feed)
            images, regions, pixel_map, drawn = (fabric.to_device(part) for part in batch[:4])
            terms = objective(
                model(images), regions, pixel_map, torch.cat([known, unknown]), weights, kmeans, drawn, text=text
            )
            fabric.backward(terms.total)
            norm = fabric.clip_gradients(
                model, fabric_optimizer, max_norm=config.train.max_grad_norm, error_if_nonfinite=False
            )
            assert norm is not None
            float(norm)
            fabric_optimizer.step()
            fabric_optimizer.zero_grad()
            unknown = update_unknown(unknown, known, terms.guidance, config.prototypes.unknown_step)
            clock.mark("whole step")

    seconds = {name: statistics.median(values) for name, values in clock.seconds.items()}
    whole = seconds.pop("whole step")
    parts = sum(seconds.values())
    print(
        f"{config.student.backbone}, {parameters / 1e6:.1f} M parameters, D {embed_dim}, batch {config.train.batch} x "
        f"2 views of {config.data.crop}, {config.train.precision}, {where}, {torch.get_num_threads()} threads, "
        f"{len(v)} segments"
    )
    for name, value in seconds.items():
        print(f"  {name:20} {1000 * value:9.1f} ms  {value / parts:6.1%}")
    own = sum(seconds[name] for name in OWN)
    print(f"  {'own parts':20} {1000 * own:9.1f} ms  {own / parts:6.1%} of the parts' sum")
    without_loader = parts - seconds["loader"]
    print(f"  {'':20} {'':9}     {own / without_loader:6.1%} of it without the loader")
    print(f"  {'whole step':20} {1000 * whole:9.1f} ms  {config.train.batch / whole:.1f} images per second")
    if where.type == "cuda":
        print(f"  peak memory on the device: {torch.cuda.max_memory_allocated(where) / 2**30:.2f} GiB")
    print(f"  peak memory of the process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="cpu")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--dim", type=int, default=384, help="D of the teacher: 384 for conse, 512 for CLIP ViT-B/16")
    arguments = parser.parse_args()
    measure(load_config(arguments.preset, arguments.set), arguments.device, arguments.steps, arguments.dim)
