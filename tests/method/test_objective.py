from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from clips4.config import ExtensionConfig, ObjectiveConfig, SegmentConfig
from clips4.data.label_maps import IGNORED
from clips4.data.views import draw_pixels
from clips4.method.losses.contrastive import pixel_segment_contrast
from clips4.method.objective import Terms, objective
from clips4.method.prototypes import update_unknown
from clips4.method.segments import cut_by_regions, flatten_pixels, pool, spherical_kmeans
from tests.helpers import generator, unit
from tests.reference import losses as reference_losses
from tests.reference import prototypes as reference_prototypes
from tests.reference import segments as reference_segments

SEGMENTS = SegmentConfig(clusters=(2, 2), iterations=3)


class Case(NamedTuple):
    """Two images of two views each."""

    z: Tensor
    regions: Tensor
    pixel_map: Tensor
    prototypes: Tensor


def make_case(seed: int = 0, side: int = 5, ignored: bool = False) -> Case:
    first = torch.randint(-1 if ignored else 0, 3, (2, side, side), generator=generator(seed))
    second = torch.randint(3, 6, (2, side, side), generator=generator(seed + 1))
    return Case(
        z=unit(4, 6, side, side, seed=seed, dim=1),
        regions=torch.cat([first, second]),
        pixel_map=unit(4, 6, side, side, seed=seed + 1, dim=1),
        prototypes=unit(5, 6, seed=seed + 2),
    )


def config(
    contrast: float = 1.0,
    embedding: float = 1.0,
    semantic: float = 1.0,
    contrast_pixels: int = 0,
    exclude_own: bool = False,
) -> ObjectiveConfig:
    return ObjectiveConfig(
        contrast_weight=contrast,
        embedding_weight=embedding,
        semantic_weight=semantic,
        concentration=6.0,
        temperature=0.2,
        exclude_own=exclude_own,
        contrast_pixels=contrast_pixels,
    )


def beyond(context: float = 0.0, text: float = 0.0, apart: bool = False, same_class: bool = False) -> ExtensionConfig:
    return ExtensionConfig(context=context, text_weight=text, unknown_apart=apart, exclude_same_class=same_class)


