"""How ``benchmarks/fuzz.py`` changes a sound file: each function takes a seed, another seed and a source of chance."""

import json
import re
import struct
import zlib
from copy import deepcopy
from typing import Any

import numpy as np

Draw = np.random.Generator
_NUMBERS = (0, 1, 2, 3, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 2**24, 2**31 - 1, 2**31, 2**32 - 1)
_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 10**30, 1e308, float("inf"), float("nan"), "", "x", "\0", "\x1b[31m"),
    *("a\nb", "<b>", "../../x", "/etc/passwd", [], {}, [1], {"a": 1}, [[[]]], "9" * 5000, "\ud800", "x" * 10**5),
)
_SCALARS = (
    *("on", "1_000", ".inf", "-.inf", ".nan", "1e999", "!!int x", "!!bool x", "&a [*a]", "[" * 30, "2020-99-99"),
    *('"\\0"', "'x", "{a: b}", "010", "0x_", "1:30", "!!python/name:os.system", "~", "- 1", "|", "true", "9" * 5000),
    *('!!python/object/apply:os.system ["touch fuzz-ran-code"]', "*none", "<<: 1", '"\\e[31m"', "!!binary x", "\t"),
)


def mutate(data: bytes, other: bytes, draw: Draw) -> bytes:
    """One to eight changes; ``other`` gives foreign blocks."""
    changed = bytearray(data)
    for _ in range(int(draw.integers(1, 9))):
        size = len(changed)
        if size < 2:
            break
        # half of all changes within the first 128 bytes, where headers are
        at = int(draw.integers(0, min(size, 128) if draw.random() < 0.5 else size))
        length = int(draw.integers(1, min(size - at, 64) + 1))
        choice = int(draw.integers(0, 10))
        if choice <= 2:
            changed[at] ^= 1 << int(draw.integers(0, 8))
        elif choice == 3:
            changed[at] = int(draw.integers(0, 256))
        elif choice <= 5:
            width = int(draw.choice([1, 2, 4]))
            number = int(draw.choice(_NUMBERS)) % 2 ** (8 * width)
            changed[at : at + width] = number.to_bytes(width, "big" if draw.random() < 0.5 else "little")
        elif choice == 6:
            del changed[at : at + length]
        elif choice == 7:
            changed[at:at] = changed[at : at + length] * int(draw.integers(1, 20))
        elif choice == 8:
            start = int(draw.integers(0, max(len(other) - length, 0) + 1))
            changed[at : at + length] = other[start : start + length]
        elif draw.random() < 0.3:
            del changed[at:]
    return with_checksums(bytes(changed)) if draw.random() < 0.8 else bytes(changed)


def with_checksums(data: bytes) -> bytes:
    """A PNG with the checksums that fit its chunks, so that changes reach the decoder; other data as it is."""
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return data
    at, parts = 8, [data[:8]]
    while at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        if end + 4 > len(data):
            break
        parts += [data[at:end], zlib.crc32(data[at + 4 : end]).to_bytes(4, "big")]
        at = end + 4
    return b"".join([*parts, data[at:]])


# ------------------------------------------------------------------------------------------------ sizes and EXIF

_SIZES = (  # what precedes a width and a height, how far behind its beginning they stand, and how they are written
    (b"IHDR", 4, ">II"),
    (b"ihdr", 4, ">II"),
    (b"ispe", 8, ">II"),
    (b"\xff\xc0", 5, ">HH"),
    (b"\xff\xc2", 5, ">HH"),
    (b"\xff\x51", 6, ">II"),
    (b"BM", 18, "<II"),
    (b"GIF8", 6, "<HH"),
    (b"VP8X", 12, "<HH"),
    (b"\x9d\x01\x2a", 3, "<HH"),
    (b"\x00\x01\x04\x00\x01\x00\x00\x00", 8, "<I"),
    (b"\x01\x01\x04\x00\x01\x00\x00\x00", 8, "<I"),
)


