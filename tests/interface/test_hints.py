"""What an error says to do gives the number that was meant, when it is done; it never says what would give another."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import crossent
from arrays import Array

pytestmark = pytest.mark.filterwarnings("ignore::crossent.LikelyMistakeWarning")


def losses(x: Array, t: Array, axis: int = -1) -> Array:
    """-log softmax(x)[t], row by row, from its definition."""
    x = np.moveaxis(np.asarray(x, np.float64), axis, -1)
    top = x.max(axis=-1)
    lse = top + np.log(np.exp(x - top[..., None]).sum(axis=-1))
    return np.asarray(lse - np.take_along_axis(x, np.asarray(t)[..., None], -1)[..., 0])


def refused(call: Callable[[], Any], error: type[Exception] | tuple[type[Exception], ...] = Exception) -> str:
    with pytest.raises(error) as caught:
        call()
    return str(caught.value)


def expression(text: str, start: str) -> str:
    """The expression in an error's text that begins so, to its last parenthesis."""
    at = text.index(start)
    depth = 0
    for i, c in enumerate(text[at:], at):
        depth += (c == "(") - (c == ")")
        if depth == 0 and c == ")" and text[i + 1 : i + 2] not in (".", "["):
            return text[at : i + 1]
    raise AssertionError(text)


def followed(text: str, start: str = "numpy.", **names: Any) -> Any:
    """What the expression gives."""
    return eval(expression(text, start), {"numpy": np, **names})


def random(shape: tuple[int, ...], classes: int, axis: int = 1, seed: int = 3) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(*shape[:axis], classes, *shape[axis:])), rng.integers(classes, size=shape)


LOSSES: dict[str, Callable[..., Any]] = {
    "cross_entropy": crossent.cross_entropy,
    "nll_loss": crossent.nll_loss,
    "cross_entropy_and_grad": crossent.cross_entropy_and_grad,
    "nll_loss_and_grad": crossent.nll_loss_and_grad,
}
SCORES: dict[str, Callable[..., Any]] = {
    "score": crossent.score,
    "Scorer": lambda x, t, **o: crossent.Scorer().update(x, t, **o),
    "compare": lambda x, t, **o: crossent.compare(x, x, t, **o),
    "Comparer": lambda x, t, **o: crossent.Comparer().update(x, x, t, **o),
    "fit_temperature": crossent.fit_temperature,
}


# ---- shapes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", list(itertools.permutations(range(3)))[1:])
@pytest.mark.parametrize("as_list", [False, True])
def test_a_transposed_target_is_transposed_back(order: tuple[int, ...], as_list: bool) -> None:
    x, t = random((2, 4, 5), 3)
    wrong: Any = t.transpose(order)
    if as_list:
        wrong = wrong.tolist()
    text = refused(lambda: crossent.cross_entropy(x, wrong), ValueError)
    assert "transpose" in text
    assert "reshape" not in text
    np.testing.assert_array_equal(followed(text, target=wrong), t)


@pytest.mark.parametrize("library", ["torch", "pandas", "polars", "list"])
def test_advice_holds_for_what_is_no_array(library: str) -> None:
    x, t = random((6, 4), 3, axis=2)
    make: Any = {
        "torch": lambda a: pytest.importorskip("torch").tensor(a),
        "pandas": lambda a: pytest.importorskip("pandas").DataFrame(a),
        "polars": lambda a: pytest.importorskip("polars").DataFrame(a),
        "list": lambda a: a.tolist(),
    }[library]
    wrong = make(np.ascontiguousarray(t.T))
    text = refused(lambda: crossent.score(x, wrong), ValueError)
    np.testing.assert_array_equal(followed(text, target=wrong), t)
    x, t = random((6,), 3)
    column = make(t[:, None].astype(float))
    text = refused(lambda: crossent.score(x, column))
    squeezed = followed(text, "numpy.squeeze", target=column)
    np.testing.assert_array_equal(followed(text, "numpy.asarray", target=squeezed), t)


