"""Small sound files of every format that clips4 reads, for ``benchmarks/fuzz.py`` to change."""

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Seeds = dict[str, bytes]  # file name -> content


def _saved(image: Image.Image, kind: str, second: Image.Image | None = None, **options: object) -> bytes:
    buffer = io.BytesIO()
    if second is not None:
        options |= {"save_all": True, "append_images": [second.copy()]}
    image.copy().save(buffer, kind, **options)  # a copy: saving leaves settings in an image
    return buffer.getvalue()


def image_seeds() -> Seeds:
    """Small images of every format, mode and compression."""
    y, x = np.mgrid[:40, :56]
    rgb = Image.fromarray(np.stack([4 * x, 6 * y, (3 * x + 5 * y) % 256], -1).astype(np.uint8))
    alpha, deep = rgb.convert("RGBA"), Image.fromarray((x * 1000 + y).astype(np.uint16))
    float_, wide = Image.fromarray((x / 56).astype(np.float32)), Image.fromarray((x * y).astype(np.int32))
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x0132] = 6, "a camera", "2020:01:01 00:00:00"
    other = rgb.rotate(180)
    seeds = {
        "plain.jpg": _saved(rgb, "JPEG", exif=exif),
        "progressive.jpg": _saved(rgb, "JPEG", progressive=True),
        "cmyk.jpg": _saved(rgb.convert("CMYK"), "JPEG"),
        "gray.jpg": _saved(rgb.convert("L"), "JPEG", icc_profile=b"profile" * 30),
        "two.mpo": _saved(rgb, "MPO", second=other),
        "plain.png": _saved(rgb, "PNG", exif=exif),
        "alpha.png": _saved(alpha, "PNG"),
        "palette.png": _saved(rgb.convert("P"), "PNG", transparency=3),
        "bits.png": _saved(rgb.convert("1"), "PNG"),
        "deep.png": _saved(deep, "PNG"),
        "animated.png": _saved(rgb, "PNG", second=other),
        "lossy.webp": _saved(rgb, "WEBP", exif=exif),
        "lossless.webp": _saved(alpha, "WEBP", lossless=True),
        "animated.webp": _saved(rgb, "WEBP", second=other),
        "animated.gif": _saved(rgb, "GIF", second=other),
        "plain.bmp": _saved(rgb, "BMP"),
        "palette.bmp": _saved(rgb.convert("P"), "BMP"),
        "plain.ppm": _saved(rgb, "PPM"),
        "deep.pgm": _saved(deep, "PPM"),
        "text.ppm": b"P3\n56 40\n255\n" + b"1 22 255 " * (40 * 56),
        "narrow.pgm": b"P5 56 40 100\n" + bytes(40 * 56),
        "plain.jp2": _saved(rgb, "JPEG2000"),
        "deep.j2k": _saved(deep, "JPEG2000", no_jp2=True),
        "pages.tif": _saved(rgb, "TIFF", exif=exif, second=other),
        "deep.tif": _saved(deep, "TIFF"),
        "float.tif": _saved(float_, "TIFF", compression="tiff_deflate"),
        "wide.tif": _saved(wide, "TIFF"),
        "lab.tif": _saved(rgb.convert("LAB"), "TIFF"),
    }
    for compression in ("tiff_lzw", "jpeg", "packbits", "tiff_adobe_deflate"):
        seeds[f"{compression}.tif"] = _saved(rgb, "TIFF", compression=compression)
    seeds["group4.tif"] = _saved(rgb.convert("1"), "TIFF", compression="group4")
    if "AVIF" in Image.SAVE:
        seeds |= {"plain.avif": _saved(rgb, "AVIF", exif=exif), "animated.avif": _saved(rgb, "AVIF", second=other)}
    return seeds


def exif_seeds() -> Seeds:
    """Images of formats that hold EXIF apart from what decoding needs."""
    return {name: data for name, data in image_seeds().items() if name in ("gray.jpg", "alpha.png", "progressive.jpg")}


