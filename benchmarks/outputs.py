"""Cost of the output formats, without a network: time per image of each kind, and memory for a folder of thousands.

    python benchmarks/outputs.py --images 1000

Predictions are synthetic: smooth maps of 20 classes for photographs of 640 x 480 (kinds) and 160 x 120 (memory).
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path
from typing import cast

import numpy as np
import torch
from PIL import Image

from clips4.inference.classifier import Query
from clips4.inference.encoding.encoder import EncodedImage
from clips4.inference.jobs.segment import segment_images
from clips4.inference.result import Segmentation
from clips4.inference.segmenter import Segmenter
from clips4.outputs.encode import KINDS, image_facts, image_files
from clips4.utils.images import load_rgb
from clips4.utils.output_folder.output import Output, plan
from clips4.utils.progress import NoProgress
from clips4.utils.tensors import resize_map

NAMES = tuple(f"class {index}" for index in range(20))


QUERY = Query.one_per_class(torch.eye(20, 32), NAMES)


class RandomSegmenter:
    """Predicts a smooth map of 20 classes, by the image's name."""

    def encode_image(self, path: Path) -> EncodedImage:
        """An image and random embeddings."""
        image = load_rgb(path)
        generator = torch.Generator().manual_seed(int(path.stem))
        size = image.shape[0] // 48, image.shape[1] // 48  # about sixty segments, as in a photograph
        return EncodedImage(
            image, torch.nn.functional.normalize(torch.randn(32, *size, generator=generator), dim=0), None
        )

    def predict(self, encoded: EncodedImage, query: Query, unknown: bool) -> Segmentation:
        """The largest of the first 20 dimensions of each pixel."""
        scores, labels = resize_map(encoded.z[None, :20], encoded.image.shape[:2])[0].max(0)
        return Segmentation(
            encoded.image,
            labels.short().numpy(),
            scores.numpy(),
            NAMES,
            z=encoded.z,
            vectors=query.vectors,
            owner=query.owner,
        )


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
    parser.add_argument("--images", type=int, default=1000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        paths, segmenter = images(folder / "large", 10, (640, 480)), RandomSegmenter()
        results = [segmenter.predict(segmenter.encode_image(path), QUERY, True) for path in paths]
        for kind in KINDS:
            start = time.perf_counter()
            for path, result in zip(paths, results, strict=True):
                embeddings = result.embeddings() if kind == "npz" else None
                sizes = [len(each) for each in image_files(result, path, path.stem, [kind], embeddings).values()]
                if kind in ("coco", "panoptic"):
                    image_facts(result, [kind])
            seconds = (time.perf_counter() - start) / len(results)
            print(f"{kind:9} {1000 * seconds:6.1f} ms per image of 640 x 480, {sum(sizes) / 1024:6.0f} KiB")
        small = images(folder / "small", given.images, (160, 120))
        for count in (given.images // 10, given.images):
            for again in ("first", "repeated"):
                start = time.perf_counter()
                output = Output(folder / "out", "segment", KINDS, "bench")
                items = plan(output, small[:count], small[:1])
                outcome = segment_images(cast(Segmenter, segmenter), QUERY, items, output, True, NoProgress())
                print(
                    f"{count} images, {again}: {time.perf_counter() - start:.1f} s, {len(outcome.done)} done, "
                    f"{len(outcome.kept)} kept, peak {rss()} MiB, "
                    f"coco.json {(folder / 'out/coco.json').stat().st_size / 2**20:.1f} MiB"
                )


if __name__ == "__main__":
    main()