def expected(case: Case, settings: ObjectiveConfig) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Total and the three terms, by the reference from pixels to losses."""
    clusters = reference_segments.spherical_kmeans(case.z.detach(), 2, 2, 3, 0.5)
    found = reference_segments.cut_by_regions(clusters, case.regions)
    labels = torch.full(clusters.shape, IGNORED)
    for number, pixels in enumerate(found.values()):
        for place in pixels:
            labels[place] = number
    places = [(b, y, x) for b in range(4) for y in range(clusters.shape[1]) for x in range(clusters.shape[2])]
    pixels_z = torch.stack([case.z[b, :, y, x] for b, y, x in places])
    pixels_i = torch.stack([case.pixel_map[b, :, y, x] for b, y, x in places])
    pixel_segment = torch.stack([labels[place] for place in places])
    pixel_region = torch.stack([case.regions[place] for place in places])
    segment_region = torch.tensor([region for _, _, region in found])
    v = reference_segments.pool(pixels_z, pixel_segment, len(found))
    guidance = reference_segments.pool(pixels_i, pixel_segment, len(found))
    contrast = reference_losses.pixel_segment_contrast(
        pixels_z, pixel_region, pixel_segment, v, segment_region, settings.concentration, settings.exclude_own
    ).mean()
    embedding = reference_losses.embedding_consistency(v, guidance).mean()
    semantic = reference_losses.semantic_consistency(v, guidance, case.prototypes, settings.temperature).mean()
    total = (
        settings.contrast_weight * contrast
        + settings.embedding_weight * embedding
        + settings.semantic_weight * semantic
    )
    return total, contrast, embedding, semantic


def run(case: Case, settings: ObjectiveConfig, seed: int = 0) -> Terms:
    drawn = draw_pixels(case.regions.numel(), settings.contrast_pixels, generator(seed))
    return objective(*case, settings, SEGMENTS, drawn if settings.contrast_pixels else None)


# ------------------------------------------------------------------------------------------------------- reference


@pytest.mark.parametrize("exclude_own", [False, True])
@pytest.mark.parametrize("ignored", [False, True])
def test_terms_and_gradient_equal_the_reference(ignored: bool, exclude_own: bool) -> None:
    settings = config(0.7, 1.3, 0.4, exclude_own=exclude_own)
    case = make_case(2, ignored=ignored)
    ours, theirs = (case._replace(z=case.z.clone().requires_grad_()) for _ in range(2))
    terms, wanted = run(ours, settings), expected(theirs, settings)
    for name, value in zip(("total", "contrast", "embedding", "semantic"), wanted, strict=True):
        torch.testing.assert_close(getattr(terms, name), value, rtol=0, atol=1e-10)
    gradients = [torch.autograd.grad(total, z)[0] for total, z in ((terms.total, ours.z), (wanted[0], theirs.z))]
    assert gradients[0].abs().max() > 1e-3
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-10)


def test_total_is_the_weighted_sum_of_the_terms() -> None:
    terms = run(make_case(), config(0.5, 2.0, 3.0))
    weighted = 0.5 * terms.contrast + 2 * terms.embedding + 3 * terms.semantic
    torch.testing.assert_close(terms.total, weighted, rtol=0, atol=1e-12)


# -------------------------------------------------------------------------------------------------------- ablation


@pytest.mark.parametrize("off", ["contrast", "embedding", "semantic"])
def test_weight_of_zero_switches_a_term_off_and_leaves_the_others(off: str) -> None:
    whole = run(make_case(), config())
    settings = config().model_copy(update={f"{off}_weight": 0.0})
    terms = run(make_case(), settings)
    assert getattr(terms, off).item() == 0
    for other in {"contrast", "embedding", "semantic"} - {off}:
        assert torch.equal(getattr(terms, other), getattr(whole, other))
    rest = whole.total - getattr(whole, off)
    torch.testing.assert_close(terms.total, rest, rtol=0, atol=1e-12)


def test_without_semantic_consistency_prototypes_play_no_part() -> None:
    case = make_case()
    other = case._replace(prototypes=unit(9, 6, seed=99))
    assert torch.equal(run(case, config(semantic=0)).total, run(other, config(semantic=0)).total)


def test_with_contrast_alone_the_teacher_plays_no_part() -> None:
    case = make_case()
    other = case._replace(pixel_map=unit(4, 6, 5, 5, seed=99, dim=1))
    only = config(embedding=0, semantic=0)
    assert torch.equal(run(case, only).total, run(other, only).total)


# -------------------------------------------------------------------------------------------------------- guidance


def test_guidance_is_the_teachers_mean_over_the_students_segments() -> None:
    case = make_case(ignored=True)
    segments = cut_by_regions(spherical_kmeans(case.z, (2, 2), 3, 0.5), case.regions)
    wanted = pool(flatten_pixels(case.pixel_map), segments.labels.flatten(), len(segments.region))
    assert torch.equal(run(case, config()).guidance, wanted)


def test_teacher_and_prototypes_get_no_gradient() -> None:
    case = make_case()
    case = case._replace(
        z=case.z.requires_grad_(),
        pixel_map=case.pixel_map.requires_grad_(),
        prototypes=case.prototypes.requires_grad_(),
    )
    run(case, config()).total.backward()
    assert case.z.grad is not None
    assert case.pixel_map.grad is None
    assert case.prototypes.grad is None


# ------------------------------------------------------------------------------------------------- pixels are drawn


def per_pixel_contrast(case: Case) -> Tensor:
    segments = cut_by_regions(spherical_kmeans(case.z, (2, 2), 3, 0.5), case.regions)
    labels = segments.labels.flatten()
    v = pool(flatten_pixels(case.z), labels, len(segments.region))
    return pixel_segment_contrast(
        flatten_pixels(case.z), case.regions.flatten(), labels, v, segments.region, 6.0, reduction="none"
    )


@pytest.mark.parametrize("limit", [0, 100, 1000])
def test_limit_that_is_none_takes_all_pixels(limit: int) -> None:
    terms = run(make_case(), config(contrast_pixels=limit))
    torch.testing.assert_close(terms.contrast, per_pixel_contrast(make_case()).mean(), rtol=0, atol=1e-12)


def test_one_drawn_pixel_gives_the_loss_of_one_pixel_and_not_always_the_same() -> None:
    each = per_pixel_contrast(make_case())
    drawn = torch.stack([run(make_case(), config(contrast_pixels=1), seed).contrast for seed in range(10)])
    assert (drawn[:, None] - each).abs().min(1).values.max() < 1e-12
    assert drawn.unique().numel() > 1


def test_drawn_pixels_depend_on_the_generator_alone() -> None:
    values = []
    for global_seed in (1, 2):
        torch.manual_seed(global_seed)
        values.append(run(make_case(), config(contrast_pixels=20), seed=5).contrast)
    assert torch.equal(*values)


def test_drawing_pixels_leaves_the_other_terms_alone() -> None:
    whole, drawn = run(make_case(), config()), run(make_case(), config(contrast_pixels=10))
    assert torch.equal(whole.embedding, drawn.embedding)
    assert torch.equal(whole.semantic, drawn.semantic)
    assert not torch.equal(whole.contrast, drawn.contrast)


# ------------------------------------------------------------------------------------------- invariances, odd cases


def test_numbers_of_regions_and_order_of_views_do_not_matter() -> None:
    case = make_case(4)
    number, order = torch.tensor([70, 3, 12, 0, 41, 5]), torch.tensor([3, 1, 0, 2])
    changed = Case(case.z[order], number[case.regions][order], case.pixel_map[order], case.prototypes)
    for ours, theirs in zip(run(changed, config())[:4], run(case, config())[:4], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-11)


def test_student_that_equals_the_teacher_has_no_embedding_loss() -> None:
    case = make_case()
    assert run(case._replace(z=case.pixel_map), config()).embedding.abs() < 1e-12


def test_batch_without_any_region_trains_nothing() -> None:
    case = make_case()
    z = case.z.clone().requires_grad_()
    terms = run(case._replace(z=z, regions=torch.full_like(case.regions, IGNORED)), config())
    assert terms.total.item() == 0
    assert terms.guidance.shape == (0, 6)
    (gradient,) = torch.autograd.grad(terms.total, z)
    assert gradient.eq(0).all()


def test_objective_single_precision_stays_single() -> None:
    case = make_case()
    terms = run(
        case._replace(z=case.z.float(), pixel_map=case.pixel_map.float(), prototypes=case.prototypes.float()), config()
    )
    assert all(part.dtype == torch.float32 for part in terms)
    assert all(part.shape == () for part in terms[:4])
    assert terms.total.item() == pytest.approx(run(case, config()).total.item(), rel=1e-3)


class CountWaits(TorchDispatchMode):
    """Counts the operations for which, on a device other than the CPU, the host waits to learn a value or a size."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        masks = name in ("index", "index_put", "index_put_", "_index_put_impl_") and any(
            index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]
        )
        if masks or name in ("_local_scalar_dense", "nonzero", "_unique2", "unique_dim", "masked_select", "equal"):
            self.waits.append(name)
        return func(*args, **(kwargs or {}))