def test_a_transposed_batch_of_positions() -> None:
    x, t = random((6, 4), 3, axis=2)
    for call in (*SCORES.values(), lambda x, t: crossent.score(x, t, shift=1)):
        text = refused(partial(call, x, t.T), ValueError)
        assert "reshape" not in text
        np.testing.assert_array_equal(followed(text, target=t.T), t)


def test_axes_of_one_length_do_not_tell_how_it_was_transposed() -> None:
    x, t = random((2, 4, 4), 3)
    text = refused(lambda: crossent.cross_entropy(x, np.moveaxis(t, 0, -1)))
    assert "several axes are as long" in text
    np.testing.assert_array_equal(followed(text, target=np.moveaxis(t, 0, -1)), t)


@pytest.mark.parametrize("name", LOSSES)
def test_probabilities_with_their_classes_elsewhere(name: str) -> None:
    if name.startswith("nll"):
        return
    x = np.random.default_rng(0).normal(size=(2, 3, 5, 5))
    p = crossent.softmax(x, 1)
    text = refused(lambda: LOSSES[name](x, np.moveaxis(p, 1, -1)), ValueError)
    np.testing.assert_array_equal(followed(text, target=np.moveaxis(p, 1, -1)), p)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("axis", [0, 2, 3])
def test_the_class_axis_that_fits_is_named(name: str, axis: int) -> None:
    x, t = random((4, 6, 7), 9, axis)
    text = refused(lambda: LOSSES[name](x, t), ValueError)
    assert f"axis={axis}" in text
    assert "reshape" not in text
    LOSSES[name](x, t, axis=axis)


@pytest.mark.parametrize("name", SCORES)
def test_scores_name_the_class_axis_too(name: str) -> None:
    x, t = random((4, 6), 9, 1)
    text = refused(lambda: SCORES[name](x, t), ValueError)
    assert "axis=1" in text
    SCORES[name](x, t, axis=1)


def test_a_shifted_score_names_the_class_axis() -> None:
    x, t = random((4, 6), 9, 2)
    text = refused(lambda: crossent.score(x, t, axis=1, shift=1), ValueError)
    assert "axis=2" in text


def test_all_class_axes_that_fit_are_named() -> None:
    text = refused(lambda: crossent.cross_entropy(np.zeros((4, 5, 4, 4)), np.zeros((4, 5, 4), int)))
    assert "axis=2" in text
    assert "axis=3 (or -1)" in text


@pytest.mark.parametrize(
    ("rows", "given"),
    [((6,), (6, 1)), ((6,), (1, 6)), ((2, 4, 5), (2, 1, 4, 5)), ((2, 4, 5), (2, 4, 5, 1)), ((6, 1), (6,))],
)
def test_axes_of_length_one_are_taken_off_or_put_in(rows: tuple[int, ...], given: tuple[int, ...]) -> None:
    x, t = random(rows, 3)
    for call in (*LOSSES.values(), lambda x, t: crossent.score(x, t, axis=1)):
        text = refused(partial(call, x, t.reshape(given)), ValueError)
        np.testing.assert_array_equal(followed(text, target=t.reshape(given).tolist()), t)


def test_a_flattened_target_is_reshaped_where_that_was_how() -> None:
    x, t = random((4, 6), 9, 2)
    text = refused(lambda: crossent.score(x, t.reshape(-1)))
    assert "if it was flattened" in text
    np.testing.assert_array_equal(followed(text, target=t.reshape(-1)), t)
    text = refused(lambda: crossent.cross_entropy(x.reshape(-1, 9), t))
    assert "if the input was flattened" in text
    np.testing.assert_array_equal(followed(text, target=t), t.reshape(-1))


@pytest.mark.parametrize("given", [(8, 3), (3, 8), (24, 2), (2, 12), (5,), ()])
def test_no_advice_where_the_shape_tells_nothing(given: tuple[int, ...]) -> None:
    text = refused(lambda: crossent.cross_entropy(np.zeros((4, 9, 6)), np.zeros(given, int)), ValueError)
    assert "reshape" not in text
    assert "transpose" not in text
    assert "use " not in text