def mask_seeds() -> Seeds:
    """Label maps and object masks."""
    labels = (np.indices((40, 56)).sum(0) // 16).astype(np.uint8)
    gray = Image.fromarray(labels)
    palette = gray.convert("P")
    palette.putpalette(np.random.default_rng(0).integers(0, 256, 768).tolist())
    seeds = {
        "gray.png": _saved(gray, "PNG"),
        "palette.png": _saved(palette, "PNG"),
        "packed.png": _saved(palette, "PNG", bits=4),
        "bits.png": _saved(gray.point(lambda value: 255 * (value % 2)).convert("1"), "PNG"),
        "deep.png": _saved(Image.fromarray(labels.astype(np.uint16) * 1000), "PNG"),
        "deep.tif": _saved(Image.fromarray(labels.astype(np.uint16) * 300), "TIFF", compression="tiff_lzw"),
        "wide.tif": _saved(Image.fromarray(labels.astype(np.int32)), "TIFF"),
        "float.tif": _saved(Image.fromarray(labels.astype(np.float32)), "TIFF", compression="tiff_lzw"),
        "rgb.png": _saved(gray.convert("RGB"), "PNG"),
    }
    return seeds | {name: data for name, data in array_seeds().items() if name.startswith("whole")}


def array_seeds() -> Seeds:
    """Edge maps as NumPy saves them, and as PNG."""
    seeds = {"edges.png": _saved(Image.fromarray((np.indices((48, 64)).sum(0) * 2).astype(np.uint8)), "PNG")}
    arrays: dict[str, NDArray[Any]] = {
        "whole.npy": np.arange(48 * 64).reshape(48, 64) % 7,
        "whole-bytes.npy": np.zeros((48, 64), np.uint8),
        "float.npy": np.linspace(0, 1, 48 * 64, dtype=np.float32).reshape(48, 64),
        "columns.npy": np.asfortranarray(np.full((48, 64), 0.5)),
        "object.npy": np.array([[{}]], object),
    }
    for name, array in arrays.items():
        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=name == "object.npy")
        seeds[name] = buffer.getvalue()
    return seeds


def video_seeds() -> Seeds:
    """Short videos in several containers."""
    import av

    seeds = {}
    y, x = np.mgrid[:48, :64]
    for name, codec in (("a.mp4", "mpeg4"), ("b.mkv", "mpeg4"), ("c.avi", "mpeg4"), ("d.ts", "mpeg2video")):
        buffer = io.BytesIO()
        kind = {"mkv": "matroska", "ts": "mpegts"}.get(name[2:], name[2:])
        with av.open(buffer, "w", format=kind) as container:
            stream = container.add_stream(codec, rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            for number in range(5):
                frame = np.stack([4 * x, 5 * y, (x + y + 9 * number) % 256], -1).astype(np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode())
        seeds[name] = buffer.getvalue()
    return seeds


def preset_seeds() -> Seeds:
    """The presets that are shipped."""
    from clips4.config import PRESETS, preset_names

    return {f"{name}.yaml": PRESETS.joinpath(f"{name}.yaml").read_bytes() for name in preset_names()}


def class_seeds() -> Seeds:
    """Class lists with aliases, comments and other alphabets."""
    return {"a.txt": b"cat: cat, kitten\ndog\n# pets\n\nsofa\n", "b.txt": "Straße\n猫: 猫, кошка\n# é\nñandú".encode()}


def safetensors_seeds() -> Seeds:
    """Weights as runs keep them."""
    import torch
    from safetensors.torch import save

    tensors = {"head.weight": torch.zeros(4, 3), "head.bias": torch.arange(4.0), "steps": torch.tensor(3)}
    return {"a.safetensors": save(tensors, {"format": "pt"}), "b.safetensors": save({"z": torch.zeros(2).half()})}
