import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clips4.method.class_scores import assign, assign_in_context, class_scores, log_probability
from tests.helpers import generator, provable, seeds, unit
from tests.reference import prototypes as reference

GROUPS = torch.tensor([0, 0, 0, 1, 1, 2, 3])  # classes of three, two, one and one vectors


def of_classes(rows: torch.Tensor) -> list[torch.Tensor]:
    return [rows[label == GROUPS] for label in range(4)]


# ---------------------------------------------------------------------------------------------------------- scores


@provable
@given(seeds)
def test_score_of_a_class_equals_the_reference(seed: int) -> None:
    z, rows = unit(6, 5, seed=seed), unit(7, 5, seed=seed + 1)
    expected = [[reference.score(row, each) for each in of_classes(rows)] for row in z]
    torch.testing.assert_close(class_scores(z @ rows.T, GROUPS), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("dim", [0, 1, -1, -2])
def test_class_scores_any_dimension_is_the_same(dim: int) -> None:
    cosines = unit(7, 7, seed=3)
    moved = cosines.movedim(dim, -1)
    assert torch.equal(class_scores(cosines, GROUPS, dim), class_scores(moved, GROUPS).movedim(-1, dim))


def test_class_scores_one_vector_per_class_are_the_cosines_bit_for_bit() -> None:
    cosines = unit(5, 7)
    assert class_scores(cosines, None) is cosines
    assert torch.equal(class_scores(cosines, torch.arange(7)), cosines)


@provable
@given(seeds)
def test_class_scores_do_not_depend_on_the_order_of_vectors(seed: int) -> None:
    cosines, order = unit(5, 7, seed=seed), torch.randperm(7, generator=generator(seed))
    assert torch.equal(class_scores(cosines[:, order], GROUPS[order]), class_scores(cosines, GROUPS))


def test_class_scores_repeated_vectors_change_nothing() -> None:
    cosines = unit(5, 7)
    more, groups = torch.cat([cosines, cosines[:, :3]], 1), torch.cat([GROUPS, GROUPS[:3]])
    assert torch.equal(class_scores(more, groups), class_scores(cosines, GROUPS))


def test_class_scores_double_precision_pass_gradcheck() -> None:
    assert torch.autograd.gradcheck(lambda cosines: class_scores(cosines, GROUPS), (unit(4, 7).requires_grad_(),))


def test_gradient_of_equally_near_vectors_is_shared() -> None:
    cosines = torch.tensor([[0.5, 0.5, 0.1]], requires_grad=True)
    class_scores(cosines, torch.tensor([0, 0, 0])).sum().backward()
    assert cosines.grad is not None
    assert cosines.grad.tolist() == [[0.5, 0.5, 0.0]]


@provable
@given(seeds)
def test_log_probability_sums_to_one_over_classes_and_equals_the_reference(seed: int) -> None:
    z, rows = unit(6, 5, seed=seed), unit(7, 5, seed=seed + 1)
    expected = [reference.probabilities(row, of_classes(rows), 0.3) for row in z]
    found = log_probability(z @ rows.T, 0.3, GROUPS).exp()
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-10)


# ---------------------------------------------------------------------------------------------------------- assign


@provable
@given(seeds)
def test_assign_equals_the_reference(seed: int) -> None:
    guidance, prototypes = unit(10, 4, seed=seed), unit(5, 4, seed=seed + 1)
    labels = assign(guidance, prototypes)
    assert labels.dtype == torch.int64
    assert labels.tolist() == reference.assign(guidance, prototypes)


def test_assign_finds_each_prototype_its_own_place() -> None:
    prototypes = unit(6, 8)
    assert assign(prototypes, prototypes).tolist() == list(range(6))


def test_assign_of_no_segment() -> None:
    assert assign(torch.zeros(0, 4), torch.eye(4)).shape == (0,)


@provable
@given(seeds)
def test_assign_by_several_vectors_equals_the_reference(seed: int) -> None:
    guidance, rows = unit(10, 4, seed=seed), unit(7, 4, seed=seed + 1)
    assert assign(guidance, rows, GROUPS).tolist() == reference.assign(guidance, of_classes(rows))


# --------------------------------------------------------------------------------------------- the rest of the picture


@provable
@given(seeds, st.sampled_from([0.1, 0.5, 1.0, 2.0]))
def test_assignment_in_context_equals_the_reference(seed: int, context: float) -> None:
    guidance, prototypes = unit(9, 4, seed=seed), unit(5, 4, seed=seed + 1)
    image = torch.randint(0, 3, (9,), generator=generator(seed))
    expected = reference.assign_in_context(guidance, prototypes, image.tolist(), 0.2, context)
    assert assign_in_context(guidance, prototypes, image, 3, 0.2, context).tolist() == expected


def test_without_context_it_is_the_papers_assignment() -> None:
    guidance, prototypes = unit(20, 4), unit(5, 4, seed=1)
    found = assign_in_context(guidance, prototypes, torch.zeros(20, dtype=torch.int64), 1, 0.1, 0.0)
    assert torch.equal(found, assign(guidance, prototypes))


def test_uncertain_segment_follows_the_rest_of_its_image_alone() -> None:
    prototypes = torch.eye(2, dtype=torch.float64)
    doubtful = torch.tensor([0.69, 0.72], dtype=torch.float64)  # a little nearer to the second class
    guidance = torch.stack([prototypes[0], prototypes[0], doubtful, prototypes[1], prototypes[1], doubtful])
    image = torch.tensor([0, 0, 0, 1, 1, 1])
    assert assign_in_context(guidance, prototypes, image, 2, 0.1, 1.0).tolist() == [0, 0, 0, 1, 1, 1]
    assert assign_in_context(guidance[3:], prototypes, image[3:] - 1, 1, 0.1, 1.0).tolist() == [1, 1, 1]


@provable
@given(seeds, st.sampled_from([0.0, 0.5, 1.0]))
def test_assignment_in_context_by_several_vectors_equals_the_reference(seed: int, context: float) -> None:
    guidance, rows = unit(9, 4, seed=seed), unit(7, 4, seed=seed + 1)
    image = torch.randint(0, 3, (9,), generator=generator(seed))
    expected = reference.assign_in_context(guidance, of_classes(rows), image.tolist(), 0.2, context)
    assert assign_in_context(guidance, rows, image, 3, 0.2, context, GROUPS).tolist() == expected