@pytest.mark.parametrize("dtype", [bool, int])
def test_a_mask_of_another_shape(dtype: type) -> None:
    x, t = random((4, 6), 9, 2)
    where = t > 3
    for call in (*SCORES.values(), lambda x, t, where: crossent.cross_entropy(x, t, axis=2, where=where)):
        given: Any = where.T.astype(dtype)
        text = refused(partial(call, x, t, where=given), ValueError)
        assert text.startswith("where has the wrong shape")
        np.testing.assert_array_equal(followed(text, where=given), where)


def test_a_pair_of_logits_of_other_shapes() -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 4))
    text = refused(lambda: crossent.compare(x, x.transpose(0, 2, 1)), ValueError)
    # Either may be the one that is meant: no array is named that would be wrong to rearrange.
    assert "one of logits and other_logits looks transposed" in text
    assert "numpy" not in text


# ---- arguments in each other's place --------------------------------------------------------------------


@pytest.mark.parametrize("name", [*LOSSES, *SCORES])
@pytest.mark.parametrize("kind", ["array", "list", "float labels"])
def test_swapped_arguments_are_named(name: str, kind: str) -> None:
    x, t = random((6,), 3)
    first: Any = {"array": t, "list": t.tolist(), "float labels": t.astype(float)}[kind]
    call = {**LOSSES, **SCORES}[name]
    if name in ("compare", "Comparer"):
        return
    text = refused(lambda: call(first, x), (TypeError, ValueError))
    assert "target look swapped" in text
    assert "astype" not in text


def test_swapped_arguments_of_the_others_are_named() -> None:
    x, t = random((6,), 3)
    assert "look swapped" in refused(lambda: crossent.compare(t, x, x), TypeError)
    assert "look swapped" in refused(lambda: crossent.compare(x, t, x), TypeError)
    assert "look swapped" in refused(lambda: crossent.cross_entropy(np.eye(3, dtype=int), x[:3]), TypeError)
    for name in ("binary_cross_entropy", "binary_cross_entropy_with_logits"):
        call = getattr(crossent, name)
        assert "look swapped" in refused(partial(call, [0, 1, 1], [0.2, 0.8, 0.1]), TypeError)
    assert "the input comes first" in refused(lambda: crossent.binary_cross_entropy([0.0, 1.0], [2.5, -0.7]))
    p = crossent.softmax(x)
    for wrong in (p, p[:, 0]):
        assert "y_true comes first" in refused(partial(crossent.log_loss, wrong, t), ValueError)
    # Two numbers would pass as two labels.
    assert "look swapped" in refused(lambda: crossent.log_loss([0.2, 0.8], [0, 1]), ValueError)
    assert crossent.log_loss([0.5, 1.5], [0.25, 0.75]) == pytest.approx(-np.log(0.75))


def test_integer_logits_are_no_swapped_arguments() -> None:
    text = refused(lambda: crossent.cross_entropy(np.array([[3, 1, 2]]), np.array([1])), TypeError)
    assert "swapped" not in text
    np.testing.assert_array_equal(followed(text, input=[[3, 1, 2]]), [[3.0, 1.0, 2.0]])


# ---- dtypes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*LOSSES, *SCORES])
@pytest.mark.parametrize("as_list", [False, True])
def test_floating_labels_need_another_dtype(name: str, as_list: bool) -> None:
    x, t = random((6,), 3)
    given: Any = t.astype(float).tolist() if as_list else t.astype(np.float32)
    text = refused(lambda: {**LOSSES, **SCORES}[name](x, given), TypeError)
    assert ("float64" if as_list else "float32") in text
    assert "(6,), expected (6,)" not in text
    assert ".astype" not in text
    result = followed(text, target=given)
    assert result.dtype == np.int64
    np.testing.assert_array_equal(result, t)


@pytest.mark.parametrize("name", [*LOSSES, *SCORES])
def test_fractions_are_not_made_integers(name: str) -> None:
    x, _ = random((6,), 3)
    text = refused(lambda: {**LOSSES, **SCORES}[name](x, np.full(6, 0.3)), TypeError)
    assert "not whole" in text
    assert "int64" not in text


