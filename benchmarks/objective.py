"""k-means and L_t against versions that build the full matrices, and the memory that the objective needs.

    python benchmarks/objective.py                       (both parts, two minutes)

Speed: 8 views of 64 x 64, 128 dimensions, 36 clusters, 10 iterations, 48 regions per image; k-means, and L_t with its
gradient, alternating with tests/reference/full_matrices.py in one process. Memory: the whole objective with its
gradient on 16 views of 128 x 128 in 512 dimensions, all pixels in L_t, in its own process: the peak beyond what the
process held before.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from clips4.config import ObjectiveConfig, SegmentConfig
from clips4.method.losses.contrastive import pixel_segment_contrast
from clips4.method.objective import objective
from clips4.method.segments import cut_by_regions, flatten_pixels, pool, spherical_kmeans

sys.path.insert(0, str(Path(__file__).parent.parent))
from tests.reference import full_matrices

KAPPA = 10.0


def make_batch(views: int, side: int, dimensions: int, regions: int) -> tuple[Tensor, Tensor]:
    """Smooth unit embeddings (V, D, h, w), channels last as a student gives them, and (V, h, w) regions; two views
    share an image's."""
    draw = torch.Generator().manual_seed(0)
    coarse = torch.randn(views, dimensions, 8, 8, generator=draw)
    z = F.interpolate(coarse, (side, side), mode="bilinear")
    z = F.normalize(z + 0.1 * torch.randn(z.shape, generator=draw), dim=1).contiguous(memory_format=torch.channels_last)
    rows = next(n for n in range(int(regions**0.5), 0, -1) if regions % n == 0)
    y = (torch.arange(side) * rows // side)[:, None]
    x = (torch.arange(side) * (regions // rows) // side)[None]
    grid = y * (regions // rows) + x
    return z, torch.stack([grid + view // 2 * regions for view in range(views)])


def seconds(work: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The least time of each, taking turns."""
    for call in work.values():
        call()
    best = dict.fromkeys(work, float("inf"))
    for _ in range(rounds):
        for name, call in work.items():
            started = time.perf_counter()
            call()
            best[name] = min(best[name], time.perf_counter() - started)
    return best


def speed(rounds: int) -> None:
    """Print k-means and L_t with gradient compared with the full matrices."""
    z, regions = make_batch(8, 64, 128, 48)
    segments = cut_by_regions(spherical_kmeans(z, 36, 10, 0.5), regions)
    labels, region = segments.labels.flatten(), regions.flatten()
    count = len(segments.region)
    same = (spherical_kmeans(z, 36, 10, 0.5) == full_matrices.spherical_kmeans(z, 6, 6, 10, 0.5)).float().mean()
    print(f"{len(labels)} pixels, {count} segments, {torch.get_num_threads()} threads; same k-means labels: {same:.4%}")

    def contrast(loss: Callable[..., Tensor], drawn: Tensor | None = None) -> Tensor:
        leaf = z.detach().requires_grad_()
        pixels = flatten_pixels(leaf)
        v = pool(pixels, labels, count)
        chosen = slice(None) if drawn is None else drawn
        value = loss(pixels[chosen], region[chosen], labels[chosen], v, segments.region, KAPPA)
        value.backward()
        assert leaf.grad is not None
        return leaf.grad

    ours, theirs = contrast(pixel_segment_contrast), contrast(full_matrices.pixel_segment_contrast)
    print(f"largest difference of gradients, relative: {float((ours - theirs).norm() / theirs.norm()):.1e}")
    drawn = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))[:4096]
    times = seconds(
        {
            "k-means": lambda: spherical_kmeans(z, 36, 10, 0.5),
            "k-means, full": lambda: full_matrices.spherical_kmeans(z, 6, 6, 10, 0.5),
            "L_t, every pixel": lambda: contrast(pixel_segment_contrast),
            "L_t, 4096 pixels": lambda: contrast(pixel_segment_contrast, drawn),
            "L_t, full": lambda: contrast(full_matrices.pixel_segment_contrast),
        },
        rounds,
    )
    for name, value in times.items():
        print(f"{name:18} {1000 * value:8.1f} ms")
    full = times["k-means, full"] + times["L_t, full"]
    for name in ("L_t, every pixel", "L_t, 4096 pixels"):
        print(f"k-means and {name}: {full / (times['k-means'] + times[name]):.1f} times as fast as the full matrices")


def peak_memory(chunk_mib: int) -> None:
    """In a fresh process: the objective with gradient, and what it took beyond its inputs and outputs."""
    z, regions = make_batch(16, 128, 512, 48)
    pixel_map, _ = make_batch(16, 128, 512, 48)
    prototypes = F.normalize(torch.randn(112, 512), dim=1)
    z.requires_grad_()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    held = Path("/proc/self/statm").read_text().split()[1]
    settings = ObjectiveConfig(contrast_pixels=0, chunk_mib=chunk_mib)
    terms = objective(z, regions, pixel_map, prototypes, settings, SegmentConfig(clusters=36), text=prototypes[:92])
    terms.total.backward()
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    page = resource.getpagesize()
    print(
        json.dumps(
            {"segments": len(terms.guidance), "held": int(held) * page, "before": 1024 * before, "peak": 1024 * after}
        )
    )


def memory() -> None:
    """Print the peak for some budgets."""
    for chunk_mib in (16, 64, 256):
        command = [sys.executable, __file__, "--peak", str(chunk_mib)]
        figures = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        beyond = (figures["peak"] - figures["held"]) / 2**30
        inputs = 2 * 16 * 128 * 128 * 512 * 4 / 2**30
        print(
            f"chunk_mib {chunk_mib:4}: peak {figures['peak'] / 2**30:.2f} GiB, {beyond:.2f} beyond the process with "
            f"its inputs, {beyond + inputs:.2f} with z and the teacher's map ({figures['segments']} segments)"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--peak", type=int, default=0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peak:
        peak_memory(arguments.peak)
    else:
        speed(arguments.rounds)
        memory()
