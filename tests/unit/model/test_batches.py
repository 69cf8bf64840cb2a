"""How many images go through a network at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from model.batches import MOST_ON_CPU, SIZES, forward_all, parts


class Network:
    """Sums each image up, has memory for `most` images at once, and remembers its batches."""

    def __init__(self, most: int = 256) -> None:
        self.most = most
        self.batches: list[int] = []

    def __call__(self, images: np.ndarray) -> Any:
        self.batches.append(len(images))
        if len(images) > self.most:
            raise MemoryError
        sums = images.sum(axis=(1, 2))
        return sums, 2 * sums


def images(count: int) -> np.ndarray:
    return np.arange(count * 4, dtype=np.float32).reshape(count, 2, 2, 1)


@pytest.mark.parametrize("pads", [True, False])
@pytest.mark.parametrize("most", [1, 4, 15, 256])
@pytest.mark.parametrize("count", [1, 2, 5, 16, 21, 300])
def test_each_image_has_its_answer_in_whatever_batch(count: int, most: int, pads: bool) -> None:
    network = Network(most)
    logits, features = forward_all(network, images(count), pads=pads)
    np.testing.assert_array_equal(logits, images(count).sum(axis=(1, 2)))
    np.testing.assert_array_equal(features, 2 * logits)
    if pads:
        assert set(network.batches) <= set(SIZES)


@pytest.mark.parametrize("count", [1, 2, 5, 15, 16])
def test_a_cpu_computes_no_more_images_than_there_are(count: int) -> None:
    network = Network()
    forward_all(network, images(count), pads=False)
    assert network.batches == [count]


def test_a_cpu_has_only_so_many_in_memory() -> None:
    network = Network()
    forward_all(network, images(40), pads=False)
    assert max(network.batches) == MOST_ON_CPU


@pytest.mark.parametrize("pads", [True, False])
def test_without_memory_for_one_image_it_is_a_matter_of_memory(pads: bool) -> None:
    with pytest.raises(MemoryError):
        forward_all(Network(0), images(16), pads=pads)


@pytest.mark.parametrize("count", range(1, 600, 7))
def test_less_than_half_of_a_batch_is_padding(count: int) -> None:
    divided = list(parts(count))
    assert sum(taken for taken, _ in divided) == count
    assert all(taken <= size <= 2 * taken for taken, size in divided)
    assert {size for _, size in divided} <= set(SIZES)