def test_one_of_two_probabilities_is_not_made_a_label() -> None:
    x, _ = random((6,), 2)
    p = np.linspace(0.0, 1.0, 6)
    for given in (p, p[:, None]):
        text = refused(partial(crossent.cross_entropy, x, given))
        assert "int64" not in text
        both = followed(text, "numpy.stack", p=p)
        actual = crossent.cross_entropy(x, both, reduction="none")
        first, second = losses(x, np.zeros(6, int)), losses(x, np.ones(6, int))
        np.testing.assert_allclose(actual, (1 - p) * first + p * second, rtol=1e-12)


def test_nan_among_floating_labels_is_a_missing_one() -> None:
    x, _ = random((3,), 3)
    given = np.array([0.0, np.nan, 2.0])
    text = refused(lambda: crossent.cross_entropy(x, given), TypeError)
    advice = re.search(r"numpy\.where\(.*?\)\.astype\(numpy\.int64\)", text)
    assert advice is not None
    result = eval(advice[0], {"numpy": np, "target": given})
    assert result.tolist() == [0, -100, 2]


def test_a_column_of_floating_labels() -> None:
    x, t = random((6,), 3)
    text = refused(lambda: crossent.cross_entropy(x, t[:, None].astype(float)), ValueError)
    assert "numpy.squeeze(target, axis=1)" in text
    assert "numpy.asarray(target, dtype=numpy.int64)" in text


@pytest.mark.parametrize("name", ["cross_entropy", "nll_loss", "score", "fit_temperature"])
@pytest.mark.parametrize("dtype", [np.int64, np.uint8, float])
def test_one_hot_rows(name: str, dtype: Any) -> None:
    x, t = random((6,), 3)
    given = np.eye(3, dtype=dtype)[t]
    call = {**LOSSES, **SCORES}[name]
    if dtype is float and name == "cross_entropy":
        call(x, given)
        return
    text = refused(lambda: call(x, given), TypeError)
    np.testing.assert_array_equal(followed(text, target=given), t)


def test_one_hot_pixels_with_their_classes_elsewhere() -> None:
    x, t = random((2, 4, 5), 3)
    given = np.eye(3, dtype=np.uint8)[t]
    text = refused(lambda: crossent.cross_entropy(x, given), ValueError)
    np.testing.assert_array_equal(followed(text, target=given), t)


def test_several_labels_in_a_row_are_no_probabilities() -> None:
    x = np.random.default_rng(0).normal(size=(3, 4))
    text = refused(lambda: crossent.cross_entropy(x, np.array([[1, 1, 0, 0], [0, 0, 0, 0], [1, 0, 0, 1]])))
    assert "binary_cross_entropy_with_logits" in text
    assert "float32" not in text
    assert "axis" in refused(lambda: crossent.cross_entropy(x, np.full((3, 4), 2)))


@pytest.mark.parametrize("name", ["cross_entropy", "cross_entropy_and_grad", "score", "fit_temperature"])
@pytest.mark.parametrize(
    ("input", "target"), [((6,), (6,)), ((6, 1), (6,)), ((6, 1), (6, 1)), ((6,), (6, 1))]
)
@pytest.mark.parametrize("dtype", [int, float, np.uint8])
def test_one_logit_for_each_row_of_two_classes(name: str, input: Any, target: Any, dtype: Any) -> None:
    z = np.random.default_rng(0).normal(size=input)
    t = np.array([0, 1, 1, 0, 1, 0], dtype).reshape(target)
    if dtype is float and input == target and name.startswith("cross"):
        return  # class probabilities
    text = refused(lambda: {**LOSSES, **SCORES}[name](z, t))
    assert "binary_cross_entropy_with_logits" in text
    assert "dtype=" not in text
    both = followed(text, "numpy.stack", z=z.reshape(-1))
    binary = crossent.binary_cross_entropy_with_logits(z.reshape(-1), t.reshape(-1), reduction="none")
    np.testing.assert_allclose(losses(both, t.reshape(-1).astype(int)), binary, rtol=1e-12)


