"""Images per second of the student, compared with a teacher: CLIP ViT-B/16 with MaskCLIP's dense attention.

    python benchmarks/inference.py                                  # two backbones, 448 pixels, torch's threads
    python benchmarks/inference.py --threads 1 --backbones efficientnet-lite0 --json figures.json

Same images, same threads, random weights (time does not depend on them). Each row is one way to encode an image of
448 x 448: the teacher's ``encode_pixels``; the student in eager PyTorch (what ``Segmenter`` uses), with
``torch.compile``, in ONNX Runtime (``backend="onnx"``), and in ONNX Runtime with int8, which is calibrated on noise, so
that only its time is meaningful. In each round every row is timed once, in turn, so that other load on the machine
affects all alike; figures are medians over rounds, ratios are medians of each round's ratio.

The last line is the cost of new class names: from class vectors to a label map of an image that is already encoded, at
the image's size.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from teacher import teacher, vit_b_16
from torch import Tensor

from clips4.config import load_config
from clips4.data.class_names import ClassList
from clips4.inference.segmenter import Segmenter
from clips4.models.checkpoint import Prototypes
from clips4.models.onnx.export import StudentWithClassifier, to_proto
from clips4.models.onnx.quantize import quantize
from clips4.models.onnx.runtime import OnnxEncoder
from clips4.models.sliding_window import InferenceSize
from clips4.models.student import empty_student

DIMENSIONS = 512  # of OpenAI's ViT-B/16
TEACHER = "ViT-B/16, MaskCLIP"
Pass = Callable[[Tensor], Any]


def main() -> None:
    """Measure and print Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbones", nargs="+", default=["efficientnet-lite0", "resnet50"])
    parser.add_argument("--side", type=int, default=448)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--without", nargs="*", default=[], choices=["compiled", "onnx", "int8"])
    parser.add_argument("--json", type=Path, help="write the figures there")
    arguments = parser.parse_args()

    torch.set_num_threads(arguments.threads)
    print(
        f"{arguments.side} pixels, one image at a time, {arguments.threads} threads of {os.cpu_count()} cores, "
        f"PyTorch {torch.__version__}, ONNX Runtime {onnxruntime.__version__}\n"
    )
    passes: dict[str, Pass] = {TEACHER: teacher(vit_b_16(), "maskclip", "32-true").encode_pixels}
    for backbone in arguments.backbones:
        passes |= variants(backbone, arguments.side, arguments.without)
    rows = measure(passes, arguments.side, arguments.rounds)
    print("| | images / s | against the teacher | against eager |\n|---|---:|---:|---:|")
    for name, row in rows.items():
        eager = f"{row['against_eager']:.2f}" if row["against_eager"] else ""
        print(f"| {name} | {1 / row['seconds']:.2f} | {row['against_teacher']:.2f} | {eager} |")
    names = predict_again()
    print(f"\nnew names for an encoded image, 640 x 480, {names['classes']} classes: {1000 * names['seconds']:.1f} ms")
    if arguments.json:
        record = {"side": arguments.side, "threads": arguments.threads, "rows": rows, "names": names}
        arguments.json.write_text(json.dumps(record, indent=2) + "\n")


def variants(backbone: str, side: int, without: list[str]) -> dict[str, Pass]:
    """One student in each runtime."""
    torch.manual_seed(0)
    student = empty_student(load_config("cpu", [f"student.backbone={backbone}"]).student, DIMENSIONS).eval()
    found: dict[str, Pass] = {f"{backbone}, eager": student}
    if "compiled" not in without:
        found[f"{backbone}, compiled"] = torch.compile(student)
    if "onnx" in without and "int8" in without:
        return found
    proto = to_proto(StudentWithClassifier(student), DIMENSIONS)
    if "onnx" not in without:
        found[f"{backbone}, ONNX Runtime"] = OnnxEncoder(session(proto), DIMENSIONS, student.stride)
    if "int8" not in without:
        with tempfile.TemporaryDirectory() as folder:
            from PIL import Image

            noise = np.random.default_rng(0).integers(0, 256, (4, side, side, 3), np.uint8)
            paths = [Path(folder) / f"{number}.png" for number in range(len(noise))]
            for path, image in zip(paths, noise, strict=True):
                Image.fromarray(image).save(path)
            small, _ = quantize(proto, paths, InferenceSize(side), any_prototypes())
        found[f"{backbone}, ONNX Runtime int8"] = OnnxEncoder(session(small), DIMENSIONS, student.stride)
    return found


def session(proto: Any) -> onnxruntime.InferenceSession:
    """As ``models.onnx.runtime.open_exported`` makes it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])


def any_prototypes() -> Prototypes:
    """Random class vectors."""
    rows = torch.nn.functional.normalize(torch.randn(4, DIMENSIONS, generator=torch.Generator().manual_seed(0)), dim=1)
    names = ("a", "b")
    return Prototypes(ClassList(names, tuple((name,) for name in names)), rows[:2], rows[:2], rows[2:])


@torch.no_grad()
def measure(passes: dict[str, Pass], side: int, rounds: int) -> dict[str, dict[str, Any]]:
    """Median seconds of each pass, and median ratios of a round."""
    images = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    for each in passes.values():  # warm up, compile
        each(images)
        each(images)
    seconds: dict[str, list[float]] = {name: [] for name in passes}
    names = list(passes)
    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            started = time.perf_counter()
            passes[name](images)
            seconds[name].append(time.perf_counter() - started)
    rows: dict[str, dict[str, Any]] = {}
    for name, own in seconds.items():
        eager = seconds.get(f"{name.partition(',')[0]}, eager")
        rows[name] = {
            "seconds": statistics.median(own),
            "rounds": own,
            "against_teacher": ratio(seconds[TEACHER], own),
            "against_eager": ratio(eager, own) if eager else None,
        }
    return rows


def ratio(slow: list[float], fast: list[float]) -> float:
    """Median over the rounds of how many times faster the second is."""
    return statistics.median(a / b for a, b in zip(slow, fast, strict=True))


def predict_again(classes: int = 20, rounds: int = 15) -> dict[str, Any]:
    """Median seconds of predicting an encoded image with other class vectors."""
    config = load_config("cpu")
    student = empty_student(config.student, DIMENSIONS).eval()
    segmenter = Segmenter(student, config.teacher, config.data.inference_side, torch.device("cpu"), any_prototypes())
    image = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    encoded = segmenter.encode_image(image)
    seconds = []
    for number in range(rounds):
        draw = torch.Generator().manual_seed(number)
        vectors = torch.nn.functional.normalize(torch.randn(classes, DIMENSIONS, generator=draw), dim=1)
        started = time.perf_counter()
        segmenter.classify(encoded, vectors)
        seconds.append(time.perf_counter() - started)
    return {"classes": classes, "seconds": statistics.median(seconds), "rounds": seconds}


if __name__ == "__main__":
    main()
