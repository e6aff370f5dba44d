import torch

from clips4.data.rng import ORDER, PIXELS, UNKNOWN, VIEW, seeded


def draw(seed: int, stream: int, place: int = 0) -> tuple[int, ...]:
    return tuple(torch.randint(2**60, (3,), generator=seeded(seed, stream, place)).tolist())


def test_same_place_gives_the_same_numbers() -> None:
    assert draw(3, VIEW, 17) == draw(3, VIEW, 17)


def test_seeds_streams_and_places_all_differ() -> None:
    numbers = [
        draw(seed, stream, place)
        for seed in range(5)
        for stream in (ORDER, VIEW, PIXELS, UNKNOWN)
        for place in range(20)
    ]
    assert len(set(numbers)) == len(numbers)


def test_global_generator_is_neither_used_nor_touched() -> None:
    torch.manual_seed(1)
    first = draw(0, VIEW, 5)
    after = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), after)
    torch.manual_seed(2)
    assert draw(0, VIEW, 5) == first


def test_large_seeds_and_places_are_accepted() -> None:
    assert draw(2**63, VIEW, 2**40) != draw(2**63, VIEW, 2**40 + 1)


def test_neighboring_places_are_not_correlated() -> None:
    values = torch.stack([torch.rand(2, generator=seeded(0, VIEW, place)) for place in range(500)])
    assert abs(float(torch.corrcoef(torch.stack([values[:-1, 0], values[1:, 0]]))[0, 1])) < 0.15
    assert abs(float(values.mean()) - 0.5) < 0.05
