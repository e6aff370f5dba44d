from threading import Thread

import torch

from clips4.inference.encoding.encoder import CachedEmbedding, EmbeddingCache


def embedding(value: float, count: int = 10) -> CachedEmbedding:
    return CachedEmbedding(torch.full((count,), float(value)), None)


def test_cache_full_drops_the_least_recently_used() -> None:
    cache = EmbeddingCache(limit=3 * 40)
    for key in "abc":
        cache.put(key, embedding(ord(key)))
    assert cache.get("a") is not None
    cache.put("d", embedding(1))
    assert [key for key in "abcd" if cache.get(key)] == ["a", "c", "d"]


def test_cache_bytes_are_bounded_and_too_large_is_not_kept() -> None:
    cache = EmbeddingCache(limit=100)
    cache.put("large", embedding(0, 26))
    assert cache.get("large") is None
    cache.put("small", embedding(0, 25))
    assert cache.get("small") is not None
    cache.put("keys", CachedEmbedding(torch.zeros(10), torch.zeros(10)))
    assert cache.get("small") is None
    assert len(cache) == 1


def test_cache_put_again_counts_once() -> None:
    cache = EmbeddingCache(limit=80)
    for _ in range(5):
        cache.put("a", embedding(1))
    cache.put("b", embedding(2))
    assert len(cache) == 2


def test_cache_from_many_threads_is_consistent() -> None:
    cache = EmbeddingCache(limit=40 * 5)
    wrong: list[int] = []

    def work(seed: int) -> None:
        for step in range(300):
            key = (seed * 7 + step) % 11
            found = cache.get(key)
            if found is None:
                cache.put(key, embedding(key))
            elif not bool((found.z == key).all()):
                wrong.append(key)

    threads = [Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(cache) == 5
    for key in range(100, 105):  # as many fit as at first: no byte is counted twice or lost
        cache.put(key, embedding(key))
    assert len(cache) == 5
