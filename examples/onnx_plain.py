"""Segment an image with an exported student, by ONNX Runtime, NumPy and Pillow alone; clips4 is not needed.

    python examples/onnx_plain.py pets.onnx photo.jpg labels.png
    python examples/onnx_plain.py pets.onnx photo.jpg labels.png --classes "zebra,grass"

The second form has names that the run was not trained with. It needs the package tokenizers, and the text encoder
beside the student: pets-text.onnx and pets-tokenizer.json, which clips4.models.onnx.text_encoder writes.

Labels are indices of the classes, 255 is unknown. They are those of `clips4 segment`, except for a few pixels where two
classes are equally near: ONNX Runtime and PyTorch round differently.
"""

import argparse
import base64
import json
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def load(path):
    """The session, the rules and the vectors (name -> array) of an exported student."""
    session = onnxruntime.InferenceSession(path)
    metadata = session.get_modelmeta().custom_metadata_map
    vectors = {}
    for name, facts in json.loads(metadata["clips4.vectors"]).items():
        if "base64" in facts:
            values = np.frombuffer(base64.b64decode(facts["base64"]), np.dtype(facts["dtype"]).newbyteorder("<"))
        else:
            values = np.array(facts["values"])
        vectors[name] = values.reshape(facts["shape"]).astype(np.float32)
    return session, json.loads(metadata["clips4.rules"]), vectors


def resized(image, rule):
    """An image (H, W, 3) uint8 -> (1, 3, h, w) float32 in [0, 1] at the size at which the student encodes it."""
    height, width = image.shape[:2]
    long, short = max(height, width), min(height, width)
    side = rule["long_side"]
    if rule["short_side"]:
        side = max(side, min(round(rule["short_side"] * long / short), round(side * rule["widest"])))
    if side < long:
        size = max(1, round(width * (side / long))), max(1, round(height * (side / long)))
        image = np.array(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
    pixels = image.transpose(2, 0, 1).astype(np.float32) / 255
    small = min(pixels.shape[1:])
    if small < rule["min_side"]:
        size = [max(rule["min_side"], round(length * rule["min_side"] / small)) for length in pixels.shape[1:]]
        limit = max(min(long, side), side)
        pixels = upsampled(pixels, (min(size[0], limit), min(size[1], limit)))
    return pixels[None]


def upsampled(maps, size):
    """(C, h, w) -> (C, H, W), bilinear, sampled at the centers of pixels."""
    for axis, length in ((1, size[0]), (2, size[1])):
        have = maps.shape[axis]
        at = np.clip((np.arange(length, dtype=np.float32) + 0.5) * np.float32(have / length) - 0.5, 0, have - 1)
        low = np.floor(at).astype(int)
        high = np.minimum(low + 1, have - 1)
        weight = (at - low).reshape([-1 if each == axis else 1 for each in range(3)]).astype(np.float32)
        maps = maps.take(low, axis) * (1 - weight) + maps.take(high, axis) * weight
    return maps


def unit(rows):
    """Rows of length 1; a row of zeros stays."""
    return rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)


def text_vectors(path, names, rules, vectors):
    """(K, D) text vectors of names: each in every template, without the space's offset, averaged."""
    from tokenizers import Tokenizer

    path = Path(path)
    tokenizer = Tokenizer.from_file(str(path.with_name(f"{path.stem}-tokenizer.json")))
    tokenizer.enable_truncation(256)
    tokenizer.enable_padding()
    encoder = onnxruntime.InferenceSession(path.with_name(f"{path.stem}-text.onnx"))
    templates, offset = rules["new_names"]["templates"], rules["new_names"]["text_offset"]
    rows = []
    for name in names:
        tokens = tokenizer.encode_batch([template.replace("{}", name) for template in templates])
        given = {
            "input_ids": np.array([each.ids for each in tokens], np.int64),
            "attention_mask": np.array([each.attention_mask for each in tokens], np.int64),
        }
        found = encoder.run(["text"], given)[0]
        if offset is not None:
            found = unit(found - vectors[offset])
            found[np.abs(found) <= 1e-5 * np.abs(found).max()] = 0  # rounding, where names have no dimension
        rows.append(unit(found).mean(0))
    return unit(np.stack(rows))


