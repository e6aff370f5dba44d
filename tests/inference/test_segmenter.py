"""Segmenter: any form of image, any words, the same answers by every way."""

import copy
import pickle
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from clips4.config import Config, TeacherConfig
from clips4.data.class_names import load_classes
from clips4.errors import UserError
from clips4.inference.classifier import Query, Vectors
from clips4.inference.encoding.tta import InferenceOptions
from clips4.inference.refine.lposs import propagate_over
from clips4.inference.result import Segmentation
from clips4.inference.segmenter import Segmenter
from clips4.inference.upsample import best_class, nearest_class
from clips4.method.prototypes import BANK_NEAREST, known_prototypes
from clips4.models.checkpoint import Prototypes, load_checkpoint
from clips4.outputs.labeled_image import UNKNOWN_LABEL
from tests.helpers import conse, photograph, unit


@pytest.fixture(scope="module")
def segmenter(tiny_run: Path) -> Segmenter:
    return Segmenter.load(tiny_run, device="cpu")


def test_segment_one_or_several_images_gives_equal_labels(segmenter: Segmenter) -> None:
    images = [photograph(seed=0), photograph(60, 40, seed=1)]
    several = segmenter.segment(images)
    assert [result.labels.shape for result in several] == [(72, 96), (60, 40)]
    np.testing.assert_array_equal(several[1].labels, segmenter.segment(images[1]).labels)
    z = segmenter.embed(images[0])
    torch.testing.assert_close(z.norm(dim=0), torch.ones(z.shape[1:]))
    assert torch.equal(segmenter.embed(images)[0], z)


def test_class_vectors_of_the_run_are_prototypes_or_text(segmenter: Segmenter) -> None:
    assert segmenter.prototypes is not None
    names, known = segmenter.class_vectors()
    assert names == ("cat", "cup", "grass")
    assert torch.equal(known, segmenter.prototypes.query_known)
    assert torch.equal(segmenter.class_vectors(None, "text")[1], segmenter.prototypes.text)


def test_class_vectors_by_text_of_new_name_equal_the_teachers(segmenter: Segmenter) -> None:
    assert segmenter.prototypes is not None
    names, vectors = segmenter.class_vectors("grass,sofa", "text")
    assert names == ("grass", "sofa")
    assert torch.equal(vectors[0], segmenter.prototypes.text[2])
    alone = Segmenter.from_teacher("conse", device="cpu").class_vectors("sofa")[1]
    torch.testing.assert_close(vectors[1:], alone)


def test_segment_pixel_nearest_unknown_prototype_is_unknown(segmenter: Segmenter) -> None:
    assert segmenter.prototypes is not None
    image = photograph()
    z = segmenter.embed(image)
    everything = segmenter.prototypes.queries()
    labels = nearest_class(z, everything, (72, 96))[0].numpy()
    result = segmenter.segment(image)
    np.testing.assert_array_equal(result.labels == UNKNOWN_LABEL, labels >= 3)
    assert result.unknown_share == (labels >= 3).mean()
    assert not (segmenter.segment(image, unknown=False).labels == UNKNOWN_LABEL).any()


def test_areas_of_segmentation_are_sorted_and_cover_the_image() -> None:
    labels = np.array([[0, 1, 1], [1, -1, -1]], np.int16)
    result = Segmentation(np.zeros((2, 3, 3), np.uint8), labels, np.zeros((2, 3), np.float32), ("cat", "cup"))
    assert [(area.name, area.label, area.pixels) for area in result.areas()] == [
        ("cup", 1, 3),
        ("cat", 0, 1),
        ("unknown", -1, 2),
    ]
    assert sum(area.share for area in result.areas()) == pytest.approx(1)
    assert result.unknown_share == pytest.approx(1 / 3)


def test_segment_teacher_without_class_names_is_refused(images: Path) -> None:
    teacher = Segmenter.from_teacher("conse", Config(), device="cpu")
    with pytest.raises(UserError, match="give some"):
        teacher.segment(photograph())
    assert teacher.segment(photograph(), "cat,cup").unknown_share == 0


