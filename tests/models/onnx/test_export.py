"""Export to ONNX: against torch on sizes and with words that the export never saw, and as a backend of Segmenter."""

import base64
import json
import pickle
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save

from clips4.errors import UserError
from clips4.inference.segmenter import Segmenter
from clips4.models.backbones.dino_vit import IMAGENET_MEAN, IMAGENET_STD, DinoViT
from clips4.models.backbones.resnet import ResNet50
from clips4.models.checkpoint import load_checkpoint
from clips4.models.onnx.export import TOLERANCE, StudentWithClassifier, export_onnx, to_proto
from clips4.models.onnx.metadata import open_exported, seal
from clips4.models.onnx.rules import vectors_from_json
from clips4.models.onnx.runtime import load_onnx
from clips4.models.student import Embedder
from tests.helpers import generator, photograph
from tests.models.backbones.test_dino_vit import make_model

DIMENSIONS = 12


@pytest.fixture(scope="module")
def exported(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny run as an ONNX file; read only."""
    out = tmp_path_factory.mktemp("exported") / "tiny.onnx"
    export_onnx(load_checkpoint(tiny_run), out)
    return out


def small_vit() -> Embedder:
    backbone = DinoViT(make_model("dinov2", num_hidden_layers=4), IMAGENET_MEAN, IMAGENET_STD)
    return Embedder(backbone, DIMENSIONS, width=16).eval()


def small_resnet() -> Embedder:
    """ResNet-50 with one block per stage instead of 3, 4, 6, 3: nothing else is in the others."""

    class Short(ResNet50):
        blocks = (1, 1, 1, 1)

    return Embedder(Short(8), DIMENSIONS, stride=4, width=16).eval()


@pytest.fixture
def again(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny run's graph is not made anew, which takes seconds, but taken from the file."""

    def take(model: StudentWithClassifier, embed_dim: int) -> Any:
        proto = onnx.load(exported)
        del proto.metadata_props[:]
        return proto

    monkeypatch.setattr("clips4.models.onnx.export.to_proto", take)


def test_graph_of_a_run_is_torch_on_any_size_and_with_any_names(exported: Path, tiny_run: Path) -> None:
    same_everywhere(load_checkpoint(tiny_run).student, open_exported(exported).session)


@pytest.mark.parametrize("make", [small_resnet, small_vit], ids=["resnet50", "dinov2"])
def test_graph_of_any_backbone_is_torch(make: Callable[[], Embedder]) -> None:
    torch.manual_seed(0)
    student = make()
    proto = to_proto(StudentWithClassifier(student).eval(), DIMENSIONS)
    same_everywhere(student, onnxruntime.InferenceSession(proto.SerializeToString()))


def same_everywhere(student: Embedder, session: onnxruntime.InferenceSession) -> None:
    """z and cosines to 1e-4, on sizes and with words that the export never saw."""
    model, dimensions = StudentWithClassifier(student.eval()), student.embed_dim
    draw = np.random.default_rng(0)
    sizes = [(1, 70, 70), (2, 32, 32), (3, 33, 65), *((1, *draw.integers(32, 260, 2)) for _ in range(4))]
    for number, (batch, height, width) in enumerate(sizes):
        images = torch.rand(batch, 3, int(height), int(width), generator=generator(number))
        vectors = F.normalize(torch.randn(1 + 3 * number, dimensions, generator=generator(number)), dim=1)
        with torch.no_grad():
            z, cosines = model(images, vectors)
        found = session.run(["z", "cosines"], {"images": images.numpy(), "vectors": vectors.numpy()})
        np.testing.assert_allclose(found[0], z.numpy(), rtol=0, atol=TOLERANCE)
        np.testing.assert_allclose(found[1], cosines.numpy(), rtol=0, atol=TOLERANCE)


def test_file_is_whole_without_the_run(exported: Path, tiny_run: Path) -> None:
    onnx.checker.check_model(exported, full_check=True)
    opened, checkpoint = open_exported(exported), load_checkpoint(tiny_run)
    assert opened.config == checkpoint.config
    assert opened.prototypes.classes == checkpoint.prototypes.classes
    for part in ("text", "known", "unknown"):
        assert torch.equal(getattr(opened.prototypes, part), getattr(checkpoint.prototypes, part))
    assert opened.report["difference"] <= TOLERANCE
    plain = {entry.key: entry.value for entry in onnx.load(exported).metadata_props}
    assert json.loads(plain["class_names"]) == ["cat", "cup", "grass"]
    assert plain["long_side"] == str(checkpoint.config.data.inference_side)
    assert [i.name for i in opened.session.get_inputs()] == ["images", "vectors"]
    assert opened.session.get_inputs()[0].shape == ["batch", 3, "height", "width"]


def test_file_with_safetensors_of_an_earlier_version_is_read(exported: Path, tmp_path: Path) -> None:
    opened, model = open_exported(exported), onnx.load(exported)
    values = {entry.key: entry.value for entry in model.metadata_props}
    tensors = vectors_from_json(json.loads(values.pop("clips4.vectors")))
    del values["clips4.rules"], values["clips4.sha256"], model.metadata_props[:]
    values["clips4.tensors"] = base64.b64encode(save(tensors)).decode()
    onnx.helper.set_model_props(model, values)
    (tmp_path / "earlier.onnx").write_bytes(seal(model.SerializeToString()))
    read = open_exported(tmp_path / "earlier.onnx").prototypes
    for part in ("text", "known", "unknown", "bank"):
        assert torch.equal(getattr(read, part), getattr(opened.prototypes, part))


def test_pickled_segmenter_of_a_file_opens_it_again(exported: Path) -> None:
    segmenter = Segmenter.load(exported, device="cpu")
    image = photograph()
    assert pickle.loads(pickle.dumps(segmenter)).segment(image) == segmenter.segment(image)
    with pytest.raises(UserError, match="this network stays on cpu"):
        segmenter.to("cpu")


@pytest.mark.usefixtures("again")
def test_segmenter_predicts_the_same_by_either_backend(exported: Path, tiny_run: Path) -> None:
    by_torch = Segmenter.load(tiny_run, device="cpu")
    from_run = Segmenter.load(tiny_run, device="cpu", backend="onnx")
    for by_onnx in (Segmenter.load(exported, device="cpu"), from_run):
        assert by_onnx.names == by_torch.names
        for image in (photograph(), photograph(61, 333, seed=1)):
            torch.testing.assert_close(by_onnx.embed(image), by_torch.embed(image), rtol=0, atol=TOLERANCE)
            for classes in (None, "sofa,grass"):
                ours, theirs = by_torch.segment(image, classes), by_onnx.segment(image, classes)
                np.testing.assert_allclose(ours.similarity, theirs.similarity, rtol=0, atol=TOLERANCE)
                assert (ours.labels == theirs.labels).mean() > 0.99, "only where two classes are equally near"
                assert ours.names == theirs.names


def test_run_is_exported_once_and_again_after_more_training(
    copied_run: Path, exported: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CLIPS4_CACHE", str(tmp_path / "cache"))
    written: list[Path] = []

    def record(checkpoint: Any, out: Path, calibration: Any = None) -> None:
        written.append(out)
        out.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(exported, out)

    monkeypatch.setattr("clips4.models.onnx.export.export_onnx", record)
    load_onnx(copied_run)
    load_onnx(copied_run)
    assert len(written) == 1
    older = copied_run / "checkpoints/step-00000001"
    load_onnx(older)
    assert len(written) == 2
    assert written[0] != written[1]


def test_several_threads_query_at_once(exported: Path) -> None:
    segmenter = Segmenter.load(exported, device="cpu")
    images = [photograph(seed=seed) for seed in range(6)]
    one_by_one = [segmenter.embed(image) for image in images]
    with ThreadPoolExecutor(4) as pool:
        for alone, beside in zip(one_by_one, pool.map(segmenter.embed, images), strict=True):
            assert torch.equal(alone, beside)


@pytest.mark.usefixtures("again")
def test_graph_that_differs_from_torch_is_not_written(tiny_run: Path, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(tiny_run)
    with torch.no_grad():
        checkpoint.student.head.get_parameter("project.bias")[0] += 0.01
    (tmp_path / "m.onnx").write_bytes(b"the one before")
    with pytest.raises(UserError, match=r"differs from torch by .*nothing was written"):
        export_onnx(checkpoint, tmp_path / "m.onnx")
    assert (tmp_path / "m.onnx").read_bytes() == b"the one before"
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


@pytest.mark.usefixtures("again")
def test_int8_reports_its_cost(tiny_run: Path, exported: Path, images: Path, tmp_path: Path) -> None:
    paths = sorted(images.iterdir())
    more = []
    for seed in range(3, 6):
        photograph(seed=seed).save(tmp_path / f"{seed}.png")
        more.append(tmp_path / f"{seed}.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    report = export_onnx(load_checkpoint(tiny_run), tmp_path / "m.onnx", [*paths, *more, tmp_path / "broken.png"])
    agreement = report.agreement
    assert agreement is not None
    assert agreement.held_out
    assert agreement.images == 1
    assert report.bytes < 0.5 * exported.stat().st_size
    nodes = onnx.load(tmp_path / "m.onnx").graph.node
    made_by = {name: node.op_type for node in nodes for name in node.output}
    convolutions = [node for node in nodes if node.op_type == "Conv"]
    exact_ones = [made_by.get(node.input[0]) != "DequantizeLinear" for node in convolutions]
    depthwise = [any(each.name == "group" and each.i > 1 for each in node.attribute) for node in convolutions]
    assert exact_ones == [number == 0 or depthwise[number] for number in range(len(convolutions))]
    assert sum(depthwise) > 10
    # the same figures, by way of the segmenter
    exact, small = (Segmenter.load(path, device="cpu") for path in (exported, tmp_path / "m.onnx"))
    a, b = exact.embed(more[0]), small.embed(more[0])
    assert exact.prototypes is not None
    vectors = exact.prototypes.queries()
    same = [torch.einsum("dhw,ld->lhw", z, vectors).argmax(0) for z in (a, b)]
    assert (a * b).sum(0).mean().item() == pytest.approx(agreement.cosine, abs=1e-4)
    assert (same[0] == same[1]).float().mean().item() == pytest.approx(agreement.same_label, abs=1e-6)
    assert agreement.cosine < 1
    assert open_exported(tmp_path / "m.onnx").report["agreement"]["images"] == 1


@pytest.mark.usefixtures("again")
def test_what_is_no_exported_run_raises(tmp_path: Path, exported: Path, tiny_run: Path) -> None:
    (tmp_path / "letter.onnx").write_text("Dear reader")
    (tmp_path / "cut.onnx").write_bytes(exported.read_bytes()[:5000])
    foreign = onnx.load(exported)
    del foreign.metadata_props[:]
    onnx.save(foreign, tmp_path / "foreign.onnx")
    spoilt = onnx.load(exported)
    next(entry for entry in spoilt.metadata_props if entry.key == "clips4.vectors").value = "AAAA"
    onnx.save(spoilt, tmp_path / "spoilt.onnx")
    for name, words in {
        "letter.onnx": "damaged, or not one that 'clips4 export' wrote",
        "cut.onnx": "damaged, or not one that 'clips4 export' wrote",
        "foreign.onnx": "not one that 'clips4 export' wrote",
        "spoilt.onnx": "changed, or written by an earlier version",
        "nowhere.onnx": "no such file; 'clips4 export' writes one",
    }.items():
        with pytest.raises(UserError, match=words) as caught:
            Segmenter.load(tmp_path / name, device="cpu")
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="choose one of torch, onnx"):
        Segmenter.load(tiny_run, backend="tensorrt")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="no provider for it"):
        open_exported(exported, "cuda:0")
    with pytest.raises(UserError, match="is a folder; give a file"):
        export_onnx(load_checkpoint(tiny_run), tmp_path)
    (tmp_path / "a.png").write_text("no picture")
    with pytest.raises(UserError, match="none of 1 calibration images can be read"):
        export_onnx(load_checkpoint(tiny_run), tmp_path / "m.onnx", [tmp_path / "a.png"])
    assert not (tmp_path / "m.onnx").exists()


def test_without_the_packages_one_line_names_them(
    tiny_run: Path, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    with pytest.raises(UserError, match=r"export needs the package onnxscript; pip install 'clips4\[onnx\]'"):
        export_onnx(load_checkpoint(tiny_run), tmp_path / "m.onnx")
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(UserError, match="ONNX Runtime is not installed"):
        open_exported(exported)
