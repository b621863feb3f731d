"""The two worked examples that cross entropy is usually taught with, to every printed digit."""

from typing import Any

import numpy as np
import pytest

import crossent
from arrays import Array

LOGITS = [[0.0500, -0.6461, 0.9130, -0.0553], [-0.3201, 1.5033, 0.2070, 1.8456]]
TARGETS = [0, 0]

SECOND = [
    [0.1076, -1.4376, -0.6307, 0.6451, -1.5122],
    [1.5105, 0.7662, -1.7587, -1.4581, 1.1357],
    [-1.4673, -0.5111, -0.0779, -0.7404, 1.4447],
]
SECOND_TARGETS = [1, 0, 4]

DTYPES = [np.float32, np.float64]


@pytest.mark.parametrize("dtype", DTYPES)
def test_cross_entropy_of_two_rows(dtype: Any) -> None:
    loss = crossent.cross_entropy(np.array(LOGITS, dtype), np.array(TARGETS))
    assert f"{loss:.4f}" == "2.2152"


def test_lists_are_enough() -> None:
    assert f"{crossent.cross_entropy(LOGITS, TARGETS):.4f}" == "2.2152"


@pytest.mark.parametrize("dtype", DTYPES)
def test_cross_entropy_is_softmax_then_minus_log_of_the_targets_probability(dtype: Any) -> None:
    x: Array = np.array(LOGITS, dtype)
    p = crossent.softmax(x, axis=1)
    by_hand = -np.log(p[[0, 1], TARGETS])
    np.testing.assert_allclose(
        crossent.cross_entropy(x, TARGETS, reduction="none"), by_hand, rtol=4 * np.finfo(dtype).eps
    )
    assert f"{by_hand.mean():.4f}" == "2.2152"


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_mean_of_the_picked_log_probabilities_is_minus_nll_loss(dtype: Any) -> None:
    log_p: Array = crossent.log_softmax(np.array(SECOND, dtype), axis=1)
    picked = log_p[[0, 1, 2], SECOND_TARGETS]
    assert f"{picked.mean():.4f}" == "-1.3537"
    assert f"{crossent.nll_loss(log_p, np.array(SECOND_TARGETS)):.4f}" == "1.3537"


@pytest.mark.parametrize("dtype", DTYPES)
def test_log_softmax_then_nll_loss_is_cross_entropy(dtype: Any) -> None:
    x: Array = np.array(SECOND, dtype)
    chained = crossent.nll_loss(crossent.log_softmax(x), SECOND_TARGETS)
    direct = crossent.cross_entropy(x, SECOND_TARGETS)
    np.testing.assert_allclose(chained, direct, rtol=4 * np.finfo(dtype).eps)
    assert f"{direct:.4f}" == "1.3537"
