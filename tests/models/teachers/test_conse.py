import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from skimage import data
from sklearn.datasets import load_sample_image
from torch import Tensor

from clips4.data.class_names import (
    builtin_class_files,
    data_lines,
    imagenet_classes,
    imagenet_hypernyms,
    load_classes,
)
from clips4.models.teachers.conse import ConseTeacher
from tests.helpers import conse, generator


@pytest.fixture(scope="module")
def teacher() -> ConseTeacher:
    return conse()


def random_image(height: int, width: int, seed: int = 0) -> Tensor:
    coarse = torch.rand(1, 3, max(1, height // 8), max(1, width // 8), generator=generator(seed))
    return F.interpolate(coarse, (height, width), mode="bilinear")


def photograph(name: str, long_side: int = 256) -> Tensor:
    images: dict[str, NDArray[np.uint8]] = {
        "cat": data.chelsea(),
        "coffee": data.coffee(),
        "motorcycle": data.stereo_motorcycle()[0],
        "palace": load_sample_image("china.jpg"),
        "flower": load_sample_image("flower.jpg"),
    }
    image = torch.from_numpy(images[name].copy()).permute(2, 0, 1)[None].float() / 255
    factor = long_side / max(image.shape[-2:])
    return F.interpolate(image, scale_factor=factor, mode="bilinear", antialias=True)


# ------------------------------------------------------------------------------------------------------------ text


def test_text_vectors_are_unit_rows(teacher: ConseTeacher) -> None:
    text = teacher.encode_text(["a photo of a cat.", "sky", "", "a " * 1000])
    assert text.shape == (4, 384)
    assert text.dtype == torch.float32
    torch.testing.assert_close(text.norm(dim=1), torch.ones(4))


def test_text_vectors_do_not_depend_on_the_batch_they_are_encoded_in(teacher: ConseTeacher) -> None:
    prompts = ["cat", "a very long prompt that makes all the others be padded to its length, and then some", "sky"]
    together = teacher.encode_text(prompts)
    alone = torch.cat([teacher.encode_text([prompt]) for prompt in prompts])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


def test_prompts_are_encoded_in_batches_without_losing_any(
    teacher: ConseTeacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = [f"number {n}" for n in range(7)]
    whole = teacher.encode_text(prompts)
    monkeypatch.setattr(teacher, "text_batch", 3)
    torch.testing.assert_close(teacher.encode_text(prompts), whole, rtol=0, atol=1e-5)


def test_names_of_like_meaning_are_near(teacher: ConseTeacher) -> None:
    cat, kitten, car, truck = teacher.encode_text(["cat", "kitten", "car", "truck"])
    assert cat @ kitten > cat @ car + 0.2
    assert car @ truck > car @ kitten + 0.2


def test_text_space_is_centerd_on_the_class_names(teacher: ConseTeacher) -> None:
    """The sum of the centred class vectors vanishes, and encode_text is the centred vector made unit."""
    some = [0, 281, 500, 967]
    vectors = teacher.trunk.class_vectors
    assert vectors.shape == (1000, 384)
    assert vectors.mean(0).abs().max() < 1e-6
    text = teacher.encode_text([imagenet_classes()[index] for index in some])
    torch.testing.assert_close(text, F.normalize(vectors[some], dim=1), rtol=0, atol=1e-4)


def test_sentence_vectors_before_centring_are_unit(teacher: ConseTeacher) -> None:
    vectors = teacher.sentences(["cat", "a photo of a dog."])
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(2))


# ---------------------------------------------------------------------------------------------------------- pixels


@pytest.mark.parametrize(("height", "width"), [(64, 64), (64, 160), (100, 33)])
def test_pixel_map_is_unit_at_the_stride_promised(teacher: ConseTeacher, height: int, width: int) -> None:
    pixel_map = teacher.encode_pixels(random_image(height, width))
    assert pixel_map.shape[:2] == (1, 384)
    for side, size in zip(pixel_map.shape[2:], (height, width), strict=True):
        assert abs(side - size / teacher.patch_stride) <= 1
    torch.testing.assert_close(pixel_map.norm(dim=1), torch.ones(1, *pixel_map.shape[2:]))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 50), (5, 3)])
def test_tiny_images_give_at_least_one_position(teacher: ConseTeacher, height: int, width: int) -> None:
    pixel_map = teacher.encode_pixels(torch.rand(1, 3, height, width, generator=generator(0)))
    assert min(pixel_map.shape) >= 1
    assert pixel_map.isfinite().all()


def test_extreme_images_are_finite(teacher: ConseTeacher) -> None:
    extremes = torch.stack([torch.zeros(3, 32, 32), torch.ones(3, 32, 32)])
    lengths = teacher.encode_pixels(extremes).norm(dim=1)
    torch.testing.assert_close(lengths, torch.ones_like(lengths))


