"""What outputs cost, without the network: seconds per picture of each kind, and the memory of a folder of thousands.

    python benchmarks/outputs.py --pictures 1000

Answers are made up: smooth maps of 20 classes for photographs of 640 x 480 (kinds) and 160 x 120 (memory).
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from clips4.inference.jobs.folder import predict_folder
from clips4.inference.segmenter import Segmentation
from clips4.outputs.encode import ImagePrediction, image_facts, image_files
from clips4.outputs.render import KINDS
from clips4.utils.images import load_rgb
from clips4.utils.progress import NoProgress
from clips4.utils.tensors import resize_map

NAMES = tuple(f"class {index}" for index in range(20))


def made_up(path: Path, stem: str) -> ImagePrediction:
    """A smooth map of 20 classes, by the picture's name."""
    image = load_rgb(path)
    generator = torch.Generator().manual_seed(int(path.stem))
    size = image.shape[0] // 48, image.shape[1] // 48  # some sixty parts, as in a photograph
    z = torch.nn.functional.normalize(torch.randn(32, *size, generator=generator), dim=0)
    scores, labels = resize_map(z[None, :20], (image.shape[0], image.shape[1]))[0].max(0)
    result = Segmentation(
        image, labels.short().numpy(), scores.numpy(), NAMES, z=z, vectors=torch.eye(20, 32), owner=torch.arange(20)
    )
    return ImagePrediction(result, path, stem)


def rss() -> int:
    """Peak memory of this process in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def images(folder: Path, count: int, size: tuple[int, int]) -> list[Path]:
    """JPEG files of noise."""
    folder.mkdir()
    random = np.random.default_rng(0)
    paths = [folder / f"{index:06d}.jpg" for index in range(count)]
    for path in paths:
        coarse = Image.fromarray(random.integers(0, 256, (6, 8, 3), np.uint8))
        coarse.resize(size, Image.Resampling.BICUBIC).save(path)
    return paths


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=1000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        answers = [made_up(path, path.stem) for path in images(folder / "large", 10, (640, 480))]
        for kind in KINDS:
            start = time.perf_counter()
            sizes = [sum(map(len, image_files(each, [kind]).values())) for each in answers]
            if kind in ("coco", "panoptic"):
                for each in answers:
                    image_facts(each, [kind])
            seconds = (time.perf_counter() - start) / len(answers)
            print(f"{kind:9} {1000 * seconds:6.1f} ms a picture of 640 x 480, {np.mean(sizes) / 1024:6.0f} KiB")
        small = images(folder / "small", given.images, (160, 120))
        for count in (given.images // 10, given.images):
            for again in ("first", "repeated"):
                start = time.perf_counter()
                outcome = predict_folder(
                    small[:count], folder / "out", KINDS, NAMES, "bench", made_up, False, NoProgress()
                )
                print(
                    f"{count} pictures, {again}: {time.perf_counter() - start:.1f} s, {len(outcome.done)} done, "
                    f"{len(outcome.kept)} kept, peak {rss()} MiB, "
                    f"coco.json {(folder / 'out/coco.json').stat().st_size / 2**20:.1f} MiB"
                )


if __name__ == "__main__":
    main()