def test_count_waits_of_five_transfers_counts_them() -> None:
    x = torch.arange(4.0)
    with CountWaits() as counted:
        x[x > 1]
        x[x > 1] = 0
        x.max().item()
        bool(x.any())
        x.unique()
    assert len(counted.waits) >= 5


@pytest.mark.parametrize("exclude_own", [False, True])
def test_host_waits_for_the_device_once(exclude_own: bool) -> None:
    case = make_case(ignored=True)
    z = case.z.clone().requires_grad_()
    drawn = draw_pixels(case.regions.numel(), 40, generator(9))
    with CountWaits() as counted:
        terms = objective(
            z, case.regions, case.pixel_map, case.prototypes, config(exclude_own=exclude_own), SEGMENTS, drawn
        )
        terms.total.backward()
        update_unknown(case.prototypes[3:], case.prototypes[:3], terms.guidance, 0.1)
    assert counted.waits == ["_unique2"]  # how many segments there are


def test_context_of_a_segment_is_its_image_in_both_views() -> None:
    case, settings = make_case(), config(contrast=0, embedding=0)
    terms = objective(*case, settings, SEGMENTS, extensions=beyond(context=1.0))
    clusters = spherical_kmeans(case.z, (2, 2), 3, 0.5)
    segments = cut_by_regions(clusters, case.regions)
    v = pool(flatten_pixels(case.z), segments.labels.flatten(), len(segments.region))
    labels = reference_prototypes.assign_in_context(
        terms.guidance, case.prototypes, (segments.view // 2).tolist(), settings.temperature, 1.0
    )
    expected = torch.nn.functional.cross_entropy(v @ case.prototypes.T / settings.temperature, torch.tensor(labels))
    torch.testing.assert_close(terms.semantic, expected)
    plain = objective(case.z, case.regions, case.pixel_map, case.prototypes, config(0, 0, 1), SEGMENTS).semantic
    assert not torch.isclose(terms.semantic, plain), "the case is too tame: the context changes no label"


# --------------------------------------------------------------------------------------- several prototypes per class


def test_terms_and_gradient_of_several_prototypes_equal_the_reference() -> None:
    settings, case = config(0.7, 1.3, 0.4), make_case(2)
    ours, theirs = (case._replace(z=case.z.clone().requires_grad_()) for _ in range(2))
    groups = torch.tensor([0, 0, 1, 1, 2])
    total = objective(*ours, settings, SEGMENTS, groups=groups).total
    of_classes = [case.prototypes[groups == label] for label in range(3)]
    wanted = expected(theirs._replace(prototypes=of_classes), settings)[0]  # type: ignore[arg-type]
    torch.testing.assert_close(total, wanted, rtol=0, atol=1e-10)
    gradients = [torch.autograd.grad(each, z)[0] for each, z in ((total, ours.z), (wanted, theirs.z))]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-10)