@pytest.mark.parametrize(("top", "upsample", "temperature"), [(1, 1.0, 1.0), (10, 1.5, 1.0), (30, 1.0, 0.5)])
def test_pixel_map_equals_the_paper_read_literally(
    teacher: ConseTeacher, monkeypatch: pytest.MonkeyPatch, top: int, upsample: float, temperature: float
) -> None:
    """f(p) = sum_{t=1..T} P(y_t | p) s(y_t) / sum_{t=1..T} P(y_t | p), over the T most probable classes, made unit."""
    monkeypatch.setattr(teacher, "upsample", upsample)
    monkeypatch.setattr(teacher.trunk, "top_k", top)
    monkeypatch.setattr(teacher.trunk, "temperature", temperature)
    images = random_image(96, 128, seed=3)
    pixel_map = teacher.encode_pixels(images)

    size = [round(side * upsample / 32) * 32 for side in (96, 128)]
    larger = F.interpolate(images, size, mode="bilinear", antialias=True)
    features = teacher.trunk.classifier.features((larger - 0.498) / 0.502)[0].detach()
    for y, x in [(0, 0), (1, 3), (features.shape[1] - 1, features.shape[2] - 1)]:
        logits = teacher.trunk.classifier.classifier(features[:, y, x]).tolist()
        total = math.fsum(math.exp(value / temperature) for value in logits)
        probability = [math.exp(value / temperature) / total for value in logits]
        best = sorted(range(1000), key=lambda index: -probability[index])[:top]
        vector = torch.zeros(384)
        for index in best:
            vector += probability[index] * teacher.trunk.class_vectors[index]
        vector /= sum(probability[index] for index in best)
        torch.testing.assert_close(pixel_map[0, :, y, x], vector / vector.norm(), rtol=0, atol=1e-4)


def test_images_of_a_batch_are_read_one_by_one(teacher: ConseTeacher) -> None:
    images = torch.cat([random_image(64, 64, seed) for seed in range(2)])
    alone = torch.cat([teacher.encode_pixels(image[None]) for image in images])
    torch.testing.assert_close(teacher.encode_pixels(images), alone, rtol=0, atol=1e-4)


def test_probabilities_sum_to_one(teacher: ConseTeacher) -> None:
    probabilities = teacher.class_probabilities(random_image(64, 96))
    assert probabilities.min() >= 0
    torch.testing.assert_close(probabilities.sum(1), torch.ones(1, *probabilities.shape[2:]))