def test_segment_tiny_and_elongated_images_keep_their_size(segmenter: Segmenter) -> None:
    for size in ((1, 1), (1, 700), (3, 2)):
        assert segmenter.segment(Image.new("RGB", size[::-1])).labels.shape == size


def test_load_damaged_checkpoint_is_refused(copied_run: Path) -> None:
    newest = sorted((copied_run / "checkpoints").iterdir())[-1] / "student.safetensors"
    newest.write_bytes(newest.read_bytes()[:1000])
    with pytest.warns(UserWarning, match="damaged checkpoint.*using the previous checkpoint"):
        Segmenter.load(copied_run, device="cpu")
    shutil.rmtree(sorted((copied_run / "checkpoints").iterdir())[0])
    with pytest.raises(UserError, match="damaged checkpoint"):
        Segmenter.load(copied_run, device="cpu")


# ------------------------------------------------------------------------------------------- read once, ask often


class Counting:
    """A network of 4 dimensions that counts how many images it reads."""

    stride = 8

    def __init__(self) -> None:
        self.images = 0
        self._lock = threading.Lock()

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        with self._lock:
            self.images += len(images)
        colors = F.avg_pool2d(images, 8)
        return F.normalize(torch.cat([colors, torch.ones_like(colors[:, :1])], 1), dim=1)


def small_segmenter(encoder: Counting, known: torch.Tensor | None = None) -> Segmenter:
    known = unit(2, 4, seed=1).float() if known is None else known
    prototypes = Prototypes(load_classes("red,green"), unit(2, 4).float(), known, unit(3, 4, seed=2).float())
    return Segmenter(encoder, TeacherConfig(), 96, torch.device("cpu"), prototypes)


def test_segment_same_image_again_encodes_once(tmp_path: Path) -> None:
    encoder = Counting()
    segmenter = small_segmenter(encoder)
    photograph().save(tmp_path / "a.png")
    segmenter.set_image(tmp_path / "a.png")
    answers = [segmenter.segment(classes="red"), segmenter.segment(classes="green,red"), segmenter.segment()]
    segmenter.embed()
    segmenter.cluster(k=2)
    segmenter.segment(photograph())  # the same image in another form
    assert encoder.images == 1
    assert [answer.names for answer in answers] == [("red",), ("green", "red"), ("red", "green")]
    np.testing.assert_array_equal(answers[2].labels, segmenter.segment(tmp_path / "a.png").labels)
    segmenter.segment(options=InferenceOptions(flip=True))
    segmenter.segment(tmp_path / "a.png", options=InferenceOptions(flip=True))
    assert encoder.images == 3, "read otherwise it is read anew, mirrored as well"


def test_set_image_is_used_without_an_image_argument(segmenter: Segmenter) -> None:
    first, second = photograph(seed=5), photograph(60, 44, seed=6)
    segmenter.set_image(first)
    segmenter.set_image(second)
    np.testing.assert_array_equal(segmenter.segment().labels, segmenter.segment(second).labels)
    assert torch.equal(segmenter.embed(), segmenter.embed(second))


def test_embed_result_changed_in_place_leaves_the_cache_intact(segmenter: Segmenter) -> None:
    z = segmenter.embed(photograph())
    expected = z.clone()
    z.zero_()
    assert torch.equal(segmenter.embed(photograph()), expected)


def test_embed_images_of_one_size_share_a_network_pass() -> None:
    pictures = [photograph(seed=seed) for seed in range(11)]
    pictures[4] = photograph(40, 64)
    encoder = Counting()
    batches: list[int] = []
    original = Counting.__call__

    def note(self: Counting, images: torch.Tensor) -> torch.Tensor:
        batches.append(len(images))
        return original(self, images)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("clips4.inference.encoding.encoder.batch_on", lambda _: 8)  # as on an accelerator
        segmenter = small_segmenter(encoder)
        patch.setattr(Counting, "__call__", note)
        several = segmenter.segment([*pictures, pictures[0]])
        assert sum(batches) == 11, "the image given twice is read once"
        assert sorted(batches) == [1, 3, 7]
        batches.clear()
        once = [list(segmenter.encode_images(pictures, keep=False)) for _ in range(2)][1]
    assert sorted(batches) == [1, 1, 3, 3, 7, 7], "those that are not kept are encoded again"
    for image, answer, encoded in zip(pictures, several, once, strict=False):
        np.testing.assert_array_equal(answer.labels, segmenter.segment(image).labels)
        assert torch.equal(encoded.z, segmenter.embed(image))


