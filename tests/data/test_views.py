"""One grid carries picture, regions and teacher's map: all three are made to say where they lie, and must agree."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from torch import Tensor

from clips4.config import DataConfig
from clips4.data.label_maps import IGNORED
from clips4.data.views import JITTER, make_views, photometric, sample_crop, warp_image, warp_map, warp_regions
from tests.helpers import generator, provable, seeds, unit

HEIGHT, WIDTH, CROP, STRIDE = 60, 96, 32, 8
PLAIN = DataConfig(crop=CROP, jitter_prob=0, grayscale_prob=0)
WHOLE = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


def coordinates(height: int, width: int) -> Tensor:
    """(3, h, w): x and y of pixel centres in [0, 1], and 1."""
    y, x = torch.meshgrid((torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width, indexing="ij")
    return torch.stack([x, y, torch.ones_like(x)])


def numbered(height: int, width: int) -> Tensor:
    return torch.arange(height * width).view(height, width)


def corners(crop: Tensor) -> Tensor:
    return crop @ torch.tensor([[-1.0, 1, -1, 1], [-1, -1, 1, 1], [1, 1, 1, 1]])


# ----------------------------------------------------------------------------------------------------------- crops


@provable
@given(seeds)
def test_crops_lie_inside_the_image_and_cover_the_configured_share(seed: int) -> None:
    config = DataConfig(scale=(0.3, 0.6))
    crop = sample_crop(100, 120, config, generator(seed))
    assert corners(crop).abs().max() <= 1 + 1e-6
    assert crop[0, 1] == crop[1, 0] == 0
    half_width, half_height = crop[0, 0].abs().item(), crop[1, 1].item()
    assert 0.3 - 1e-6 <= half_width * half_height <= 0.6 + 1e-6
    assert 0.75 - 1e-5 <= (half_width * 120) / (half_height * 100) <= 1.333 + 1e-5


@provable
@given(seeds)
def test_crops_of_a_narrow_image_are_cut_to_it(seed: int) -> None:
    crop = sample_crop(400, 40, DataConfig(scale=(0.8, 1.0)), generator(seed))
    assert corners(crop).abs().max() <= 1 + 1e-6
    assert crop[0, 0].abs() == 1


def test_crops_reach_all_over_the_image() -> None:
    config = DataConfig(scale=(0.05, 0.1), flip_prob=0)
    centers = torch.stack([sample_crop(100, 100, config, generator(seed))[:, 2] for seed in range(300)])
    assert (centers.min(0).values < -0.5).all()
    assert (centers.max(0).values > 0.5).all()
    assert centers.mean(0).abs().max() < 0.1


@pytest.mark.parametrize(("probability", "low", "high"), [(0.0, 0, 0), (1.0, 200, 200), (0.5, 70, 130)])
def test_crops_are_flipped_as_often_as_configured(probability: float, low: int, high: int) -> None:
    config = DataConfig(flip_prob=probability)
    flipped = sum(bool(sample_crop(64, 64, config, generator(seed))[0, 0] < 0) for seed in range(200))
    assert low <= flipped <= high


def test_flip_probability_does_not_move_the_crop() -> None:
    plain = sample_crop(64, 80, DataConfig(flip_prob=0), generator(4))
    flipped = sample_crop(64, 80, DataConfig(flip_prob=1), generator(4))
    assert torch.equal(plain * torch.tensor([[-1.0, 1, 1], [1, 1, 1]]), flipped)


# ------------------------------------------------------------------------------------------------------ one by one


def test_whole_image_at_its_own_size_is_unchanged() -> None:
    image = torch.rand(3, 32, 32, generator=generator(0))
    torch.testing.assert_close(warp_image(image, WHOLE, 32), image, rtol=0, atol=1e-5)
    torch.testing.assert_close(warp_map(unit(5, 8, 8, dim=0).float(), WHOLE, 8), unit(5, 8, 8, dim=0).float())
    assert torch.equal(warp_regions(numbered(16, 16), WHOLE, 16), numbered(16, 16))


def test_warp_with_a_mirrored_grid_flips_columns() -> None:
    mirror = WHOLE * torch.tensor([[-1.0], [1.0]])
    image = torch.rand(3, 32, 32, generator=generator(0))
    torch.testing.assert_close(warp_image(image, mirror, 32), image.flip(2), rtol=0, atol=1e-5)
    assert torch.equal(warp_regions(numbered(16, 16), mirror, 16), numbered(16, 16).flip(1))


def test_quarter_is_cut_out_exactly() -> None:
    lower_left = torch.tensor([[0.5, 0.0, -0.5], [0.0, 0.5, 0.5]])
    image = torch.rand(3, 32, 32, generator=generator(0))
    torch.testing.assert_close(warp_image(image, lower_left, 16), image[:, 16:, :16], rtol=0, atol=1e-5)
    assert torch.equal(warp_regions(numbered(32, 32), lower_left, 16), numbered(32, 32)[16:, :16])


def test_region_labels_stay_exact_integers() -> None:
    labels = torch.tensor([[0, IGNORED], [2**24 + 1, 2**40 + 1]])
    warped = warp_regions(labels, WHOLE, 9)
    assert warped.dtype == torch.int64
    assert set(warped.flatten().tolist()) == set(labels.flatten().tolist())


@provable
@given(seeds)
def test_warping_regions_invents_no_label(seed: int) -> None:
    labels = torch.randint(0, 50, (20, 30), generator=generator(seed)) * 7
    crop = sample_crop(20, 30, PLAIN, generator(seed))
    assert set(warp_regions(labels, crop, 13).flatten().tolist()) <= set(labels.flatten().tolist())


def test_regions_of_numpy_width_are_taken() -> None:
    assert torch.equal(warp_regions(numbered(8, 8).int(), WHOLE, 8), numbered(8, 8))


def test_image_made_smaller_is_filtered_not_skipped_over() -> None:
    speckles = torch.rand(3, 128, 128, generator=generator(0)).round()
    small = warp_image(speckles, WHOLE, 16)
    assert abs(float(small.mean()) - 0.5) < 0.02
    assert small.std() < 0.1  # of 8 x 8 pixels each; between four pixels it would be 0.25


def test_filtered_image_shows_the_same_crop() -> None:
    image = coordinates(256, 384)
    crop = torch.tensor([[-0.5, 0.0, 0.2], [0.0, 0.6, -0.1]])  # 192 x 154 pixels to 32, mirrored
    expected = F.grid_sample(
        image[None], F.affine_grid(crop[None], [1, 1, 32, 32], align_corners=False), align_corners=False
    )
    torch.testing.assert_close(warp_image(image, crop, 32), expected[0], rtol=0, atol=2e-3)


def test_warped_map_is_unit_and_single_precision_from_a_half_precision_cache() -> None:
    warped = warp_map(unit(6, 5, 7, dim=0, dtype=torch.float16), sample_crop(5, 7, PLAIN, generator(0)), 9)
    assert warped.dtype == torch.float32
    torch.testing.assert_close(warped.norm(dim=0), torch.ones(9, 9))


# ------------------------------------------------------------------------------------------------------- all three


@pytest.mark.parametrize(("map_height", "map_width"), [(60, 96), (15, 24), (7, 11)])
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("scale", [(0.1, 0.2), (0.6, 0.9)])
def test_image_regions_and_map_land_on_the_same_spot(
    scale: tuple[float, float], seed: int, map_height: int, map_width: int
) -> None:
    config = PLAIN.model_copy(update={"scale": scale})
    views = make_views(
        coordinates(HEIGHT, WIDTH),
        numbered(HEIGHT, WIDTH),
        coordinates(map_height, map_width),
        config,
        STRIDE,
        generator(seed),
    )
    # the mean of a linear ramp over a block is its value at the block's centre
    x, y = F.avg_pool2d(views.images[:, :2], STRIDE).unbind(1)
    region_x, region_y = (views.regions % WIDTH + 0.5) / WIDTH, (views.regions // WIDTH + 0.5) / HEIGHT
    map_x, map_y = (views.pixel_map[:, :2] / views.pixel_map[:, 2:]).unbind(1)
    # bilinear sampling is flat within half a cell of the border: only the inside can be compared exactly
    inside = ((x - 0.5).abs() < 0.5 - 1 / map_width) & ((y - 0.5).abs() < 0.5 - 1 / map_height)
    assert inside.float().mean() > 0.2
    assert (x - map_x)[inside].abs().max() < 4e-3
    assert (y - map_y)[inside].abs().max() < 4e-3
    assert (x - region_x)[inside].abs().max() <= 0.5 / WIDTH + 4e-3
    assert (y - region_y)[inside].abs().max() <= 0.5 / HEIGHT + 4e-3


def test_two_views_differ() -> None:
    views = make_views(coordinates(60, 96), numbered(60, 96), coordinates(15, 24), PLAIN, STRIDE, generator(0))
    assert not torch.equal(views.regions[0], views.regions[1])


def test_flipped_views_run_from_right_to_left() -> None:
    config = PLAIN.model_copy(update={"flip_prob": 1.0})
    views = make_views(coordinates(60, 96), numbered(60, 96), coordinates(15, 24), config, STRIDE, generator(0))
    assert (views.images[:, 0].diff(dim=2) <= 1e-6).all()
    assert ((views.regions % 96).diff(dim=2) < 0).all()
    assert ((views.pixel_map[:, 0] / views.pixel_map[:, 2]).diff(dim=2) <= 1e-6).all()


def test_views_of_an_image_have_shapes_and_types() -> None:
    views = make_views(coordinates(60, 96), numbered(60, 96), unit(5, 7, 9, dim=0), PLAIN, STRIDE, generator(0))
    assert views.images.shape == (2, 3, 32, 32)
    assert views.regions.shape == (2, 4, 4)
    assert views.pixel_map.shape == (2, 5, 4, 4)
    assert (views.images.dtype, views.regions.dtype, views.pixel_map.dtype) == (
        torch.float32,
        torch.int64,
        torch.float32,
    )


def test_views_depend_on_the_generator_alone_and_leave_the_global_one() -> None:
    config = DataConfig(crop=CROP)
    inputs = coordinates(60, 96), numbered(60, 96), unit(5, 7, 9, dim=0)
    torch.manual_seed(1)
    first = make_views(*inputs, config, STRIDE, generator(3))
    after = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), after)
    torch.manual_seed(2)
    again, other = (make_views(*inputs, config, STRIDE, generator(seed)) for seed in (3, 4))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first.images, other.images)


def test_crop_that_the_stride_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="crop 36 is not a multiple of the student's stride 8"):
        make_views(
            coordinates(60, 96), numbered(60, 96), unit(5, 7, 9, dim=0), DataConfig(crop=36), STRIDE, generator(0)
        )


# ----------------------------------------------------------------------------------------------------- photometric


def test_photometric_touches_the_image_and_nothing_else() -> None:
    inputs = torch.rand(3, 60, 96, generator=generator(0)), numbered(60, 96), unit(5, 7, 9, dim=0)
    strong = PLAIN.model_copy(update={"jitter_prob": 1.0})
    plain, jittered = (make_views(*inputs, config, STRIDE, generator(0)) for config in (PLAIN, strong))
    assert torch.equal(plain.regions, jittered.regions)
    assert torch.equal(plain.pixel_map, jittered.pixel_map)
    assert (plain.images - jittered.images).abs().mean() > 0.01


@pytest.mark.parametrize("seed", range(5))
def test_photometric_stays_between_black_and_white(seed: int) -> None:
    images = torch.rand(2, 3, 16, 16, generator=generator(seed)).round()  # extremes
    config = DataConfig(jitter_prob=1)
    changed = photometric(images, config, generator(seed))
    assert changed.isfinite().all()
    assert changed.min() >= 0
    assert changed.max() <= 1
    assert changed.shape == images.shape


def test_photometric_of_no_probability_changes_nothing() -> None:
    images = torch.rand(2, 3, 16, 16, generator=generator(0))
    torch.testing.assert_close(photometric(images, PLAIN, generator(0)), images)


@pytest.mark.parametrize(("jitter", "gray"), [(0.8, 0.2), (0, 0), (0, 0.5), (0.5, 0), (1, 1)])
def test_photometric_equals_the_sequence_of_both_bit_for_bit(jitter: float, gray: float) -> None:
    from kornia.augmentation import AugmentationSequential, ColorJitter, RandomGrayscale

    config = DataConfig(jitter_prob=jitter, grayscale_prob=gray)
    both = AugmentationSequential(ColorJitter(*JITTER, p=jitter), RandomGrayscale(p=gray), data_keys=["input"])
    for seed in range(8):
        images = torch.rand(2, 3, 16, 16, generator=generator(seed))
        torch.manual_seed(int(torch.randint(2**62, (1,), generator=generator(seed))))
        assert torch.equal(photometric(images, config, generator(seed)), both(images).clamp(0, 1))


def test_gray_makes_channels_equal() -> None:
    images = torch.rand(2, 3, 16, 16, generator=generator(0))
    gray = photometric(images, DataConfig(jitter_prob=0, grayscale_prob=1), generator(0))
    torch.testing.assert_close(gray[:, 0], gray[:, 1])
    torch.testing.assert_close(gray[:, 1], gray[:, 2])
    assert gray.std() > 0.05


def test_each_view_is_jittered_on_its_own() -> None:
    image = torch.rand(3, 16, 16, generator=generator(0))
    changed = photometric(torch.stack([image, image]), DataConfig(jitter_prob=1, grayscale_prob=0), generator(0))
    assert (changed[0] - changed[1]).abs().mean() > 0.01