@pytest.mark.parametrize("text_temperature", [None, 0.3])
@pytest.mark.parametrize("apart", [False, True])
def test_terms_with_extensions_do_not_depend_on_the_order_of_a_classs_prototypes(
    apart: bool, text_temperature: float | None
) -> None:
    """Three known classes of two prototypes each, two unknown ones; one is repeated, which changes nothing either."""
    case, text, settings = make_case(), unit(3, 6, seed=8), config(1, 0, 1)
    rows, groups, extensions = unit(8, 6, seed=9), torch.tensor([0, 0, 1, 1, 2, 2, 3, 4]), beyond(1.0, 0.7, apart, True)

    def total(order: Sequence[int], given: Tensor | None) -> Tensor:
        own = case._replace(prototypes=rows[list(order)])
        beside = {"extensions": extensions, "text_temperature": text_temperature, "groups": given}
        return objective(*own, settings, SEGMENTS, text=text, **beside).total  # type: ignore[arg-type]

    first = total(range(8), groups)
    orders = ((1, 0, 2, 3, 5, 4, 6, 7), (0, 1, 0, 3, 2, 4, 5, 6, 7))
    others = [total(order, groups[list(order)]) for order in orders]
    assert not torch.isclose(first, total((0, 2, 4, 6, 7), None))
    for other in others:
        torch.testing.assert_close(other, first, rtol=0, atol=1e-12)


# ------------------------------------------------------------------------------------- text vectors beside prototypes


def with_text(case: Case, extensions: ExtensionConfig, text: Tensor | None) -> Tensor:
    return objective(*case, config(0, 0, 1), SEGMENTS, text=text, extensions=extensions).semantic


