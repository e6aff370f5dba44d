"""Names into vectors: known classes by prototypes, new names by the bank, backgrounds, and what each came by."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from threading import Thread

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from clips4.config import TeacherConfig
from clips4.data.class_names import load_classes
from clips4.errors import UserError
from clips4.inference.classifier import ZeroShotClassifier
from clips4.inference.refine.background import BackgroundRule, parse_background
from clips4.method.prototypes import BANK_NEAREST
from clips4.models.checkpoint import Prototypes
from tests.helpers import FakeTeacher, unit


class NamesTeacher(FakeTeacher):
    """A teacher whose vector of a word is always the same, whatever it is asked with."""

    embed_dim = 6

    def __init__(self) -> None:
        super().__init__("names")
        self.prompts: list[str] = []

    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        self.prompts += prompts
        return torch.cat([unit(1, 6, seed=sum(map(ord, prompt)), dtype=torch.float32) for prompt in prompts])

    def vector(self, *names: str) -> Tensor:
        rows = torch.stack([unit(6, seed=sum(map(ord, f"a photo of a {w}.")), dtype=torch.float32) for w in names])
        return F.normalize(rows.mean(0), dim=0)


BANK = unit(40, 6, seed=9, dtype=torch.float32).half()
RUN = Prototypes(
    load_classes(["cat", "person: man, woman"]),
    unit(2, 6, seed=1, dtype=torch.float32),
    unit(2, 6, seed=2, dtype=torch.float32),
    unit(3, 6, seed=3, dtype=torch.float32),
    BANK,
)


@pytest.fixture
def teacher(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> NamesTeacher:
    monkeypatch.setenv("CLIPS4_CACHE", str(tmp_path_factory.mktemp("cache")))
    return NamesTeacher()


def classifier(teacher: NamesTeacher, prototypes: Prototypes | None = RUN) -> ZeroShotClassifier:
    return ZeroShotClassifier(TeacherConfig(), prototypes, teacher)


def by_bank(text: Tensor) -> Tensor:
    """The definition, literally."""
    order = sorted(range(len(BANK)), key=lambda i: -float(BANK[i].float() @ text))
    mean = sum((BANK[i].float() for i in order[:BANK_NEAREST]), torch.zeros(6))
    return mean / mean.norm()


def test_query_known_name_by_prototype_new_name_by_bank(teacher: NamesTeacher) -> None:
    query = classifier(teacher).query("cat, dog")
    assert query.names == ("cat", "dog")
    assert query.sources == ("prototype", "bank")
    assert torch.equal(query.vectors[0], RUN.known[0])
    torch.testing.assert_close(query.vectors[1], by_bank(teacher.vector("dog")))


def test_query_new_name_has_the_text_prior_of_the_run(teacher: NamesTeacher) -> None:
    vector = classifier(teacher, replace(RUN, text_prior=2.0)).query("dog").vectors[0]
    text = teacher.vector("dog")
    torch.testing.assert_close(vector, F.normalize(by_bank(text) + 2 * text, dim=0))


def test_query_without_bank_new_name_is_text(teacher: NamesTeacher) -> None:
    for prototypes in (replace(RUN, bank=None), replace(RUN, bank=BANK[:0]), None):
        query = classifier(teacher, prototypes).query("dog")
        assert query.sources == ("text",)
        torch.testing.assert_close(query.vectors[0], teacher.vector("dog"))


def test_query_by_text_uses_text_vectors_only(teacher: NamesTeacher) -> None:
    query = classifier(teacher).query("dog,cat", "text")
    assert query.sources == ("text", "text")
    torch.testing.assert_close(query.vectors, torch.stack([teacher.vector("dog"), RUN.text[0]]))


def test_query_of_the_run_loads_no_teacher() -> None:
    own = ZeroShotClassifier(TeacherConfig(name="/nowhere"), RUN)
    assert torch.equal(own.query().vectors, RUN.known)
    assert own.query().sources == ("prototype", "prototype")
    assert torch.equal(own.query(None, "text").vectors, RUN.text)
    with pytest.raises(UserError, match="/nowhere"):
        own.query("dog")


def test_query_name_with_other_aliases_is_another_class(teacher: NamesTeacher) -> None:
    ask = classifier(teacher)
    assert ask.query(["person"]).sources == ("prototype",)
    assert ask.query(["Person: Woman, man"]).sources == ("prototype",)
    assert ask.query(["cat"]).vectors.equal(ask.query(["CAT"]).vectors)
    query = ask.query(["person: man"])
    assert query.sources == ("bank",)
    torch.testing.assert_close(query.vectors[0], by_bank(teacher.vector("man")))


def test_query_aliases_are_averaged(teacher: NamesTeacher) -> None:
    vectors = classifier(teacher, None).query(["pet: dog, hamster"]).vectors
    torch.testing.assert_close(vectors[0], teacher.vector("dog", "hamster"))


def test_text_repeated_name_is_not_encoded_again(teacher: NamesTeacher) -> None:
    ask = classifier(teacher)
    ask.query("dog, sofa")
    ask.query("sofa, dog, lamp")
    ask.query("lamp")
    assert sorted(teacher.prompts) == [f"a photo of a {word}." for word in ("dog", "lamp", "sofa")]


def test_text_cache_is_bounded(teacher: NamesTeacher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clips4.inference.classifier.CACHED_NAMES", 3)
    ask = classifier(teacher, None)
    first = ask.query("a1,a2,a3").vectors
    ask.query("b1,b2")
    shutil.rmtree(os.environ["CLIPS4_CACHE"])  # what is on disk is another cache
    torch.testing.assert_close(ask.query("a1,a2,a3").vectors, first)
    assert teacher.prompts.count("a photo of a a1.") == 2, "a1 was dropped, and encoded again"
    assert len(ask.query("c1,c2,c3,c4,c5").vectors) == 5


def test_query_from_threads_gives_equal_vectors(teacher: NamesTeacher) -> None:
    ask = classifier(teacher)
    lists = [[f"word{(n + k) % 7}" for k in range(3)] for n in range(24)]
    found: dict[int, Tensor] = {}
    threads = [Thread(target=lambda n=n: found.update({n: ask.query(lists[n]).vectors})) for n in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for n, names in enumerate(lists):
        expected = torch.stack([by_bank(teacher.vector(word)) for word in names])
        torch.testing.assert_close(found[n], expected)
    assert len(teacher.prompts) == 7


# ------------------------------------------------------------------------------------------------------- background


def test_query_background_names_share_one_label(teacher: NamesTeacher) -> None:
    query = classifier(teacher).query("cat,dog", background=parse_background("wall, person"))
    assert query.names == ("cat", "dog", "background")
    assert query.owner.tolist() == [0, 1, 2, 2]
    torch.testing.assert_close(query.vectors[2], by_bank(teacher.vector("wall")))
    assert torch.equal(query.vectors[3], RUN.known[1]), "a background word may be a class of the run"
    assert query.sources == ("prototype", "bank", "bank")
    assert query.background_label == 2


def test_query_class_named_background_is_the_background(teacher: NamesTeacher) -> None:
    query = classifier(teacher).query("background,cat,dog", background=BackgroundRule(probability=0.4))
    assert query.names == ("background", "cat", "dog")
    assert query.background_label == 0
    query = classifier(teacher).query(["background: wall", "cat"], background=parse_background("sky"))
    assert query.owner.tolist() == [0, 1, 0]


def test_query_impossible_background_is_refused(teacher: NamesTeacher) -> None:
    with pytest.raises(UserError, match="always has probability 1"):
        classifier(teacher).query("cat", background=BackgroundRule(probability=0.5))
    with pytest.raises(UserError, match="'cat' is a class too"):
        classifier(teacher).query("cat,dog", background=BackgroundRule(("Cat",)))
    with pytest.raises(UserError, match="has no classes; give some"):
        classifier(teacher, None).query()
    with pytest.raises(UserError, match="choose prototypes or text"):
        classifier(teacher).query("cat", "pictures")  # type: ignore[arg-type]


def test_query_single_class_accepts_a_cosine(teacher: NamesTeacher) -> None:
    query = classifier(teacher).query("cat", background=BackgroundRule(cosine=0.25))
    assert query.names == ("cat", "background")
    assert query.sources == ("prototype", "rule")


# --------------------------------------------------------------------------------------------- several prototypes


SEVERAL = replace(RUN, known=unit(6, 6, seed=4, dtype=torch.float32), per_class="nearest")


def test_query_of_several_prototypes_has_all_of_a_class_and_the_segments_of_a_new_name(teacher: NamesTeacher) -> None:
    query = classifier(teacher, SEVERAL).query(["dog", "person: man, woman"])
    assert query.names == ("dog", "person")
    assert query.sources == ("bank", "prototype")
    assert query.owner.tolist() == [0] * BANK_NEAREST + [1] * 3
    assert query.groups is query.owner
    assert torch.equal(query.vectors[BANK_NEAREST:], SEVERAL.known[3:])
    text = teacher.vector("dog")
    order = sorted(range(len(BANK)), key=lambda i: -float(BANK[i].float() @ text))[:BANK_NEAREST]
    torch.testing.assert_close(query.vectors[:BANK_NEAREST], F.normalize(BANK[order].float(), dim=1))


def test_query_of_several_prototypes_background_names_share_one_label(teacher: NamesTeacher) -> None:
    query = classifier(teacher, SEVERAL).query("cat", background=parse_background("wall, sky"))
    assert query.names == ("cat", "background")
    assert query.owner.tolist() == [0] * 3 + [1] * 2 * BANK_NEAREST


def test_query_of_several_prototypes_by_text_or_example_has_one_vector(teacher: NamesTeacher) -> None:
    by_text = classifier(teacher, SEVERAL).query("cat, dog", "text")
    assert by_text.owner.tolist() == [0, 1]
    assert by_text.groups is None
    shown = classifier(teacher, SEVERAL)
    shown.examples["cat"] = unit(6, seed=5, dtype=torch.float32)
    query = shown.query(["cat", "person: man, woman"])
    assert query.owner.tolist() == [0, 1, 1, 1]
    assert query.sources == ("examples", "prototype")
    assert torch.equal(query.vectors[0], shown.examples["cat"])