def new_rows(text, rules, vectors):
    """(K, 1, D) rows of new names: the mean of the segments of the run's bank that are nearest to their text vectors.

    (K, n, D) the segments themselves, where each class has several rows.
    """
    rule = rules["new_names"]
    if rule["bank"] is None:
        return text[:, None]
    used = (text != 0).any(0)  # a dimension that no name has holds the teacher's confidence
    bank, averaged = (unit(vectors[name] * used) for name in (rule["bank"], rule["averaged"]))
    nearest = np.argsort(-(text @ bank.T), axis=1, kind="stable")[:, : rule["nearest"]]
    found = averaged[nearest] if "rows_per_class" in rules else averaged[nearest].sum(1, keepdims=True)
    rows = unit(found)
    return unit(rows + rule["text_prior"] * text[:, None]) if rule["text_prior"] else rows


def class_rows(path, names, rules, vectors):
    """(L, D) rows, prototypes of classes of the run and rows found by text for the others; (L,) the class of each."""
    tensor, first, end = rules["known"]
    known = vectors[tensor][first:end].reshape(len(rules["classes"]), rules.get("rows_per_class", 1), -1)
    own = dict(zip(rules["classes"], known, strict=True))
    new = [name for name in names if name not in own]
    if new:
        own |= dict(zip(new, new_rows(text_vectors(path, new, rules, vectors), rules, vectors), strict=True))
    by_text = rules["new_names"]["bank"] is None and len(new) == len(names)
    owner = np.repeat(np.arange(len(names)), [len(own[name]) for name in names])
    return np.concatenate([own[name] for name in names]), owner, by_text


def best_of_class(scores, owner):
    """Scores (L, ...) of rows -> (K, ...) that of the best row of each class."""
    return np.stack([scores[owner == label].max(0) for label in range(owner.max() + 1)])


def segment(path, image, names=None):
    """Labels (H, W) of an image (H, W, 3) uint8: indices of the names, -1 for unknown."""
    session, rules, vectors = load(path)
    rows, owner, by_text = class_rows(path, names or rules["classes"], rules, vectors)
    tensor, first, end = rules["unknown"]
    unknown = vectors[tensor][first:end]
    given = {"images": resized(image, rules["image"]), "vectors": np.concatenate([rows, unknown])}
    cosines = session.run(["cosines"], given)[0][0]  # (K + U, h, w)
    context, count = rules["context"], len(rows)
    tau = context["text_temperature" if by_text else "pixel_temperature"]
    scaled = best_of_class(cosines[:count].reshape(count, -1).astype(np.float64) / tau, owner)
    shares = np.exp(scaled - scaled.max(0))
    shares /= shares.sum(0)
    # classes that are likely somewhere in the image become likelier everywhere
    bias = context["weight"] * tau * np.log(np.maximum(shares.mean(1), 1e-300))
    large = upsampled(cosines, image.shape[:2])
    labels = owner[(large[:count] + bias.astype(np.float32)[owner, None, None]).argmax(0)]
    if len(unknown):
        labels[large[count:].max(0) > large[:count].max(0) + rules["unknown_margin"]] = -1
    return labels


def main():
    """Segment the image that the command line names, write its labels and print shares."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", help="the file that clips4 export wrote")
    parser.add_argument("image")
    parser.add_argument("out", help="a PNG of labels")
    parser.add_argument("--classes", help="names parted by commas; those of the run by default")
    given = parser.parse_args()
    image = np.array(ImageOps.exif_transpose(Image.open(given.image)).convert("RGB"))
    names = [name.strip() for name in given.classes.split(",")] if given.classes else None
    labels = segment(given.model, image, names)
    Image.fromarray((labels % 256).astype(np.uint8)).save(given.out)
    known = names or load(given.model)[1]["classes"]
    for label in np.unique(labels):
        share = (labels == label).mean()
        print(f"{'unknown' if label < 0 else known[label]}: {share:.1%}")


if __name__ == "__main__":
    main()
