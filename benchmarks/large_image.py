"""Peak memory and time of one large image, with default inference options and with finer ones.

    python benchmarks/large_image.py --run runs/coco128 [--size 5472x3648] [--classes coco128]

Each variant runs in a process of its own, so that its peak resident memory is its own; the image is noise at every
scale, decoded from a JPEG file. Memory counts everything from the start of Python; time is that of decoding, encoding
and predicting at the image's size.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

VARIANTS: dict[str, dict[str, object]] = {
    "whole": {},
    "pamr": {"refine": "pamr"},
    "regions": {"refine": "regions"},
    "scale 4, windows of 320": {"scales": (4.0,), "window": 320},
    "scales 1 and 4, mirrored, windows of 320": {"scales": (1.0, 4.0), "window": 320, "flip": True},
    "its own size, windows of 1024": {"scales": (17.1,), "window": 1024},
}


def photograph(width: int, height: int) -> Image.Image:
    """Noise at every scale, as photographs have."""
    draw = np.random.default_rng(0)
    total = np.zeros((height, width, 3), np.float32)
    for level in range(2, 10):
        coarse = Image.fromarray(draw.integers(0, 256, (2**level, 2**level, 3), np.uint8))
        total += np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.float32) / 2 ** (level - 2)
    return Image.fromarray((255 * total / total.max()).astype(np.uint8))


def measure(arguments: argparse.Namespace) -> None:
    """One variant, in this process; prints JSON."""
    import torch

    from clips4.inference.encoding.tta import InferenceOptions
    from clips4.inference.segmenter import Segmenter

    torch.set_num_threads(arguments.threads)
    options = InferenceOptions(**VARIANTS[arguments.variant])  # type: ignore[arg-type]
    segmenter = Segmenter.load(arguments.run, "cpu", options=options)
    began = time.perf_counter()
    result = segmenter.segment(arguments.image, arguments.classes)
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # KiB on Linux
    print(json.dumps({"seconds": round(seconds, 1), "peak_gib": round(peak, 2), "size": result.labels.shape}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True)
    parser.add_argument("--size", default="5472x3648", help="WIDTHxHEIGHT")
    parser.add_argument("--classes", default=None, help="the run's own by default")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", default=None, help="one of the variants")
    parser.add_argument("--variant", help=argparse.SUPPRESS)
    parser.add_argument("--image", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.variant:
        measure(arguments)
        return
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / "large.jpg"
        width, height = map(int, arguments.size.split("x"))
        photograph(width, height).save(image, quality=92)
        print(f"{width} x {height}, {image.stat().st_size / 2**20:.1f} MiB on disk")
        for variant in [arguments.only] if arguments.only else VARIANTS:
            command = [sys.executable, __file__, *sys.argv[1:], "--variant", variant, "--image", str(image)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found = json.loads(done.stdout.splitlines()[-1])
            print(f"{variant:45} {found['seconds']:8.1f} s   peak {found['peak_gib']:.2f} GiB", flush=True)


if __name__ == "__main__":
    main()