@pytest.mark.parametrize("context", [0.0, 1.0])
def test_text_vectors_are_held_to_the_class_that_prototypes_give(context: float) -> None:
    """L_s + w CE(y_s, softmax(v_s . [text, unknown prototypes] / tau)), y_s being that of the prototypes."""
    case, text = make_case(), unit(3, 6, seed=8)  # three known classes, two unknown
    ours = case._replace(z=case.z.clone().requires_grad_())
    semantic = with_text(ours, beyond(context, text=0.7), text)
    theirs = case._replace(z=case.z.clone().requires_grad_())
    segments = cut_by_regions(spherical_kmeans(theirs.z.detach(), (2, 2), 3, 0.5), case.regions)
    v = pool(flatten_pixels(theirs.z), segments.labels.flatten(), len(segments.region))
    guidance = pool(flatten_pixels(case.pixel_map), segments.labels.flatten(), len(segments.region))
    labels = torch.tensor(
        reference_prototypes.assign_in_context(guidance, case.prototypes, (segments.view // 2).tolist(), 0.2, context)
    )
    assert (labels < 3).any()
    assert (labels >= 3).any()
    words = torch.cat([text, case.prototypes[3:]])
    by_prototypes, by_words = (
        torch.nn.functional.cross_entropy(v @ vectors.T / 0.2, labels) for vectors in (case.prototypes, words)
    )
    torch.testing.assert_close(semantic, by_prototypes + 0.7 * by_words)
    gradients = [
        torch.autograd.grad(each, z)[0] for each, z in ((semantic, ours.z), (by_prototypes + 0.7 * by_words, theirs.z))
    ]
    torch.testing.assert_close(*gradients)


def test_text_where_it_equals_the_prototypes_counts_them_twice() -> None:
    case = make_case()
    once = with_text(case, beyond(), None)
    torch.testing.assert_close(with_text(case, beyond(text=1.0), case.prototypes[:3]), 2 * once)


def test_text_that_is_wanted_and_not_given_is_an_error() -> None:
    with pytest.raises(ValueError, match="text_weight"):
        with_text(make_case(), beyond(text=1.0), None)


# ------------------------------------------------------------------------------------ unknown classes that stand apart


@pytest.mark.parametrize(("context", "weight"), [(0.0, 0.0), (1.0, 0.0), (1.0, 0.7)])
def test_segments_of_unknown_classes_learn_their_known_class_as_well(context: float, weight: float) -> None:
    """L_s(s) = CE(y_s, C) + [y_s is unknown] CE(k_s, C_known), segment by segment; and the same by words."""
    case, text = make_case(), unit(3, 6, seed=8)  # three known classes, two unknown
    ours = case._replace(z=case.z.clone().requires_grad_())
    semantic = with_text(ours, beyond(context, weight, apart=True), text)
    theirs = case._replace(z=case.z.clone().requires_grad_())
    segments = cut_by_regions(spherical_kmeans(theirs.z.detach(), (2, 2), 3, 0.5), case.regions)
    v = pool(flatten_pixels(theirs.z), segments.labels.flatten(), len(segments.region))
    guidance = pool(flatten_pixels(case.pixel_map), segments.labels.flatten(), len(segments.region))
    images = (segments.view // 2).tolist()
    known = reference_prototypes.assign_in_context(guidance, case.prototypes[:3], images, 0.2, context)
    losses, unknowns = [], 0
    for row, i, k in zip(v, guidance, known, strict=True):
        nearest = max(range(5), key=lambda index: float(i @ case.prototypes[index]))
        y = nearest if nearest >= 3 else k
        unknowns += y >= 3
        loss = row.new_zeros(())
        for share, vectors in ((1.0, case.prototypes), (weight, torch.cat([text, case.prototypes[3:]]))):
            cosines = vectors @ row / 0.2
            loss = loss - share * (cosines[y] - cosines.logsumexp(0))
            if y >= 3:
                loss = loss - share * (cosines[k] - cosines[:3].logsumexp(0))
        losses.append(loss)
    assert 0 < unknowns < len(losses)
    expected = torch.stack(losses).mean()
    torch.testing.assert_close(semantic, expected)
    gradients = [torch.autograd.grad(each, z)[0] for each, z in ((semantic, ours.z), (expected, theirs.z))]
    torch.testing.assert_close(*gradients)


def test_without_unknown_classes_nothing_is_separate() -> None:
    case = make_case()
    alone = case._replace(prototypes=case.prototypes[:3])
    apart, together = (with_text(alone, beyond(1.0, 0.5, apart=apart), unit(3, 6, seed=8)) for apart in (True, False))
    torch.testing.assert_close(apart, together)


def test_unknown_classes_that_are_separate_need_the_number_of_known_ones() -> None:
    with pytest.raises(ValueError, match="unknown_apart"):
        with_text(make_case(), beyond(apart=True), None)


# ------------------------------------------------------------------------------- L_t that spares what is of one class


@pytest.mark.parametrize(("context", "apart"), [(0.0, False), (1.0, False), (1.0, True)])
@pytest.mark.parametrize("semantic_weight", [0.0, 1.0])
def test_segments_that_the_teacher_calls_alike_leave_the_contrast(
    semantic_weight: float, context: float, apart: bool
) -> None:
    case, text = make_case(), unit(3, 6, seed=8)  # three known classes, two unknown
    settings, extensions = config(1, 0, semantic_weight), beyond(context, apart=apart, same_class=True)
    ours = case._replace(z=case.z.clone().requires_grad_())
    contrast = objective(*ours, settings, SEGMENTS, text=text, extensions=extensions).contrast
    theirs = case._replace(z=case.z.clone().requires_grad_())
    segments = cut_by_regions(spherical_kmeans(theirs.z.detach(), (2, 2), 3, 0.5), case.regions)
    pixels, labels = flatten_pixels(theirs.z), segments.labels.flatten()
    v = pool(pixels, labels, len(segments.region))
    guidance = pool(flatten_pixels(case.pixel_map), labels, len(segments.region))
    candidates = case.prototypes[:3] if apart else case.prototypes
    y = torch.tensor(
        reference_prototypes.assign_in_context(guidance, candidates, (segments.view // 2).tolist(), 0.2, context)
    )
    if apart:
        nearest = (guidance @ case.prototypes.T).argmax(1)
        y = torch.where(nearest >= 3, nearest, y)
    expected = reference_losses.pixel_segment_contrast(
        pixels, case.regions.flatten(), labels, v, segments.region, settings.concentration, segment_class=y
    ).mean()
    torch.testing.assert_close(contrast, expected)
    plain = objective(*case, config(1, 0, 0), SEGMENTS).contrast
    assert contrast.item() < plain.item() - 1e-3, "the case is too tame: nothing is spared"
    gradients = [torch.autograd.grad(each, z)[0] for each, z in ((contrast, ours.z), (expected, theirs.z))]
    torch.testing.assert_close(*gradients)