def test_segment_from_many_threads_equals_one_thread(segmenter: Segmenter, tiny_run: Path) -> None:
    """Readings, words and answers of eight threads are those of one after the other."""
    images = [photograph(seed=seed) for seed in range(4)]
    words = [["cat", "cup"], ["grass"], ["sofa", "cat"], ["lamp", "cup", "sofa"]]
    work = [(image, classes) for image in images for classes in words] * 2
    student = load_checkpoint(tiny_run).student
    one, fresh = (
        Segmenter(student, TeacherConfig(), 320, torch.device("cpu"), segmenter.prototypes, conse()) for _ in range(2)
    )
    expected = [one.segment(*each) for each in work]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda each: fresh.segment(*each), work))
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours.labels, theirs.labels)
        assert ours.names == theirs.names


# ----------------------------------------------------------------------------------------------- what is answered


def test_segment_unknown_pixel_has_its_discovered_class(segmenter: Segmenter) -> None:
    assert segmenter.prototypes is not None
    image = photograph()
    everything = segmenter.prototypes.queries()
    labels = nearest_class(segmenter.embed(image), everything, (72, 96))[0].numpy()
    result = segmenter.segment(image)
    assert result.unknown_labels is not None
    np.testing.assert_array_equal(result.unknown_labels, np.where(labels >= 3, labels - 3, -1))
    assert segmenter.segment(image, unknown=False).unknown_labels is None


def test_segment_by_text_competes_with_the_unknown_prototypes_of_training(tiny_run: Path) -> None:
    segmenter, image = Segmenter.load(tiny_run, device="cpu"), photograph()
    prototypes = segmenter.prototypes
    assert prototypes is not None
    fitted = torch.cat(
        [prototypes.query_known, prototypes.unknown.flip(0)]
    )  # as if the fit had made them change places
    segmenter.prototypes = replace(prototypes, fitted=fitted)
    pairs: list[tuple[Vectors, Tensor]] = [
        ("text", torch.cat([prototypes.text, prototypes.unknown])),
        ("prototypes", fitted),
    ]
    for vectors, everything in pairs:
        labels = nearest_class(segmenter.embed(image), everything, (72, 96))[0].numpy()
        unknown = segmenter.segment(image, vectors=vectors).unknown_labels
        np.testing.assert_array_equal(unknown, np.where(labels >= 3, labels - 3, -1))


def test_class_vectors_of_new_names_come_from_the_bank(segmenter: Segmenter) -> None:
    assert segmenter.prototypes is not None
    assert segmenter.prototypes.bank is not None
    assert segmenter.prototypes.student_bank is not None
    result = segmenter.segment(photograph(), ["cat", "sofa"])
    assert result.sources == ("prototype", "bank")
    assert result.from_text_alone == ()
    text = segmenter.class_vectors("sofa", "text")[1]
    seen = segmenter.prototypes.student_bank.float()
    expected = known_prototypes(text, segmenter.prototypes.bank.float(), BANK_NEAREST, seen)
    torch.testing.assert_close(segmenter.class_vectors("sofa")[1], expected)
    assert segmenter.segment(photograph(), ["sofa"], vectors="text").from_text_alone == ("sofa",)


def test_segment_background_names_are_one_class() -> None:
    segmenter = small_segmenter(Counting())
    image = photograph(seed=3)
    apart = segmenter.segment(image, "red,green", unknown=False)
    result = segmenter.segment(image, ["red"], background=["green"], unknown=False)
    assert result.names == ("red", "background")
    np.testing.assert_array_equal(result.labels, apart.labels)
    assert result.owner is not None
    assert result.owner.tolist() == [0, 1]


