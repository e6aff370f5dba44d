from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from clips4.data.class_names import ClassList
from clips4.errors import UserError
from clips4.models.teachers.text.prompts import class_vectors, load_templates
from tests.helpers import generator

THREE = ClassList(("cat", "dining table", "person"), (("cat",), ("dining table",), ("man", "woman")))


def test_eighty_templates_have_one_place_each() -> None:
    templates = load_templates("imagenet-80")
    assert len(templates) == len(set(templates)) == 80
    for template in templates:
        assert template.count("{}") == 1
        assert template.count("{") == template.count("}") == 1
        assert "cat" in template.format("cat")


def test_maskclips_templates_are_the_eighty_and_five_of_scenes() -> None:
    templates = load_templates("maskclip-85")
    assert len(templates) == len(set(templates)) == 85
    assert templates[:80] == load_templates("imagenet-80")
    assert all(template.count("{}") == 1 and template.endswith(" {} in the scene.") for template in templates[80:])


def test_load_templates_simple_is_one_template() -> None:
    assert load_templates("simple") == ["a photo of a {}."]


def test_unknown_templates_list_those_there_are() -> None:
    with pytest.raises(UserError, match="unknown prompt templates 'best'; there is imagenet-80, maskclip-85, simple"):
        load_templates("best")


class FakeEncoder:
    """A vector per prompt, not of unit length, the same whenever it is asked."""

    def __init__(self) -> None:
        self.prompts: list[str] = []

    def vector(self, prompt: str) -> Tensor:
        seed = int.from_bytes(prompt.encode()[:7], "big") + len(prompt) * 1009 + sum(prompt.encode())
        return torch.randn(6, generator=generator(seed), dtype=torch.float64) * (1 + len(prompt))

    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        self.prompts += prompts
        return torch.stack([self.vector(prompt) for prompt in prompts])


TEMPLATES = ["a {}.", "the {} in the picture", "{}"]


def test_class_vectors_equal_the_ensemble_by_loops() -> None:
    encoder, rows = FakeEncoder(), []
    for words in THREE.aliases:
        total, prompts = torch.zeros(6, dtype=torch.float64), 0
        for word in words:
            for template in TEMPLATES:
                vector = encoder.vector(template.replace("{}", word))
                total += vector / vector.norm()
                prompts += 1
        mean = total / prompts
        rows.append(mean / mean.norm())
    torch.testing.assert_close(class_vectors(encoder, THREE, TEMPLATES), torch.stack(rows), rtol=0, atol=1e-10)


def test_class_vectors_encode_every_alias_in_every_template_once() -> None:
    encoder = FakeEncoder()
    class_vectors(encoder, THREE, TEMPLATES)
    words = [word for group in THREE.aliases for word in group]
    assert sorted(encoder.prompts) == sorted(t.replace("{}", word) for word in words for t in TEMPLATES)


@pytest.mark.parametrize("limit", [1, 5, 6, 7, 100])
def test_long_list_is_encoded_some_at_a_time_and_the_same(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    whole = class_vectors(FakeEncoder(), THREE, TEMPLATES)
    monkeypatch.setattr("clips4.models.teachers.text.prompts.PROMPTS_AT_ONCE", limit)
    batches: list[int] = []

    class Counting(FakeEncoder):
        def encode_text(self, prompts: Sequence[str]) -> Tensor:
            batches.append(len(prompts))
            return super().encode_text(prompts)

    torch.testing.assert_close(class_vectors(Counting(), THREE, TEMPLATES), whole, rtol=0, atol=0)
    assert sum(batches) == 12
    assert max(batches) <= max(limit, 6), "a class of two words in three templates stays together"


def test_class_vectors_are_unit_rows_in_the_order_of_the_classes() -> None:
    vectors = class_vectors(FakeEncoder(), THREE, TEMPLATES)
    assert vectors.shape == (3, 6)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(3, dtype=torch.float64))
    backwards = ClassList(THREE.names[::-1], THREE.aliases[::-1])
    torch.testing.assert_close(class_vectors(FakeEncoder(), backwards, TEMPLATES), vectors.flip(0))


def test_one_name_in_one_template_is_its_own_vector() -> None:
    encoder = FakeEncoder()
    vector = encoder.vector("a photo of a cat.")
    classes = ClassList(("cat",), (("cat",),))
    torch.testing.assert_close(class_vectors(encoder, classes, ["a photo of a {}."]), (vector / vector.norm())[None])


def test_name_with_braces_is_a_name() -> None:
    encoder = FakeEncoder()
    class_vectors(encoder, ClassList(("a {b}",), (("a {b}",),)), ["the {}."])
    assert encoder.prompts == ["the a {b}."]