def test_names_of_classes_and_truths() -> None:
    x, t = random((6,), 2)
    for given in (["no", "yes", "yes", "no", "no", "yes"], np.array(["0"] * 6)):
        text = refused(partial(crossent.cross_entropy, x, given), TypeError)
        assert "names.index" in text
    text = refused(lambda: crossent.cross_entropy(x, t == 1), TypeError)
    np.testing.assert_array_equal(followed(text, target=(t == 1).tolist()), t)


@pytest.mark.parametrize("file", ["logits.npy", Path("logits.npy"), np.str_("logits.npy")])
def test_names_of_files_are_to_be_read_first(
    file: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    x, t = random((6,), 3)
    np.save("logits.npy", x)
    for call in (
        lambda x: crossent.cross_entropy(x, t),
        lambda x: crossent.cross_entropy(np.ones((6, 3)), x),
        lambda x: crossent.binary_cross_entropy(x, t),
        lambda x: crossent.score(x, t),
        lambda x: crossent.Scorer().update(x, t),
        lambda x: crossent.log_loss(t, x),
        crossent.softmax,
    ):
        text = refused(partial(call, file), TypeError)
        assert "logits.npy" in text
        assert "if it names a file, read that first, for instance with numpy.load;" in text
    result = crossent.cross_entropy(np.load(file), t)
    np.testing.assert_allclose(result, losses(x, t).mean(), rtol=1e-12)


@pytest.mark.parametrize("weight", [[1, 2, 5], (1, 2, 5), np.array([1, 2, 5]), [True, False, True]])
def test_weights_that_are_not_floating(weight: Any) -> None:
    x, t = random((6,), 3)
    for call in (crossent.cross_entropy, crossent.nll_loss, crossent.CrossEntropyLoss(weight)):
        options = () if isinstance(call, crossent.CrossEntropyLoss) else (weight,)
        text = refused(partial(call, x, t, *options), TypeError)
        assert ".astype" not in text
        result = followed(text, weight=weight)
        expected = losses(x, t) * np.asarray(weight)[t]
        actual = crossent.cross_entropy(x, t, result, reduction="none")
        np.testing.assert_allclose(actual, expected, rtol=1e-12)


def test_weights_of_another_axis() -> None:
    x = np.random.default_rng(0).normal(size=(2, 7, 9))
    text = refused(lambda: crossent.cross_entropy(x, crossent.softmax(x, 2), np.ones(9)), ValueError)
    assert "axis=2 (or -1)" in text
    text = refused(lambda: crossent.cross_entropy(x[0], np.zeros(7, int), np.ones(7)), ValueError)
    assert 'reduction="none"' in text
    text = refused(lambda: crossent.cross_entropy(x[0], np.zeros(7, int), np.ones(4)), ValueError)
    assert "axis=" not in text
    text = refused(lambda: crossent.cross_entropy(x[0], np.zeros(7, int), np.ones((1, 9))), ValueError)
    assert followed(text, weight=np.ones((1, 9))).shape == (9,)


# ---- targets that name no class -------------------------------------------------------------------------


def bad_target(t: Any, classes: int, **options: Any) -> str:
    x = np.random.default_rng(1).normal(size=(*np.shape(t), classes))
    return refused(lambda: crossent.cross_entropy(x, t, axis=-1, **options), IndexError)


@pytest.mark.parametrize("classes", [2, 3, 10, 1000])
@pytest.mark.parametrize("dtype", ["int64", "int8", "uint8", "uint64", "list"])
def test_labels_from_one_are_counted_from_zero(classes: int, dtype: str) -> None:
    if classes > 200 and dtype.endswith("8"):
        return
    t = np.arange(1, classes + 1)
    given: Any = t.tolist() if dtype == "list" else t.astype(dtype)
    text = bad_target(given, classes)
    assert "target - 1" in text
    assert "ignore_index=" not in text


def test_labels_from_one_beside_ignored_ones() -> None:
    x = np.random.default_rng(1).normal(size=(5, 3))
    for ignored, t in (
        (-100, [1, -100, 2, 3, 3]),
        (0, [1, 0, 2, 3, 3]),
        (0, np.array([1, 0, 2, 3, 3], np.uint8)),
    ):
        text = refused(partial(crossent.cross_entropy, x, t, ignore_index=ignored), IndexError)
        new_index = int(re.search(r"ignore_index=(-?\d+)", text)[1])  # type: ignore[index]
        if isinstance(t, list):
            new = np.array(t) - 1
        else:
            new = followed(text, "numpy.asarray", target=t) - 1
            assert "numpy.asarray(target, dtype=numpy.int64) - 1" in text
        actual = crossent.cross_entropy(x, new, ignore_index=new_index, reduction="none")
        kept = [0, 2, 3, 4]
        np.testing.assert_allclose(actual[kept], losses(x[kept], np.array([0, 1, 2, 2])), rtol=1e-12)
        assert actual[1] == 0


@pytest.mark.parametrize("t", [[2, 3, 3], [3, 3, 3], [50257, 9, 1]])
def test_what_may_be_labels_from_one_or_padding_is_told_as_both(t: list[int]) -> None:
    text = bad_target(t, max(t))
    assert "target - 1" in text
    assert "if" in text
    assert "ignore_index=" not in text
    np.testing.assert_array_equal(followed(text, "numpy.not_equal", target=t), np.array(t) != max(t))


def test_signs_are_two_classes() -> None:
    t = np.array([-1, 1, 1, -1])
    text = bad_target(t, 2)
    assert "ignore_index=" not in text
    np.testing.assert_array_equal(followed(text, "(target", target=t) // 2, [0, 1, 1, 0])
    assert "(target + 1) // 2" in text
    assert "replace -1 by 0" in bad_target([-1, 1, -100], 2)


@pytest.mark.parametrize(
    ("t", "classes", "shift"), [([-1, 0, 1], 3, 1), ([-2, -1, 0, 1, 2], 5, 2), ([-1, 0], 2, 1)]
)
def test_labels_from_below_zero_are_moved(t: list[int], classes: int, shift: int) -> None:
    text = bad_target(t, classes)
    assert f"target + {shift}" in text
    assert "ignore_index=" not in text


@pytest.mark.parametrize(
    ("t", "classes", "dtype", "ignored"),
    [
        ([0, 1, 2, -1], 3, "int64", -1),
        ([0, 1, -1], 2, "int64", -1),
        ([5, 3, -1], 50257, "int64", -1),
        ([0, 20, 255], 21, "uint8", 255),
        ([0, 1, 255], 2, "int64", 255),
        ([0, 4, 156], 5, "uint8", 156),
        ([0, 4, 65436], 5, "uint16", 65436),
        ([0, 4, 2**32 - 1], 5, "uint32", 2**32 - 1),
        ([0, 4, 5], 5, "int64", 5),
        ([0, 4, 99], 5, "int64", 99),
        ([0, 4, -2], 5, "int64", -2),
    ],
)
def test_marks_of_rows_to_leave_out_are_ignored(t: list[int], classes: int, dtype: str, ignored: int) -> None:
    assert f"pass ignore_index={ignored}" in bad_target(np.array(t, dtype), classes)


def test_the_default_mark_where_another_is_given() -> None:
    assert "pass ignore_index=-100" in bad_target([0, -100], 3, ignore_index=-1)


def test_what_int64_does_not_hold_is_not_an_ignore_index() -> None:
    t = np.array([0, 1, 2**64 - 100], np.uint64)
    text = bad_target(t, 3)
    assert eval("numpy.asarray(target).astype(numpy.int64)", {"numpy": np, "target": t}).tolist() == [
        0,
        1,
        -100,
    ]
    assert "numpy.asarray(target).astype(numpy.int64)" in text
    assert "ignore_index=18446744073709551516" not in text
    text = bad_target(np.array([0, 1, 2**63 + 9], np.uint64), 3)
    assert "where=numpy.not_equal(target, 9223372036854775817)" in text


@pytest.mark.parametrize("t", [[0, 50300, 50290], [5, 4, 8, 6], [[0, 1], [7, 9]]])
def test_a_vocabulary_of_another_size(t: Any) -> None:
    text = bad_target(t, 5 if np.max(t) < 100 else 50257)
    assert f"which takes {np.max(t) + 1} classes" in text
    assert "ignore_index=" not in text


def test_class_numbers_that_wrapped_are_viewed_as_unsigned() -> None:
    t = np.array([3, 50256, 40000])
    wrapped = t.astype(np.int16)
    text = bad_target(wrapped, 50257)
    assert "ignore_index=" not in text
    assert "numpy.asarray(target).view(numpy.uint16)" in text
    np.testing.assert_array_equal(wrapped.view(np.uint16), t)
    assert "pass ignore_index=-100" in bad_target(np.array([3, -100], np.int16), 50257, ignore_index=-1)


def test_a_mask_of_0_and_255_may_be_of_two_classes() -> None:
    text = bad_target(np.array([0, 255, 0], np.uint8), 2)
    assert "target // 255" in text
    assert "ignore_index=" not in text


def test_several_marks() -> None:
    text = bad_target([0, 1, -1, -50], 3)
    np.testing.assert_array_equal(followed(text, target=[0, 1, -1, -50]), [True, True, False, False])
    assert "ignore_index=-" not in text
    assert "from -1 to 7" in bad_target([0, 1, -1, 7], 3)


@pytest.mark.parametrize("masked", [False, True])
def test_rows_that_do_not_count_tell_nothing(masked: bool) -> None:
    t = np.array([1, 2, 3, 0])
    where = np.array([True, True, True, not masked])
    text = bad_target(t, 3, where=where)
    assert ("target - 1" in text) == masked


@pytest.mark.parametrize("name", SCORES)
def test_scores_give_the_same_advice(name: str) -> None:
    x = np.random.default_rng(1).normal(size=(3, 3))
    text = refused(lambda: SCORES[name](x, [1, 2, 3]), IndexError)
    assert "target - 1" in text


def test_the_advice_of_a_long_target_has_seen_all_of_it() -> None:
    rows = 100_000
    t = np.full(rows, 1)
    t[500] = 3
    t[-1] = 0
    x = np.broadcast_to(np.zeros(3, np.float32), (rows, 3))
    assert "target - 1" not in refused(lambda: crossent.cross_entropy(x, t), IndexError)
    t[-1] = 2
    assert "target - 1" in refused(lambda: crossent.cross_entropy(x, t), IndexError)


def test_an_endless_target_is_refused_at_once() -> None:
    for number in (np.int64(0), 0.0):
        endless = np.broadcast_to(number, (2**40,))
        for call in (crossent.cross_entropy, crossent.score):
            refused(partial(call, np.zeros((3, 5)), endless), (TypeError, ValueError))


# ---- masks ----------------------------------------------------------------------------------------------

WITH_WHERE: dict[str, Callable[..., Any]] = {
    **LOSSES,
    "probabilities": lambda x, t, **o: crossent.cross_entropy(x, np.eye(3)[t], **o),
    "score": lambda x, t, **o: crossent.score(x, t, **o).summary(),
    "Scorer": lambda x, t, **o: _result(crossent.Scorer(), x, t, **o),
    "Scorer with units": lambda x, t, **o: _result(crossent.Scorer(), x, t, units=np.arange(6), **o),
    "compare": lambda x, t, **o: crossent.compare(x, x**2, t, **o).to_dict(),
    "compare without targets": lambda x, t, **o: crossent.compare(x, x**2, **o).to_dict(),
    "Comparer": lambda x, t, **o: _result(crossent.Comparer(), x, x**2, t, **o),
    "fit_temperature": crossent.fit_temperature,
}


def _result(total: Any, *arguments: Any, **options: Any) -> Any:
    total.update(*arguments, **options)
    return total.result().to_dict()


@pytest.mark.parametrize("name", WITH_WHERE)
@pytest.mark.parametrize(
    "dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", ">i4", "list"]
)
def test_a_mask_may_be_of_integers_0_and_1(name: str, dtype: str) -> None:
    x, t = random((6,), 3, seed=5)
    where = np.array([True, False, True, True, False, True])
    given: Any = where.astype(int).tolist() if dtype == "list" else where.astype(dtype)
    call = WITH_WHERE[name]
    np.testing.assert_equal(call(x, t, where=given), call(x, t, where=where))
    if dtype != "list":
        strided = np.repeat(given, 2)[::2]
        np.testing.assert_equal(call(x, t, where=strided), call(x, t, where=where))


@pytest.mark.parametrize("name", WITH_WHERE)
def test_a_mask_of_other_numbers_names_the_first(name: str) -> None:
    x, t = random((6,), 3)
    for dtype in ("int8", "uint8", "int32", "int64"):
        given = np.array([0, 1, 1, 2, 3, 0], dtype)
        text = refused(partial(WITH_WHERE[name], x, t, where=given), ValueError)
        assert f"where[3] = 2 of dtype {dtype}" in text
    text = refused(lambda: WITH_WHERE[name](x, t, where=np.array([0, 1, -1, 0, 0, 0])), ValueError)
    assert "where[2] = -1" in text


def test_a_mask_of_floats_is_refused_with_what_gives_the_same_rows() -> None:
    x, t = random((6,), 3)
    keep = np.array([True, False, True, True, False, True])
    for given in (
        keep.astype(np.float32),
        keep.astype(float).tolist(),
        np.where(keep, 0.0, -np.inf),
        np.where(keep, 0, -1e4),
    ):
        text = refused(partial(crossent.cross_entropy, x, t, where=given), TypeError)
        np.testing.assert_array_equal(followed(text, where=given), keep)
    for given in (np.array([0.0, 0.5, 1, 1, 1, 1]), np.zeros(6), np.array(["a"] * 6)):
        text = refused(partial(crossent.cross_entropy, x, t, where=given), TypeError)
        assert "compare first" in text


# ---- losses of elements ---------------------------------------------------------------------------------


def test_a_column_beside_a_vector() -> None:
    z = np.random.default_rng(0).normal(size=(6, 1))
    t = np.array([0.0, 1, 1, 0, 1, 0])
    for call in (
        crossent.binary_cross_entropy_with_logits,
        crossent.binary_cross_entropy_with_logits_and_grad,
    ):
        text = refused(partial(call, z, t), ValueError)
        assert followed(text, target=t).shape == (6, 1)


def test_weights_of_channels() -> None:
    z, t = np.zeros((2, 3, 4, 5)), np.ones((2, 3, 4, 5))
    text = refused(lambda: crossent.binary_cross_entropy_with_logits(z, t, pos_weight=np.ones(3)), ValueError)
    assert followed(text, pos_weight=np.ones(3)).shape == (3, 1, 1)
    text = refused(
        lambda: crossent.binary_cross_entropy_with_logits(z[:, :, :3], t[:, :, :3], pos_weight=np.ones(3))
    )
    assert "reshape" not in text


@pytest.mark.parametrize(
    ("input", "target", "text"),
    [
        ([1.0000001], [1.0], "numpy.clip(input, 0, 1)"),
        ([1.5], [1.0], "binary_cross_entropy_with_logits"),
        ([np.nan], [1.0], "where nan comes from"),
        ([0.5], [-1e-8], "numpy.clip(target, 0, 1)"),
        ([0.5], [-1], "replace -1 by 0"),
        ([0.5], [255], "divide it by 255"),
        ([0.5], [2], "cross_entropy"),
        ([0.5], [np.nan], "where nan comes from"),
    ],
)
def test_numbers_that_are_no_probabilities(input: Any, target: Any, text: str) -> None:
    assert text in refused(lambda: crossent.binary_cross_entropy(input, target), ValueError)


def test_negative_variances() -> None:
    assert "numpy.maximum(var, 0)" in refused(lambda: crossent.gaussian_nll_loss([1.0], [1.0], [-1e-9]))
    assert "numpy.exp(var)" in refused(lambda: crossent.gaussian_nll_loss([1.0], [1.0], [-2.0]))


def test_roundings_of_probabilities_are_no_logits() -> None:
    assert "numpy.clip" in refused(lambda: crossent.log_loss([0, 1], [[1.0000001, 0], [0, 1]]), ValueError)
    assert "softmax" in refused(lambda: crossent.log_loss([0, 1], [[3.5, -1], [0, 1]]), ValueError)