def enlarge(data: bytes, other: bytes, draw: Draw) -> bytes:
    """A header that claims another size; or a PNG that really has it, some kilobytes of zeros."""
    width, height = (int(2 ** draw.uniform(4, 32)) for _ in range(2))
    if draw.random() < 0.3:
        bits, color = ((1, 0), (8, 2), (16, 0), (16, 6))[draw.integers(4)]
        return png_of_zeros(width % (40_000 // bits) + 1, height % 8000 + 1, bits, color)
    changed = bytearray(data)
    for before, offset, layout in _SIZES:
        for found in re.finditer(re.escape(before), data):
            at, size = found.start() + offset, struct.calcsize(layout)
            if at + size <= len(changed):
                limit = 2 ** (32 if "I" in layout else 16)
                changed[at : at + size] = struct.pack(
                    layout, *(side % limit for side in (width, height)[: len(layout) - 1])
                )
    text = re.sub(rb"^(P[1-6]\s)(\d+ \d+)", b"\\g<1>%d %d" % (width, height), bytes(changed))
    return with_checksums(text)


def png_of_zeros(width: int, height: int, bits: int, color: int) -> bytes:
    """A sound PNG that is black everywhere."""
    row = (width * bits * {0: 1, 2: 3, 6: 4}[color] + 7) // 8 + 1
    packer = zlib.compressobj(9)
    body = b"".join(packer.compress(bytes(row)) for _ in range(height)) + packer.flush()
    parts = ((b"IHDR", struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)), (b"IDAT", body), (b"IEND", b""))
    chunks = (len(part).to_bytes(4, "big") + name + part + bytes(4) for name, part in parts)
    return with_checksums(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


def with_exif(data: bytes, other: bytes, draw: Draw) -> bytes:
    """Whole pixels with EXIF tags of any type, count and value."""
    tags = (0x0112, 0x0100, 0x0101, 0x0103, 0x010F, 0x0132, 0x011A, 0x0201, 0x8769, 0x8825, 0xA005, 0x0111, 0x0117)
    order, mark = (("<", b"II*\0"), (">", b"MM\0*"))[draw.integers(2)]
    entries = []
    for _ in range(int(draw.integers(0, 9))):
        tag, kind = int(draw.choice(tags)), int(draw.integers(0, 20))
        count = int(draw.choice([0, 1, 1, 1, 2, 8, 65535, 2**31, 2**32 - 1]))
        entries.append(struct.pack(f"{order}HHII", tag, kind, count, int(draw.choice(_NUMBERS))))
    if draw.random() < 0.5:
        entries.append(struct.pack(f"{order}HHIHH", 0x0112, 3, 1, int(draw.integers(0, 10)), 0))
    block = mark + struct.pack(f"{order}I", 8) + struct.pack(f"{order}H", len(entries)) + b"".join(entries)
    block += struct.pack(f"{order}I", int(draw.choice([0, 0, 0, 8, 2**31]))) + draw.bytes(int(draw.integers(0, 40)))
    if draw.random() < 0.2:
        block = block[: int(draw.integers(0, len(block)))]
    if data.startswith(b"\xff\xd8"):
        part = b"Exif\0\0" + block
        return data[:2] + b"\xff\xe1" + (len(part) + 2).to_bytes(2, "big") + part + data[2:]
    end = data.index(b"IHDR") + 4 + 13 + 4
    return with_checksums(data[:end] + len(block).to_bytes(4, "big") + b"eXIf" + block + bytes(4) + data[end:])


# ---------------------------------------------------------------------------------------------------- documents


def change_json(data: bytes, other: bytes, draw: Draw) -> bytes:
    """A few values of a JSON document replaced or removed; now and then its bytes changed."""
    if draw.random() < 0.1:
        return mutate(data, other, draw)
    document = json.loads(data)
    for _ in range(int(draw.choice([1, 1, 1, 2, 4]))):
        holder, key = _any_place(document, draw)
        if holder is None:
            break
        if draw.random() < 0.15 and isinstance(holder, dict):
            del holder[key]
        else:
            holder[key] = deepcopy(_VALUES[draw.integers(len(_VALUES))])
    return json.dumps(document).encode()


def _any_place(document: Any, draw: Draw) -> tuple[Any, Any]:
    """A dictionary or list somewhere in a document, and one of its keys."""
    places = []
    todo = [document]
    while todo:
        holder = todo.pop()
        keys = list(holder) if isinstance(holder, dict) else list(range(min(len(holder), 3)))
        places += [(holder, key) for key in keys]
        todo += [holder[key] for key in keys if isinstance(holder[key], (dict, list))]
    return places[draw.integers(len(places))] if places else (None, None)


def change_yaml(data: bytes, other: bytes, draw: Draw) -> bytes:
    """A value of a configuration replaced by an odd one, or bytes changed."""
    if draw.random() < 0.5:
        return mutate(data, other, draw)
    lines = data.decode().split("\n")
    at = int(draw.integers(len(lines)))
    lines[at] = f"{lines[at].partition(':')[0]}: {_SCALARS[draw.integers(len(_SCALARS))]}"
    return "\n".join(lines).encode()


def change_onnx(data: bytes, other: bytes, draw: Draw) -> bytes:
    """Bytes of the graph changed before its digest is made anew, or after; values of its card; data in other files."""
    import onnx

    from clips4.models.onnx.metadata import seal

    choice = int(draw.integers(0, 4))
    if choice == 0:
        return mutate(data, other, draw)
    graph = data[: -len(seal(b""))]
    if choice == 1:
        return seal(mutate(graph, other, draw))
    model = onnx.load_model_from_string(graph)
    if choice == 2:
        entry = model.metadata_props[draw.integers(len(model.metadata_props))]
        changed = change_json(entry.value.encode(), b"", draw) if entry.value.startswith("{") else b"x"
        entry.value = changed.decode("utf-8", "replace")
    else:
        tensor = model.graph.initializer[draw.integers(len(model.graph.initializer))]
        onnx.external_data_helper.set_external_data(tensor, ("x", "../x", "/etc/passwd")[draw.integers(3)])
    return seal(model.SerializeToString())
