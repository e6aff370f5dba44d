"""Names for unknown prototypes: the gap between words and pixels, the vocabulary, and its worth on photographs."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given

from clips4.config import TeacherConfig
from clips4.data.benchmarks.registry import semantic_spec
from clips4.data.class_names import ASSETS, load_classes
from clips4.inference.classifier import ZeroShotClassifier
from clips4.inference.segmenter import Segmenter
from clips4.inference.unknown.name_suggestion import name_scores, nouns, suggest_names
from tests.helpers import COCO, provable, seeds, unit, with_coco
from tests.inference.test_classifier import RUN, NamesTeacher, teacher  # noqa: F401  # the fixture


@provable
@given(seeds)
def test_name_scores_modality_gap_changes_no_name(seed: int) -> None:
    """Names and pixels that agree but for a shift of all words, and one of all pixels, are named as without it."""
    centers = unit(12, 16, seed=seed)
    scores = name_scores(centers, centers, centers)
    assert torch.equal(scores.argmax(1), torch.arange(12))
    torch.testing.assert_close(scores.diagonal(), torch.ones(12, dtype=torch.float64))
    here, there = 3 * unit(16, seed=seed + 1), 3 * unit(16, seed=seed + 2)
    shifted = name_scores(centers + here, centers + there, centers + here)
    torch.testing.assert_close(shifted, scores)


def test_plain_cosines_modality_gap_fails() -> None:
    """What the means are taken off for: one word near the side of all pixels would name everything."""
    words = unit(12, 16, seed=1)
    here = -4 * words[5]
    pixels = F.normalize(words + here, dim=1)
    plain = (pixels @ words.T).argmax(1)
    assert (plain == torch.arange(12)).float().mean() < 0.5
    assert torch.equal(name_scores(pixels, words, pixels).argmax(1)[:5], torch.arange(5))


def test_suggest_names_are_sorted_and_never_known(teacher: NamesTeacher) -> None:  # noqa: F811
    classifier = ZeroShotClassifier(TeacherConfig(), RUN, teacher)
    found = suggest_names(classifier, RUN, 3, ["Cat", "man", "person", "dog", "sofa", "lamp", "dog"])
    assert len(found) == len(RUN.unknown)
    for names in found:
        assert sorted(name for name, _ in names) == ["dog", "lamp", "sofa"]
        assert [score for _, score in names] == sorted((score for _, score in names), reverse=True)
        assert all(-1 <= score <= 1 for _, score in names)
    assert [len(names) for names in suggest_names(classifier, RUN, 9, ["cat", "dog"])] == [1, 1, 1]


def test_suggest_names_without_bank_uses_the_prototypes(teacher: NamesTeacher) -> None:  # noqa: F811
    without = replace(RUN, bank=None)
    found = suggest_names(ZeroShotClassifier(TeacherConfig(), without, teacher), without, 1, ["dog", "sofa", "lamp"])
    assert [len(names) for names in found] == [1, 1, 1]


def test_nouns_file_is_clean_and_names_its_source() -> None:
    words = nouns()
    assert 3000 < len(words) < 6000
    assert len(set(words)) == len(words)
    assert words == sorted(words)
    assert all(re.fullmatch(r"[a-z][a-z' -]+", noun) for noun in words), "plain, lower-case words"
    assert {"zebra", "pizza", "person", "window", "grass", "tree", "sky"} <= set(words)
    header = ASSETS.joinpath("nouns.txt").read_text("utf-8").split("\n", 1)[0]
    assert f"{len(words)} nouns" in header
    text = ASSETS.joinpath("nouns.txt").read_text("utf-8")
    assert "WordNet 3.0 Copyright 2006 by Princeton University" in text


@pytest.mark.parametrize("noun", ["thing", "object", "stuff"])
def test_nouns_without_generic_names(noun: str) -> None:
    assert noun not in nouns()


@with_coco
def test_suggest_names_on_photographs_beats_chance() -> None:
    """The built-in teacher's mean vector over the true masks of a class, named from 400 words: chance is 5 in 400."""
    dataset = semantic_spec("coco128").load(COCO)
    reader = Segmenter.from_teacher("conse", device="cpu")
    sums, every = torch.zeros(len(dataset.classes), 384), []
    for index in range(0, len(dataset), 6):
        truth = dataset.truth(index)
        z = reader.embed(dataset.images[index])
        rows, columns = (
            ((np.arange(n) + 0.5) * side / n).astype(int) for n, side in zip(z.shape[1:], truth.shape, strict=True)
        )
        small = torch.from_numpy(truth[rows][:, columns].ravel().astype(np.int64))
        named = small < len(dataset.classes)
        sums.index_add_(0, small[named], z.flatten(1).T[named])
        every.append(z.flatten(1).T)
    words = [*dict.fromkeys([*dataset.classes.names, *nouns()[::12]])][:400]
    text = reader.classifier.text(load_classes(words))
    present = [index for index in range(len(sums)) if sums[index].any()]
    scores = name_scores(F.normalize(sums[present], dim=1), text, torch.cat(every))
    hits = [index in best for index, best in zip(present, scores.topk(5).indices.tolist(), strict=True)]
    assert len(present) > 20
    assert np.mean(hits) > 0.25, np.mean(hits)
