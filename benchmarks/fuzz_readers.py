"""What reads each kind of file in ``benchmarks/fuzz.py``; each raises nothing but a typed error."""

import base64
import json
import shutil
from pathlib import Path

from fuzz_model_seeds import tiny_checkpoint


def read_image(path: Path) -> None:
    """An image, and its position on the ground."""
    from clips4.outputs.geotiff import place_of
    from clips4.utils.image_file import image_size
    from clips4.utils.images import load_rgb

    image = load_rgb(path)
    width, height = image_size(path, str(path))
    assert image.shape == (height, width, 3), (image.shape, width, height)
    place_of(path)


def read_whole_image(path: Path) -> None:
    """An image whose pixels are sound; it must not be refused."""
    from clips4.errors import UserError

    try:
        read_image(path)
    except UserError as error:
        raise AssertionError(f"refused: {error}") from error


def read_label_map(path: Path) -> None:
    """A label map, and an object mask."""
    from clips4.data.label_maps import read_stored
    from clips4.data.masks import read_mask

    read_mask(path, "davis17")
    read_stored(path)


def read_edges(path: Path) -> None:
    """An edge map."""
    from clips4.regions.contours import read_edge_map

    read_edge_map(path, (48, 64))


def read_video(path: Path) -> None:
    """All frames of a video."""
    from clips4.utils.video import open_frames

    for _ in open_frames(path):
        pass


def read_preset(path: Path) -> None:
    """A configuration."""
    from clips4.config import load_config

    load_config(path)


def read_classes(path: Path) -> None:
    """A class list."""
    from clips4.data.class_names import load_classes

    load_classes(path)


def read_samples(path: Path) -> None:
    """A shard, each image decoded; as many are counted as are read."""
    from clips4.data.image_source import ImageShards
    from clips4.data.shards.samples import count_images, read_shard

    for _ in ImageShards([str(path)]).iterate(64, 0, 1):
        pass
    read, counted = sum(1 for _ in read_shard(str(path))), count_images(str(path))
    assert read == counted, (read, counted)


def read_tensors(path: Path) -> None:
    """A file of weights."""
    from clips4.models.pretrained import read_weights

    read_weights(path)


def read_state(path: Path) -> None:
    """What resuming reads: tensors and plain values."""
    from clips4.utils.tensors import read_pickled_tensors

    read_pickled_tensors(path)


def read_card(path: Path) -> None:
    """A checkpoint with this card: loaded, and used on a small image."""
    run = path.with_name(f"{path.name}-run")
    folder = run / "checkpoints" / "step-00000001"
    folder.mkdir(parents=True)
    try:
        for name, data in tiny_checkpoint().items():
            (folder / name).write_bytes(path.read_bytes() if name == "card.json" else data)
        _use(run)
    finally:
        shutil.rmtree(run)


def read_onnx(path: Path) -> None:
    """An exported student: loaded, and used on a small image."""
    _use(path)


def _use(run: Path) -> None:
    import numpy as np

    from clips4 import Segmenter

    Segmenter.load(run, "cpu", use="student").segment(np.full((48, 64, 3), 90, np.uint8))


def read_folder(path: Path) -> None:
    """A teacher's folder, as JSON describes it: see ``fuzz_model_seeds.folder_seeds``."""
    from clips4.config import TeacherConfig
    from clips4.errors import UserError
    from clips4.models.teachers.base import load_teacher

    try:
        files = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return  # no folder that could be made
    folder = path.with_name(f"{path.name}-model")
    folder.mkdir()
    try:
        for name, content in files.items() if isinstance(files, dict) else ():
            if "/" in name or "\0" in name or not name.strip(".") or len(name) > 200:
                continue
            text = content if isinstance(content, str) else json.dumps(content)
            if text.startswith("link:"):
                (folder / name).symlink_to(text.removeprefix("link:").replace("\0", "0") or "x")
            elif text.startswith("base64:"):
                (folder / name).write_bytes(base64.b64decode(text.removeprefix("base64:")))
            else:
                (folder / name).write_text(text, "utf-8", "surrogatepass")
        load_teacher(TeacherConfig(name=str(folder)))
    except UserError as error:
        if folder.name not in str(error):
            raise AssertionError(f"does not name the folder: {error}") from error
        raise UserError(f"{path.name}: {error}")
    finally:
        shutil.rmtree(folder)
