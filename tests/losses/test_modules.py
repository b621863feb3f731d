"""The objects that hold options: the same numbers as the functions, frozen, picklable."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from typing import Any

import numpy as np
import pytest

import crossent

X = np.array([[1.0, 2.0, 3.0], [0.0, -1.0, 4.0], [5.0, 5.0, 5.0]])
T = np.array([2, 0, 1])
W = np.array([1.0, 2.0, 5.0])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"weight": W},
        {"weight": [1.0, 2.0, 5.0], "reduction": "sum"},
        {"ignore_index": 0},
        {"reduction": "none", "dtype": np.float32},
        {"label_smoothing": 0.1, "weight": W},
        {"z_loss": 0.1, "weight": W},
        {"axis": 0},
    ],
    ids=str,
)
def test_an_object_gives_what_its_function_gives(options: dict[str, Any]) -> None:
    pairs: list[tuple[Any, Any]] = [(crossent.CrossEntropyLoss, crossent.cross_entropy)]
    if not {"label_smoothing", "z_loss"} & set(options):
        pairs.append((crossent.NLLLoss, crossent.nll_loss))
        pairs.append((crossent.FocalLoss, crossent.focal_loss))
        pairs.append((crossent.PolyLoss, crossent.poly_loss))
    for kind, function in pairs:
        x = crossent.log_softmax(X)
        loss = kind(**options)
        expected = function(x, T, **options)
        for same in (loss, pickle.loads(pickle.dumps(loss)), copy.deepcopy(loss)):
            result = same(x, T)
            assert result.dtype == expected.dtype
            assert np.array_equal(result, expected)
        where = np.array([True, False, True])
        assert np.array_equal(loss(x, T, where=where), function(x, T, where=where, **options))


def test_functions_of_the_probability_hold_their_option() -> None:
    focal, poly = crossent.FocalLoss(W, gamma=0.5), crossent.PolyLoss(epsilon=-1.0, reduction="none")
    assert focal(X, T) == crossent.focal_loss(X, T, W, gamma=0.5)
    np.testing.assert_array_equal(poly(X, T), crossent.poly_loss(X, T, epsilon=-1.0, reduction="none"))
    assert repr(poly) == "PolyLoss(epsilon=-1.0, reduction='none')"
    assert pickle.loads(pickle.dumps(focal))(X, T) == focal(X, T)


@pytest.mark.parametrize(
    "options",
    [{}, {"weight": W}, {"reduction": "none", "dtype": np.float32}, {"pos_weight": W}, {"clamp": None}],
    ids=str,
)
def test_binary_objects_give_what_their_functions_give(options: dict[str, Any]) -> None:
    p, t = crossent.softmax(X), X > 1
    pairs: list[tuple[Any, Any]] = []
    if "pos_weight" not in options:
        pairs.append((crossent.BCELoss, crossent.binary_cross_entropy))
    if "clamp" not in options:
        pairs.append((crossent.BCEWithLogitsLoss, crossent.binary_cross_entropy_with_logits))
    for kind, function in pairs:
        loss = kind(**options)
        expected = function(p, t, **options)
        for same in (loss, pickle.loads(pickle.dumps(loss)), copy.deepcopy(loss)):
            result = same(p, t)
            assert result.dtype == expected.dtype
            assert np.array_equal(result, expected)
        out = np.zeros(X.shape)
        each = dataclasses.replace(loss, reduction="none", dtype=np.float64)
        assert each(p, t, out=out) is out


def test_a_warning_names_the_line_that_called_the_object() -> None:
    empty = np.zeros((0, 3))
    calls: list[tuple[Any, ...]] = [
        (crossent.CrossEntropyLoss(), crossent.softmax(X), T),
        (crossent.NLLLoss(), crossent.softmax(X), T),
        (crossent.BCELoss(), empty, empty),
        (crossent.BCEWithLogitsLoss(), empty, empty),
    ]
    for loss, *arguments in calls:
        with pytest.warns(crossent.LikelyMistakeWarning) as caught:
            loss(*arguments)
        assert [warning.filename for warning in caught] == [__file__]


def test_out_is_handed_on() -> None:
    out = np.zeros(3)
    assert crossent.CrossEntropyLoss(reduction="none")(X, T, out=out) is out
    rows = np.zeros((3, 3))
    assert crossent.Softmax()(X, out=rows) is rows
    assert np.array_equal(rows, crossent.softmax(X))
    assert np.array_equal(crossent.LogSoftmax(axis=0)(X), crossent.log_softmax(X, 0))


def test_objects_are_frozen_and_keep_their_own_weights() -> None:
    weight = W.copy()
    loss = crossent.CrossEntropyLoss(weight)
    before = loss(X, T)
    weight[:] = 0
    assert loss(X, T) == before
    for same in (loss, pickle.loads(pickle.dumps(loss)), copy.deepcopy(loss)):
        assert isinstance(same.weight, np.ndarray)
        with pytest.raises(ValueError, match="read-only"):
            same.weight[0] = 7
    pos = crossent.BCEWithLogitsLoss(pos_weight=weight).pos_weight
    assert isinstance(pos, np.ndarray)
    assert not pos.flags.writeable
    with pytest.raises(dataclasses.FrozenInstanceError):
        loss.reduction = "sum"  # type: ignore[misc]
    with pytest.raises(TypeError):
        crossent.CrossEntropyLoss(W, -100)
    assert crossent.Softmax(1) == crossent.Softmax(axis=1)
    assert hash(crossent.LogSoftmax(0)) == hash(crossent.LogSoftmax(axis=0))


def test_a_repr_tells_the_options_that_were_given() -> None:
    assert repr(crossent.CrossEntropyLoss()) == "CrossEntropyLoss()"
    assert (
        repr(crossent.NLLLoss(reduction="sum", ignore_index=0)) == "NLLLoss(ignore_index=0, reduction='sum')"
    )
    assert repr(crossent.Softmax(0)) == "Softmax(axis=0)"
    assert repr(crossent.CrossEntropyLoss([1, 2.5])) == "CrossEntropyLoss(weight=array([1. , 2.5]))"
    # Options are checked by the call, so they may be what does not compare with a default.
    assert repr(crossent.NLLLoss(ignore_index=np.zeros(2, int))) == "NLLLoss(ignore_index=array([0, 0]))"
    assert repr(crossent.BCELoss(reduction=np.void(b"a"))).startswith("BCELoss(reduction=")


def test_options_are_checked_by_the_call() -> None:
    with pytest.raises(ValueError, match="reduction"):
        crossent.CrossEntropyLoss(reduction="avg")(X, T)
    with pytest.raises(ValueError, match="label_smoothing"):
        crossent.CrossEntropyLoss(label_smoothing=2.0)(X, T)
    with pytest.raises(TypeError, match="weight"):
        crossent.NLLLoss("heavy")(X, T)
