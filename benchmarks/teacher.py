"""Cost of dense attention in CLIP, compared with the plain forward pass of its vision tower.

    python benchmarks/teacher.py                    # eager and compiled, 224, 448 and 672 pixels, ViT-B/16
    python benchmarks/teacher.py --modes eager --sizes 448 --device cuda

Weights are random, since they do not change the time. "plain" is transformers' own ``CLIPVisionModel`` on normalized
pixels with interpolated positions; a dense attention is all of ``ClipTeacher.encode_pixels``, from images in [0, 1] to
unit vectors of all patches. Each round times all variants in turn, so that other load on the machine affects all;
the figures are those of the fastest round of each. On a CPU the ratio is of CPU seconds, which other programs do not
change: use one thread (OMP_NUM_THREADS=1). Peak memory is what one call adds to the process, without the weights.
"""

import argparse
import ctypes
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from clips4.config import TeacherConfig
from clips4.models.backbones.dino_vit import SMALL, empty_vit
from clips4.models.backbones.proxy import Proxy
from clips4.models.teachers.attention.dense_attention import DENSE_ATTENTIONS
from clips4.models.teachers.clip import MEAN, STD, ClipTeacher
from clips4.models.teachers.vlm import Origin

Pass = Callable[[Tensor], Any]


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--modes", nargs="+", default=["eager", "compiled"], choices=["eager", "compiled"])
    parser.add_argument("--sizes", nargs="+", type=int, default=[224, 448, 672])
    kinds = [*DENSE_ATTENTIONS, "proxyclip", "sc-clip"]
    parser.add_argument("--dense-attention", nargs="+", default=kinds, choices=kinds)
    parser.add_argument("--pixels", type=int, default=8 * 224 * 224, help="per batch; a batch is at least one image")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="32-true", choices=["32-true", "bf16-true"])
    parser.add_argument("--json", type=Path, help="write the figures there")
    arguments = parser.parse_args()

    device = torch.device(arguments.device)
    model = vit_b_16()
    teachers = {kind: teacher(model, kind, arguments.precision).to(device) for kind in arguments.dense_attention}
    print(
        f"ViT-B/16, {arguments.precision}, {device}, {torch.get_num_threads()} threads, PyTorch {torch.__version__}\n"
    )
    print("| mode | size | batch | pass | images / s | time against plain | arithmetic | peak MiB |")
    print("|---|---:|---:|---|---:|---:|---:|---:|")
    rows = []
    for mode in arguments.modes:
        for size in arguments.sizes:
            batch = max(1, arguments.pixels // size**2)
            passes = build_passes(model, teachers, mode)
            for row in measure(passes, build_passes(model, teachers, "eager"), size, batch, arguments.rounds, device):
                rows.append({"mode": mode, "size": size, "batch": batch, **row})
                print(
                    f"| {mode} | {size} | {batch} | {row['pass']} | {batch / row['seconds']:.2f} | "
                    f"{100 * (row['ratio'] - 1):+.1f} % | {100 * (row['arithmetic'] - 1):+.1f} % | {row['mib']:.0f} |",
                    flush=True,
                )
    if arguments.json:
        arguments.json.write_text(json.dumps({"cores": os.cpu_count(), "rows": rows}, indent=2) + "\n")


def vit_b_16() -> Any:
    """A CLIPModel with the vision tower of ViT-B/16 and a small text tower that nothing here uses."""
    from transformers import CLIPConfig, CLIPModel

    vision = {"patch_size": 16, "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12}
    vision |= {"num_attention_heads": 12, "image_size": 224}
    text = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 64}
    torch.manual_seed(0)
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=512)).eval()


def teacher(model: Any, kind: str, precision: str) -> ClipTeacher:
    """A teacher with one dense attention; all share the weights of the model. Beside proxyclip's is a ViT-S/14."""
    settings = TeacherConfig.model_validate({"dense_attention": kind, "window": 0, "precision": precision})
    proxy = Proxy(empty_vit(SMALL)) if kind == "proxyclip" else None
    return ClipTeacher(model, None, settings, Origin("random", "random", MEAN, STD), proxy)


def build_passes(model: Any, teachers: dict[str, ClipTeacher], mode: str) -> dict[str, Pass]:
    """The plain pass and each dense attention, compiled if requested."""
    dtype = next(model.parameters()).dtype

    @torch.no_grad()
    def plain(images: Tensor) -> Any:
        return model.vision_model(images.to(dtype), interpolate_pos_encoding=True).last_hidden_state

    passes: dict[str, Pass] = {"plain": plain, **{name: each.encode_pixels for name, each in teachers.items()}}
    if mode == "compiled":
        torch._dynamo.reset()
        passes = {name: torch.compile(each, dynamic=False) for name, each in passes.items()}
    return passes


def measure(
    passes: dict[str, Pass], uncompiled: dict[str, Pass], size: int, batch: int, rounds: int, device: torch.device
) -> list[dict[str, Any]]:
    """Seconds of the fastest round, ratios to plain's of time and arithmetic, and peak MiB of each pass."""
    images = torch.rand(batch, 3, size, size, device=device)
    for each in passes.values():  # warm up, compile
        each(images)
    seconds: dict[str, list[float]] = {name: [] for name in passes}
    compared: dict[str, list[float]] = {name: [] for name in passes}
    names = list(passes)
    arithmetic = {name: operations(each, images) for name, each in uncompiled.items()}
    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            wall, processor = timed(passes[name], images)
            seconds[name].append(wall)
            compared[name].append(processor if device.type == "cpu" else wall)
    return [
        {
            "pass": name,
            "seconds": min(seconds[name]),
            "ratio": min(compared[name]) / min(compared["plain"]),
            "rounds": compared[name],
            "arithmetic": arithmetic[name] / arithmetic["plain"],
            "mib": peak_mib(passes[name], images),
        }
        for name in names
    ]


def timed(each: Pass, images: Tensor) -> tuple[float, float]:
    """Seconds and processor seconds of one call."""
    synchronise(images.device)
    started, busy = time.perf_counter(), time.process_time()
    each(images)
    synchronise(images.device)
    return time.perf_counter() - started, time.process_time() - busy


def operations(each: Pass, images: Tensor) -> int:
    """Floating-point operations of one call in matrix products, convolutions and attention; the same on any machine."""
    # attention as plain matrix products, since the counter does not know every fused kernel
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        each(images)
    return counter.get_total_flops()


def synchronise(device: torch.device) -> None:
    """Wait for the device's queue."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_mib(each: Pass, images: Tensor) -> float:
    """MiB that one call adds at most; on the CPU by Linux's high-water mark of the process."""
    if images.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(images.device)
        before = torch.cuda.memory_allocated(images.device)
        each(images)
        return (torch.cuda.max_memory_allocated(images.device) - before) / 2**20
    ctypes.CDLL(None).malloc_trim(0)  # give back what earlier calls freed
    Path("/proc/self/clear_refs").write_text("5")  # forget the high-water mark
    before = status_kib("VmRSS")
    each(images)
    return (status_kib("VmHWM") - before) / 2**10


def status_kib(key: str) -> int:
    """A line of /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1])


if __name__ == "__main__":
    main()