def test_segment_background_cosine_replaces_dissimilar_pixels() -> None:
    segmenter = small_segmenter(Counting())
    image = photograph(seed=3)
    plain = segmenter.segment(image)
    middle = float(np.median(plain.similarity))
    result = segmenter.segment(image, background=f"cosine {middle}")
    doubtful = (plain.similarity < middle) & (plain.labels >= 0)
    assert doubtful.any()
    np.testing.assert_array_equal(result.labels == 2, doubtful)
    np.testing.assert_array_equal(result.labels == UNKNOWN_LABEL, plain.labels == UNKNOWN_LABEL)
    assert result.names == ("red", "green", "background")


def test_segment_background_probability_is_among_the_named_classes() -> None:
    segmenter = small_segmenter(Counting())
    image = photograph(seed=3)
    z = segmenter.embed(image)
    known = torch.stack([z[:, 1, 1], z[:, 4, 6]])  # so alike that the softmax is not always sure
    segmenter = small_segmenter(Counting(), known)
    cosines = F.interpolate(torch.einsum("dhw,ld->lhw", z, known)[None], (72, 96), mode="bilinear")[0]
    probability = (40 * cosines).softmax(0).amax(0).numpy()
    limit = float(np.median(probability))
    result = segmenter.segment(image, background=limit, unknown=False)
    clear = np.abs(probability - limit) > 1e-5
    np.testing.assert_array_equal((result.labels == 2)[clear], (probability < limit)[clear])


def test_cluster_labels_are_the_nearest_centers() -> None:
    segmenter = small_segmenter(Counting())
    images = [photograph(seed=seed) for seed in range(3)]
    several = segmenter.cluster(images, k=4)
    assert all(result.names == ("cluster 1", "cluster 2", "cluster 3", "cluster 4") for result in several)
    centers = several[0].vectors
    assert centers is not None
    assert centers.shape == (4, 4)
    for image, result in zip(images, several, strict=True):
        assert torch.equal(result.vectors, centers)  # type: ignore[arg-type]
        labels, cosine = nearest_class(segmenter.embed(image), centers, (72, 96))
        np.testing.assert_array_equal(result.labels, labels.numpy())
        np.testing.assert_array_equal(result.similarity, cosine.numpy())
        assert result.unknown_share == 0
    again = segmenter.cluster(images, k=4)
    np.testing.assert_array_equal(several[2].labels, again[2].labels)
    assert len(np.unique(segmenter.cluster(images[0], k=2).labels)) == 2


@pytest.mark.parametrize("refine", ["pamr", "regions"])
def test_predict_refined_follows_the_images_edges(refine: Literal["pamr", "regions"]) -> None:
    """A square on a plain ground, read at a stride of 27 pixels: refined, its outline is nearer to where it is."""
    y, x = np.mgrid[:240, :320]
    disc = (abs(y - 120) < 57) & (abs(x - 160) < 83)
    image = np.where(disc[..., None], np.array([220, 40, 40]), np.array([40, 40, 200])).astype(np.uint8)
    segmenter = small_segmenter(Counting())
    red, blue = segmenter.embed(image)[:, 4, 5], segmenter.embed(image)[:, 0, 0]
    query = Query.one_per_class(torch.stack([blue, red]), ("ground", "disc"))
    wrong = {}
    for how in (None, refine):
        options = InferenceOptions(refine=how)
        labels = segmenter.predict(segmenter.encode_image(image, options), query, False, options).labels
        wrong[how] = float((labels != disc).mean())
    assert wrong[refine] < 0.8 * wrong[None], wrong