def test_nothing_gets_a_gradient(teacher: ConseTeacher) -> None:
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert not any(module.training for module in teacher.modules())
    assert not teacher.encode_pixels(random_image(32, 32).requires_grad_()).requires_grad
    assert not teacher.encode_text(["cat"]).requires_grad


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 1, 32, 32), (1, 4, 32, 32)])
def test_other_than_rgb_batches_are_refused(teacher: ConseTeacher, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected images \(B, 3, H, W\)"):
        teacher.encode_pixels(torch.zeros(shape))


# ----------------------------------------------------------------------------------------------------- photographs


@pytest.mark.parametrize(
    ("name", "fitting"),
    [
        ("cat", {"Egyptian Mau", "tabby cat", "tiger cat"}),
        ("coffee", {"espresso"}),
        ("motorcycle", {"moped", "vespa", "motor scooter", "disc brake", "crash helmet"}),
        ("palace", {"palace", "bell tower", "monastery"}),
        ("flower", {"bee", "daisy"}),
    ],
)
def test_classifier_knows_photographs(teacher: ConseTeacher, name: str, fitting: set[str]) -> None:
    probabilities = teacher.class_probabilities(photograph(name, 320)).mean((2, 3))[0]
    top = {imagenet_classes()[index] for index in probabilities.topk(5).indices}
    assert fitting & top, top


def test_pixels_of_a_photograph_lie_nearest_its_names(teacher: ConseTeacher) -> None:
    words = ["cat", "coffee", "motorcycle"]
    text = teacher.encode_text([f"a photo of a {word}." for word in words])
    for index, name in enumerate(words):
        likeness = torch.einsum("bdhw,kd->bkhw", teacher.encode_pixels(photograph(name)), text)
        share = (likeness.argmax(1) == index).float().mean().item()
        assert share > 0.5, f"{name}: {share:.2f} of the pixels"


# ----------------------------------------------------------------------------------------------------------- confidence


@pytest.fixture(scope="module")
def with_confidence() -> ConseTeacher:
    return ConseTeacher(confidence_dim=True)


def test_confidence_dim_is_zero_in_names(teacher: ConseTeacher, with_confidence: ConseTeacher) -> None:
    prompts = ["a photo of a cat.", "sky"]
    assert with_confidence.embed_dim == teacher.embed_dim + 1 == 385
    torch.testing.assert_close(with_confidence.encode_text(prompts), F.pad(teacher.encode_text(prompts), (0, 1)))


def test_confidence_dim_is_the_length_of_the_mean_name(teacher: ConseTeacher, with_confidence: ConseTeacher) -> None:
    """(c f / |f|, sqrt(1 - c^2)) with c = min(1, 2 |f|), f summed name by name."""
    images = photograph("cat")
    found, plain = with_confidence.encode_pixels(images)[0], teacher.encode_pixels(images)[0]
    torch.testing.assert_close(found.norm(dim=0), torch.ones(found.shape[1:]))
    probabilities = teacher.class_probabilities(images)[0]
    lengths = []
    for y in range(found.shape[1]):
        for x in range(found.shape[2]):
            values, classes = probabilities[:, y, x].topk(30)
            mean = sum(v * teacher.trunk.class_vectors[c] for v, c in zip(values / values.sum(), classes, strict=True))
            lengths.append(float(torch.as_tensor(mean).norm()))
    sure = (2 * torch.tensor(lengths)).clamp(max=1).view(found.shape[1:])
    assert 0.2 < sure.min() < 0.7
    assert sure.max() > 0.8
    torch.testing.assert_close(found[-1], (1 - sure**2).clamp(min=0).sqrt(), rtol=0, atol=2e-3)
    torch.testing.assert_close(found[:-1], sure * plain, rtol=0, atol=1e-4)


def test_confidence_dim_keeps_the_order_of_names(teacher: ConseTeacher, with_confidence: ConseTeacher) -> None:
    names, images = ["cat", "sky", "cup of coffee", "motorcycle"], photograph("motorcycle")
    answers = [
        torch.einsum("dhw,kd->khw", each.encode_pixels(images)[0], each.encode_text(names)).argmax(0)
        for each in (teacher, with_confidence)
    ]
    assert torch.equal(*answers)


def test_confidence_dim_blank_image_is_less_certain_than_a_cat(with_confidence: ConseTeacher) -> None:
    nothing = with_confidence.encode_pixels(torch.full((1, 3, 256, 256), 0.5))[0, -1]
    assert nothing.mean() > with_confidence.encode_pixels(photograph("cat"))[0, -1].mean() + 0.1


def test_confidence_dim_has_its_own_cache_key(teacher: ConseTeacher, with_confidence: ConseTeacher) -> None:
    assert "doubt" not in teacher.settings
    assert {**teacher.settings, "doubt": 0.5} == with_confidence.settings


def test_unknown_terms_are_those_of_no_vocabulary(teacher: ConseTeacher) -> None:
    names = ["xqzt", "a cat and qqq", "猫", "XYZ", "kitchen 🐱"]
    assert teacher.unknown_terms(names) == ["xqzt", "qqq", "猫", "XYZ", "🐱"]
    shipped = [word for name in builtin_class_files() for words in load_classes(name).aliases for word in words]
    assert teacher.unknown_terms([*shipped, *imagenet_classes(), "foal", "TV", "x-ray", "boeing 747"]) == []


# ------------------------------------------------------------------------------------------------------- hypernyms


@pytest.fixture(scope="module")
def wider_teacher() -> ConseTeacher:
    return ConseTeacher(hypernyms=0.25)


def test_hypernyms_join_the_vectors_of_their_classes_by_the_equation(wider_teacher: ConseTeacher) -> None:
    wider, found = imagenet_hypernyms(), wider_teacher.trunk.class_vectors
    place, bare = imagenet_classes().index("scuba diver"), wider.index(())
    assert wider[place] == ("diver", "person")
    names = ["scuba diver", "diver", "person", imagenet_classes()[bare]]
    class_, near, far, own = (wider_teacher.sentences([name])[0] for name in names)
    wanted = class_ + 0.25 * near + 0.25 * 0.8 * far
    # rows are centered: their differences are not
    torch.testing.assert_close(found[place] - found[bare], wanted / wanted.norm() - own, rtol=0, atol=1e-4)
    assert found.mean(0).abs().max() < 1e-6


def test_hypernyms_move_classes_to_their_wider_names_and_leave_text_as_it_is(
    teacher: ConseTeacher, wider_teacher: ConseTeacher
) -> None:
    text = wider_teacher.encode_text(["dog", "person"])
    assert torch.equal(text, teacher.encode_text(["dog", "person"]))
    place = [imagenet_classes().index(name) for name in ("Chihuahua", "scuba diver")]
    before, after = (F.normalize(each.trunk.class_vectors[place], dim=1) for each in (teacher, wider_teacher))
    assert ((after * text).sum(1) > (before * text).sum(1) + 0.02).all()


def test_hypernyms_have_caches_of_their_own_and_none_keeps_the_old_ones(
    teacher: ConseTeacher, wider_teacher: ConseTeacher
) -> None:
    assert teacher.settings == {"top_k": 30, "upsample": 1.0, "temperature": 1.0}
    assert wider_teacher.settings == teacher.settings | {"hypernyms": [0.25, 0.8]}


def test_imagenet_hypernyms_are_those_of_each_class_in_order() -> None:
    lines = data_lines("imagenet_hypernyms.txt")
    assert [line.rpartition(":")[0] for line in lines] == imagenet_classes()
    wider = imagenet_hypernyms()
    assert max(map(len, wider)) == 4
    assert sum(not names for names in wider) == 17
    assert {name for names in wider for name in names} <= set(data_lines("nouns.txt"))
