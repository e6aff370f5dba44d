"""Small sound models and their parts, for ``benchmarks/fuzz.py`` to change."""

import base64
import io
import json
import os
import tarfile
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
from fuzz_seeds import Seeds, image_seeds

CLASSES = "cat: cat, kitten\ndog\ngrass"


@cache
def tiny_checkpoint() -> dict[str, bytes]:
    """The files of a checkpoint of a student with random weights."""
    import torch

    from clips4.config import load_config
    from clips4.data.class_names import load_classes
    from clips4.models.checkpoint import Prototypes, save_checkpoint
    from clips4.models.student import empty_student

    torch.manual_seed(0)
    config = load_config("cpu", ["student.width=16", "data.inference_side=64"])
    known, unknown = torch.nn.functional.normalize(torch.randn(2, 6, 16), dim=2)
    prototypes = Prototypes(load_classes("cat,dog,grass"), known[3:], known[:3], unknown[:2], known.half())
    with tempfile.TemporaryDirectory() as folder:
        student = empty_student(config.student, 16)
        path = save_checkpoint(Path(folder), 1, config, student, prototypes, {"step": torch.ones(1)}, 1)
        return {file.name: file.read_bytes() for file in path.iterdir()}


def card_seeds() -> Seeds:
    """The card of a checkpoint, without the digests of the files beside it."""
    card = json.loads(tiny_checkpoint()["card.json"])
    return {"card.json": json.dumps({**card, "files": {}}).encode(), "digests.json": tiny_checkpoint()["card.json"]}


def state_seeds() -> Seeds:
    """Optimizer states as runs keep them; and pickles that would run a program."""
    import pickle

    import torch

    class Code:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, ("touch fuzz-ran-code",)

    states = {"a.pt": {"optimiser": {"state": {0: torch.ones(3)}}, "failures": 0}, "code.pt": {"a": Code()}}
    seeds = {}
    for name, state in states.items():
        buffer = io.BytesIO()
        torch.save(state, buffer)
        seeds[name] = buffer.getvalue()
    return {**seeds, "raw.pt": pickle.dumps(Code()), "first.pt": pickle.dumps({"a": Code()}, protocol=0)}


def onnx_seeds() -> Seeds:
    """A graph with a student's inputs and outputs, and the card and class vectors of a checkpoint."""
    import onnx
    from safetensors.torch import load

    from clips4.models.onnx.metadata import seal, to_metadata
    from clips4.models.sliding_window import InferenceSize

    card = json.loads(tiny_checkpoint()["card.json"])
    tensors = load(next(data for name, data in tiny_checkpoint().items() if name.endswith(".safetensors")))
    prototypes = {name: value for name, value in tensors.items() if not name.startswith("student.")}
    kind, make = onnx.TensorProto.FLOAT, onnx.helper
    images = make.make_tensor_value_info("images", kind, ["batch", 3, "height", "width"])
    vectors = make.make_tensor_value_info("vectors", kind, ["classes", 16])
    z = make.make_tensor_value_info("z", kind, ["batch", 16, "h", "w"])
    weight = make.make_tensor(
        "weight", kind, [16, 3, 8, 8], np.linspace(-0.1, 0.1, 3072, dtype=np.float32).tobytes(), raw=True
    )
    nodes = [make.make_node("Conv", ["images", "weight"], ["z"], strides=[8, 8])]
    model = make.make_model(
        make.make_graph(nodes, "student", [images, vectors], [z], [weight]),
        opset_imports=[make.make_opsetid("", 17)],
        ir_version=8,
    )
    make.set_model_props(
        model, to_metadata(card, prototypes, {"stride": 8, "precision": "float32"}, InferenceSize(64), {})
    )
    return {"a.onnx": seal(model.SerializeToString())}


def folder_seeds() -> Seeds:
    """Folders of downloaded models as JSON: name -> text, "base64:..." or "link:target"."""
    import torch
    from safetensors.torch import save

    weights = f"base64:{base64.b64encode(save({'a': torch.zeros(2, 2)})).decode()}"
    text = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8, "vocab_size": 9}
    config = {
        "model_type": "clip",
        "projection_dim": 8,
        "text_config": text,
        "vision_config": {**text, "image_size": 32, "patch_size": 16},
    }
    tokenizer = {"vocab.json": json.dumps({"a": 0, "b</w>": 1}), "merges.txt": "#version: 0.2\na b</w>\n"}
    whole = {"config.json": json.dumps(config), "model.safetensors": weights, **tokenizer}
    index = json.dumps({"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}})
    shards = {"model.safetensors.index.json": index, "one.safetensors": weights, "two.safetensors": weights}
    siglip = {**whole, "config.json": json.dumps({**config, "model_type": "siglip"})}
    linked = {**whole, "model.safetensors": "link:/etc/passwd"}
    outside = {**shards, "model.safetensors.index.json": index.replace("one", "../one")}
    folders = {"whole": whole, "shards": {**whole, **shards}, "siglip": siglip, "linked": linked, "outside": outside}
    return {f"{name}.json": json.dumps(files).encode() for name, files in folders.items()}


def shard_seeds() -> Seeds:
    """A tar shard, plain and compressed; and one with members that lead elsewhere, links, and devices."""
    seeds = {}
    for name, mode in (("plain.tar", "w"), ("zipped.tar", "w:gz"), ("odd.tar", "w")):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode=mode) as tar:  # type: ignore[call-overload]
            for member, data in image_seeds().items():
                if member in ("plain.jpg", "plain.png", "lossy.webp"):
                    info = tarfile.TarInfo(member)
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
            for place, kind in enumerate((tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE)):
                if name == "odd.tar":
                    info = tarfile.TarInfo(("../out.jpg", "/etc/fuzz.jpg", "a/../../b.png", "\x1b[31m.jpg")[place])
                    info.type, info.linkname = kind, "/etc/passwd"
                    tar.addfile(info)
        seeds[name] = buffer.getvalue()
    return seeds