def test_predict_by_lposs_is_the_propagated_scores_classes() -> None:
    segmenter, image = small_segmenter(Counting()), photograph(120, 160)
    encoded = segmenter.encode_image(image)
    query = Query.one_per_class(torch.stack([encoded.z[:, 0, 0], encoded.z[:, 2, 3]]), ("a", "b"))
    scores = propagate_over(torch.einsum("dhw,ld->lhw", encoded.z, query.vectors), encoded.z)
    labels, best = best_class(scores, (120, 160))
    result = segmenter.with_refinement("lposs").predict(encoded, query, False)
    np.testing.assert_array_equal(result.labels, labels.numpy())
    np.testing.assert_array_equal(result.similarity, best.numpy())
    assert segmenter.options.refine is None
    assert segmenter.graph_features_at_size(torch.rand(1, 3, 64, 64)) is None


def test_embed_half_precision_is_nearly_the_same(tiny_run: Path) -> None:
    exact = Segmenter.load(tiny_run, "cpu").embed(photograph())
    half = Segmenter.load(tiny_run, "cpu", precision="bfloat16").embed(photograph())
    assert half.dtype == torch.float32
    assert not torch.equal(half, exact)
    assert float((half * exact).sum(0).min()) > 0.98
    assert torch.equal(Segmenter.load(tiny_run, "cpu", precision="float32").embed(photograph()), exact)


# ----------------------------------------------------------------------------------------------- what is refused


def test_segmenter_invalid_arguments_fail_in_one_line(segmenter: Segmenter, tiny_run: Path, tmp_path: Path) -> None:
    photograph().save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_text("no picture")
    fresh = Segmenter.load(tiny_run, "cpu")
    cases: list[tuple[Callable[[], object], str]] = [
        (lambda: fresh.segment(), "no image: pass one, or set one with set_image"),
        (lambda: fresh.embed(), "no image"),
        (lambda: fresh.cluster(), "no image"),
        (lambda: segmenter.segment([]), "empty list"),
        (lambda: segmenter.embed(()), "empty list"),
        (lambda: segmenter.cluster([], 3), "empty list"),
        (lambda: segmenter.segment([tmp_path / "good.png", tmp_path / "bad.png"]), "bad.png"),
        (lambda: segmenter.segment([photograph(), np.zeros((2, 2, 7))]), "image 2: an array image"),
        (lambda: segmenter.segment("ftp://a.org/b.png"), "not fetched"),
        (lambda: segmenter.segment(photograph(), []), "no class names"),
        (lambda: segmenter.segment(photograph(), ["cat", "Cat"]), "listed twice"),
        (lambda: segmenter.segment(photograph(), ["unknown"]), "is reserved for"),
        (lambda: segmenter.segment(photograph(), tmp_path / "names.txt"), "no such class file"),
        (lambda: segmenter.segment(photograph(), vectors="pictures"), "vectors 'pictures'"),  # type: ignore[call-overload]
        (lambda: segmenter.segment(photograph(), background=2), "background"),
        (lambda: segmenter.cluster(photograph(), 0), "k = 0"),
        (lambda: segmenter.cluster(photograph(), 10**6), "k = 1000000"),
        (lambda: segmenter.segment(photograph(), options=InferenceOptions(window=320)), "changes nothing"),
        (lambda: Segmenter.load(tiny_run, "cpu", precision="int8"), "precision 'int8'"),  # type: ignore[arg-type]
        (lambda: Segmenter.load(tiny_run, "gpu9"), "not available"),
        (lambda: Segmenter.load(tmp_path / "nowhere"), "no checkpoint"),
        (lambda: Segmenter.from_teacher("nobody"), "unknown teacher"),
    ]
    for case, words in cases:
        with pytest.raises(UserError) as caught:
            case()
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)


def test_segment_a_folder_yields_results_with_their_files(segmenter: Segmenter, images: Path) -> None:
    found: Any = segmenter.segment(str(images))
    assert next(iter(found)) == segmenter.segment(images / "photo0.png")
    assert [Path(each.source).name for each in found] == ["photo1.png", "photo2.png"]


def test_segment_a_generator_reads_one_image_at_a_time(segmenter: Segmenter) -> None:
    given = iter([photograph(seed=0), photograph(seed=1)])
    found = segmenter.segment(each for each in given)
    next(found)
    assert len(list(given)) == 1


def test_segment_a_folder_resumes_after_an_image_that_cannot_be_read(segmenter: Segmenter, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no image")
    photograph().save(tmp_path / "b.png")
    found: Any = segmenter.segment(tmp_path)
    with pytest.raises(UserError, match=r"a\.png"):
        next(found)
    assert Path(next(found).source).name == "b.png"


def test_embed_and_cluster_take_folders(segmenter: Segmenter, images: Path) -> None:
    paths = sorted(images.iterdir())
    assert all(map(torch.equal, segmenter.embed(iter(paths)), segmenter.embed(paths)))
    assert segmenter.cluster(str(images), k=2) == segmenter.cluster(paths, k=2)


def test_repr_names_classes_network_and_device(segmenter: Segmenter) -> None:
    assert repr(segmenter) == "Segmenter(3 classes: cat, cup, grass; Embedder on cpu)"
    query = segmenter.query(["cat", "cup"])
    assert repr(query).startswith("Query(2 classes: cat, cup; 2 vectors of 38")
    assert repr(segmenter.encode_image(photograph())).startswith("EncodedImage(96 x 72 pixels, z 38")
    assert len(repr(segmenter.prototypes)) < 200


def test_queries_of_the_same_names_are_equal(segmenter: Segmenter) -> None:
    assert segmenter.query(["cat", "cup"]) == segmenter.query(["cat", "cup"])
    assert segmenter.query(["cat", "cup"]) != segmenter.query(["cup", "cat"])


@pytest.mark.parametrize("again", [copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each))])
def test_copied_segmenter_gives_the_same_results(segmenter: Segmenter, again: Callable[[Segmenter], Segmenter]) -> None:
    expected = segmenter.segment(photograph(), ["cat", "sofa"])
    copied = again(segmenter)
    assert copied.segment(photograph(), ["cat", "sofa"]) == expected


def test_copied_segmenter_of_a_teacher_keeps_it() -> None:
    alone = Segmenter.from_teacher("conse", device="cpu")
    expected = alone.segment(photograph(), ["cat", "sofa"])
    assert copy.deepcopy(alone).segment(photograph(), ["cat", "sofa"]) == expected


def test_to_moves_the_network_and_the_image(tiny_run: Path) -> None:
    moved = Segmenter.load(tiny_run, device="cpu")
    moved.set_image(photograph())
    before = moved.segment()
    assert moved.to("cpu") is moved
    assert moved.device == torch.device("cpu")
    assert moved.segment() == before
    with pytest.raises(UserError, match="device 'cuda:63' is not available here"):
        moved.to("cuda:63")


def test_to_meta_device_moves_every_weight(tiny_run: Path) -> None:
    """The meta device is there on every machine; a tensor left behind would fail."""
    moved = Segmenter.load(tiny_run, device="cpu").to("meta")
    assert moved.embed(photograph()).device.type == "meta"


@pytest.mark.parametrize("image", [3, {"a": 1}, b"bytes", None])
def test_image_of_a_wrong_type_is_a_type_error(segmenter: Segmenter, image: object) -> None:
    with pytest.raises(TypeError, match="an image is a path, a PIL image, an array or a tensor"):
        segmenter.segment([image])


@pytest.mark.parametrize("classes", [3, ["cat", 3], [None], b"cat"])
def test_classes_of_a_wrong_type_are_a_type_error(segmenter: Segmenter, classes: object) -> None:
    with pytest.raises(TypeError, match="class names are strings"):
        segmenter.segment(photograph(), classes)  # type: ignore[call-overload]


def test_loading_the_text_model_prints_a_line_on_a_terminal_only(
    tiny_run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Segmenter.load(tiny_run, device="cpu").query(["walrus"])
    assert "loading" not in capsys.readouterr().err
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    told = Segmenter.load(tiny_run, device="cpu")
    told.query(["cat"])
    assert capsys.readouterr().err == ""
    told.query(["walrus"])
    told.query(["badger"])
    assert capsys.readouterr().err == "clips4: loading the text model of conse, once, for the new name 'walrus'\n"
