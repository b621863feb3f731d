"""Scores as lists, frames, tables and HTML; and by class, against scikit-learn and a definition in NumPy."""

from __future__ import annotations

import copy
import dataclasses
import html
import json
import pickle
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import crossent
from arrays import Array

DATA = Path(__file__).parents[2] / "examples" / "data"
FIELDS = ["nll", "logsumexp", "entropy", "prediction", "rank", "counted", "correct"]


def _batch(shape: tuple[int, ...] = (3, 7), classes: int = 5, dtype: Any = np.float32) -> tuple[Array, Array]:
    rng = np.random.default_rng(3)
    target = rng.integers(0, classes, shape)
    target[..., ::3] = -100
    return (rng.normal(size=(*shape, classes)) * 2).astype(dtype), target


# ---- columns --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_lists_hold_the_rows_in_order_and_none_where_they_are_ignored(dtype: Any) -> None:
    x, t = _batch(dtype=dtype)
    scores = crossent.score(x, t, top_k=2)
    columns = scores.to_dict()
    assert list(columns) == ["row", *FIELDS, "top_ids", "top_log_probs"]
    assert columns["row"] == list(range(21))
    assert columns["counted"] == (t != -100).reshape(-1).tolist()
    for name in set(columns) - {"row", "counted"}:
        array = getattr(scores, name)
        for at, place in enumerate(np.ndindex(3, 7)):
            assert columns[name][at] == (array[place].tolist() if t[place] != -100 else None)
    assert json.loads(json.dumps(columns)) == columns


def test_frames_have_the_dtypes_of_the_scores_where_no_row_is_ignored() -> None:
    pandas = pytest.importorskip("pandas")
    x, t = _batch()
    scores = crossent.score(x, np.abs(t) % 5, top_k=3)
    frame = scores.to_pandas()
    top = [f"top_id_{k}" for k in (1, 2, 3)] + [f"top_log_prob_{k}" for k in (1, 2, 3)]
    assert list(frame.columns) == ["row", *FIELDS, *top]
    for name in FIELDS:
        array = getattr(scores, name).reshape(-1)
        assert frame[name].dtype == array.dtype
        np.testing.assert_array_equal(frame[name].to_numpy(), array)
    for k in range(3):
        assert scores.top_ids is not None
        assert scores.top_log_probs is not None
        np.testing.assert_array_equal(frame[f"top_id_{k + 1}"], scores.top_ids[..., k].reshape(-1))
        np.testing.assert_array_equal(
            frame[f"top_log_prob_{k + 1}"], scores.top_log_probs[..., k].reshape(-1)
        )
    assert isinstance(frame.index, pandas.RangeIndex)


def test_means_over_columns_of_a_frame_are_means_over_the_counted_rows() -> None:
    pytest.importorskip("pandas")
    x, t = _batch(dtype=np.float64)
    scores = crossent.score(x, t, where=np.tile(np.arange(7) != 1, (3, 1)), top_k=1)
    frame = scores.to_pandas()
    assert scores.count == 9
    assert frame["nll"].mean() == pytest.approx(scores.mean, rel=1e-14)
    assert frame["correct"].mean() == pytest.approx(scores.accuracy, rel=1e-14)
    assert frame["entropy"].mean() == pytest.approx(scores.entropy[scores.counted].mean(), rel=1e-14)
    assert frame["rank"].mean() == pytest.approx(scores.rank[scores.counted].mean(), rel=1e-14)
    assert frame["counted"].dtype == bool
    assert [str(frame[name].dtype) for name in ("prediction", "rank", "top_id_1")] == ["Int64"] * 3
    assert str(frame["correct"].dtype) == "boolean"
    missing = frame.drop(columns=["row", "counted"]).isna()
    assert (missing.to_numpy() == ~frame[["counted"]].to_numpy()).all()
    back = frame[frame["counted"]]["prediction"].to_numpy(dtype=np.int64)
    np.testing.assert_array_equal(back, scores.prediction[scores.counted])


@pytest.mark.parametrize("ignored", [False, True])
def test_tables_have_nulls_where_rows_are_ignored_and_lists_of_the_largest(ignored: bool) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    x, t = _batch()
    scores = crossent.score(x, t if ignored else np.abs(t) % 5, top_k=2)
    table = scores.to_arrow()
    table.validate(full=True)
    assert table.to_pydict() == scores.to_dict()
    assert table.schema.field("top_ids").type == pyarrow.list_(pyarrow.int64(), 2)
    assert table.schema.field("top_log_probs").type == pyarrow.list_(pyarrow.float32(), 2)
    assert table.schema.field("nll").type == pyarrow.float32()
    assert table["nll"].null_count == table["top_ids"].null_count == (9 if ignored else 0)
    assert table["counted"].null_count == table["row"].null_count == 0


def test_nan_and_infinity_are_no_missing_values() -> None:
    pytest.importorskip("pyarrow")
    scores = crossent.score([[np.nan, 0.0], [0.0, -np.inf], [0.0, 0.0]], [0, 1, -100])
    nll = scores.to_arrow()["nll"].to_pylist()
    assert np.isnan(nll[0])
    assert nll[1:] == [np.inf, None]


def test_frames_and_tables_do_not_change_with_the_scores() -> None:
    for library in ("pandas", "pyarrow"):
        pytest.importorskip(library)
    x, t = _batch()
    for target in (t, np.abs(t) % 5):  # with nulls, and without
        scores = crossent.score(x, target, top_k=2)
        before = scores.to_dict()
        frame, table = scores.to_pandas(), scores.to_arrow()
        for name in (*FIELDS, "top_ids", "top_log_probs"):
            getattr(scores, name)[:] = 0
        assert table.to_pydict() == before
        for name in ("row", "nll", "prediction", "correct"):
            values = frame[name].astype(object)
            assert values.where(values.notna(), None).tolist() == before[name]


def test_other_libraries_read_the_columns() -> None:
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    pytest.importorskip("pyarrow")
    x, t = _batch()
    scores = crossent.score(x, t, top_k=2)
    assert polars.from_arrow(scores.to_arrow()).to_dict(as_series=False) == scores.to_dict()
    plain = crossent.score(x, t)
    pandas.testing.assert_frame_equal(
        pandas.DataFrame(plain.to_dict()).convert_dtypes(),
        plain.to_pandas().convert_dtypes(),
        check_dtype=False,
    )
    # And a frame of scores goes back in.
    frame = scores.to_pandas().dropna()
    assert crossent.score(np.zeros((12, 5)), frame["prediction"]).count == 12


@pytest.mark.parametrize(("shape", "rows"), [((), 1), ((0,), 0), ((2, 0, 3), 0), ((1,), 1)])
def test_scores_of_any_shape_are_columns(shape: tuple[int, ...], rows: int) -> None:
    pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    scores = crossent.score(np.zeros((*shape, 4)), np.full(shape, 2), top_k=2)
    assert {len(values) for values in scores.to_dict().values()} == {rows}
    assert scores.to_pandas().shape == (rows, 12)
    assert scores.to_arrow().shape == (rows, 10)
    assert scores.to_arrow()["top_ids"].to_pylist() == [[0, 1]] * rows


@pytest.mark.parametrize(
    ("library", "method", "text"),
    [("pandas", "to_pandas", "pip install pandas"), ("pyarrow", "to_arrow", r"pip install 'crossent\[io\]'")],
)
def test_a_library_that_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, library: str, method: str, text: str
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    scores = crossent.score(np.zeros((2, 3)), [0, 1])
    for thing in (scores, scores.by_class()):
        with pytest.raises(ImportError, match=f"{method} needs {library}.*{text}"):
            getattr(thing, method)()
        assert thing.to_dict()


# ---- notebooks ------------------------------------------------------------------------------------------


def test_notebooks_show_scores_and_temperatures_as_tables() -> None:
    x, t = _batch((40,))
    t = np.where((t != -100) & (np.arange(40) % 4 != 1), x.argmax(axis=1), t)  # the logits know something
    scores = crossent.score(x, t)
    shown = html.unescape(scores._repr_html_())
    assert shown.startswith("<table><caption>Scores</caption>")
    assert shown.count("<tr>") == shown.count("</tr>") == 8
    for part in ("26", "14", f"{scores.mean:.6g} nats", f"{scores.accuracy:.6g}", "shape (40,), float32"):
        assert f"{part}</td>" in shown
    found = crossent.fit_temperature(x, t)
    shown = found._repr_html_()
    assert "<caption>Temperature</caption>" in shown
    for part in (
        f"{found.temperature:.6g}",
        "26",
        f"{found.nll_before:.6g} before, {found.nll_after:.6g} after",
    ):
        assert f"<td>{part}" in shown


def test_the_table_of_no_rows_is_shown() -> None:
    shown = crossent.score(np.zeros((0, 3)), np.zeros(0, int))._repr_html_()
    assert "<td>nan nats</td>" in shown


# ---- by class -------------------------------------------------------------------------------------------


def _by_definition(nll: Array, target: Array, prediction: Array, counted: Array) -> dict[str, list[float]]:
    nll, target, prediction = (array[counted].tolist() for array in (nll, target, prediction))
    classes = sorted({*target, *prediction})
    figures: dict[str, list[float]] = {key: [] for key in ("classes", "count", "mean", "accuracy", "recall")}
    for c in classes:
        rows = [n for n, t in enumerate(target) if t == c]
        figures["classes"].append(c)
        figures["count"].append(len(rows))
        figures["mean"].append(sum(nll[n] for n in rows) / len(rows) if rows else np.nan)
        found = sum(prediction[n] == c for n in rows)
        figures["recall"].append(found / len(rows) if rows else np.nan)
        right = sum((t == c) == (y == c) for t, y in zip(target, prediction, strict=True))
        figures["accuracy"].append(right / len(target))
    return figures


@pytest.mark.parametrize("shape", [(500,), (4, 50), (1,), (0,), ()])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("classes", [2, 7, 60])
def test_classes_have_the_figures_of_their_definition(
    shape: tuple[int, ...], dtype: Any, classes: int
) -> None:
    rng = np.random.default_rng(5)
    target = rng.integers(0, classes, shape)
    x = rng.normal(size=(*shape, classes)) + 3 * (target[..., np.newaxis] == np.arange(classes))
    target = np.where(rng.random(shape) < 0.2, -100, target)
    scores = crossent.score(x.astype(dtype), target)
    found = scores.by_class()
    expected = _by_definition(scores.nll, target, scores.prediction, scores.counted)
    assert found.to_dict().keys() == expected.keys()
    assert found.classes.tolist() == expected["classes"]
    assert found.count.tolist() == expected["count"]
    np.testing.assert_allclose(found.mean, expected["mean"], rtol=1e-12)
    np.testing.assert_array_equal(found.accuracy, expected["accuracy"])
    np.testing.assert_array_equal(found.recall, expected["recall"])
    assert found.classes.dtype == found.count.dtype == np.int64
    assert found.mean.dtype == found.accuracy.dtype == found.recall.dtype == np.float64
    assert found.count.sum() == scores.count


def test_classes_have_the_recall_and_the_accuracy_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    logits, target = (np.load(f"{DATA}/digits_{part}.npy") for part in ("logits", "targets"))
    found = crossent.score(logits, target).by_class()
    prediction = logits.argmax(axis=1)
    np.testing.assert_allclose(found.recall, metrics.recall_score(target, prediction, average=None))
    matrices = metrics.multilabel_confusion_matrix(target, prediction)
    np.testing.assert_allclose(found.accuracy, [np.trace(each) / each.sum() for each in matrices], rtol=1e-15)
    for c, count, mean in zip(found.classes, found.count, found.mean, strict=True):
        rows = target == c
        assert count == rows.sum()
        loss = metrics.log_loss(
            target[rows], crossent.softmax(logits[rows].astype(np.float64)), labels=range(10)
        )
        assert mean == pytest.approx(loss, rel=1e-6)


def test_the_figures_of_classes_do_not_depend_on_the_order_of_the_rows() -> None:
    x, t = _batch((400,), classes=6)
    found = crossent.score(x, t).by_class()
    order = np.random.default_rng(0).permutation(400)
    for other in (
        crossent.score(x[order], t[order]).by_class(),
        crossent.score(x.reshape(4, 100, 6), t.reshape(4, 100)).by_class(),
        crossent.score(np.asfortranarray(x).T, t, axis=0).by_class(),
    ):
        for name, array in vars(found).items():
            assert array.tobytes() == getattr(other, name).tobytes()


def test_rows_with_nan_have_no_prediction() -> None:
    x = np.array([[np.nan, 1.0, 2.0], [3.0, 0.0, 0.0], [0.0, 1.0, np.nan], [np.inf, 0.0, 0.0]])
    scores = crossent.score(x, [0, 0, 1, 0])
    found = scores.by_class()
    assert found.classes.tolist() == [0, 1]  # and not 2, the place of a nan
    assert found.count.tolist() == [3, 1]
    np.testing.assert_array_equal(found.recall, [2 / 3, 0.0])
    np.testing.assert_array_equal(found.accuracy, [3 / 4, 3 / 4])
    assert np.isnan(found.mean).all()


def test_an_infinite_loss_is_that_of_its_class_alone() -> None:
    found = crossent.score([[0.0, -np.inf], [0.0, 0.0], [0.0, 1.0]], [1, 0, 1]).by_class()
    assert found.mean[0] == pytest.approx(np.log(2))
    assert found.mean[1] == np.inf


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, np.uint64, "list", ">i4"])
def test_targets_of_every_kind_are_kept(dtype: Any) -> None:
    x, t = _batch((30,), classes=4)
    given: Any = np.abs(t) % 4
    given = given.tolist() if dtype == "list" else given.astype(dtype)
    ignored = np.arange(30) % 5 == 0
    if dtype != "list":
        given[ignored] = np.iinfo(dtype).max  # nothing in an ignored row matters
    found = crossent.score(x, given, where=~ignored).by_class()
    expected = crossent.score(x, np.where(ignored, -100, np.abs(t) % 4)).by_class()
    assert found.to_dict() == expected.to_dict()


def test_the_targets_of_a_buffer_that_is_used_again_are_kept() -> None:
    x, t = _batch((30,), classes=4)
    buffer = np.abs(t) % 4
    scores = crossent.score(x, buffer)
    expected = scores.by_class().to_dict()
    buffer[:] = (buffer + 1) % 4
    assert scores.by_class().to_dict() == expected


def test_shifted_targets_and_blocks_of_rows_are_kept() -> None:
    rng = np.random.default_rng(1)
    x, tokens = rng.normal(size=(3, 8, 6)), rng.integers(0, 6, (3, 8))
    found = crossent.score(x, tokens, shift=1).by_class().to_dict()
    assert found == crossent.score(x[:, :-1], tokens[:, 1:]).by_class().to_dict()
    hidden, head = rng.normal(size=(3, 8, 4)), rng.normal(size=(6, 4))
    product = crossent.LinearLogits(hidden, head)
    of_product = crossent.score(product, tokens, shift=1).by_class()
    whole = crossent.score(np.asarray(product), tokens, shift=1).by_class()
    np.testing.assert_array_equal(of_product.count, whole.count)
    np.testing.assert_allclose(of_product.mean, whole.mean, rtol=1e-12)
    probabilities = crossent.softmax(x)
    of_probs = crossent.score(probabilities, tokens, values="probs").by_class()
    np.testing.assert_allclose(of_probs.mean, crossent.score(x, tokens).by_class().mean, rtol=1e-12)


def test_scores_that_are_stored_and_read_have_their_classes() -> None:
    x, t = _batch((30,))
    scores = crossent.score(x, t)
    for other in (pickle.loads(pickle.dumps(scores)), copy.deepcopy(scores)):
        assert other.by_class().to_dict() == scores.by_class().to_dict()


def test_scores_made_by_hand_need_their_targets() -> None:
    x, t = _batch((30,))
    scores = crossent.score(x, t)
    by_hand = dataclasses.replace(scores)
    with pytest.raises(TypeError, match=r"target is missing.*pass those that the rows were scored against"):
        by_hand.by_class()
    assert by_hand.by_class(t).to_dict() == scores.by_class().to_dict()
    assert by_hand.by_class(t.tolist()).to_dict() == scores.by_class(t).to_dict()


@pytest.mark.parametrize(
    ("target", "error", "text"),
    [
        ([0, 1], ValueError, r"got \(2,\), expected \(3,\)"),
        ([[0, 1, 1]], ValueError, r"got \(1, 3\), expected \(3,\)"),
        ([0.0, 1.0, 1.0], TypeError, "target must hold integers"),
        (["0", "1", "1"], TypeError, "target"),
        ([0, 0, 1], ValueError, r"got 0 in row \[1\], whose prediction is 1, expected that class"),
        ([0, 1, 0], ValueError, r"got 0 in row \[2\], whose prediction is 0, expected another class"),
        ([0, 1, -1], ValueError, r"got -1 in row \[2\], whose prediction is 0, expected another class"),
        ([True, True, True], TypeError, "target must hold integers"),
    ],
)
def test_targets_of_other_rows_are_refused(target: Any, error: type[Exception], text: str) -> None:
    scores = crossent.score([[2.0, 0.0], [0.0, 2.0], [2.0, 0.0]], [0, 1, 1])
    with pytest.raises(error, match=text):
        scores.by_class(target)


def test_nothing_warns() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        crossent.score([[2.0, 0.0, 0.0]], [1]).by_class()
        crossent.score(np.zeros((0, 3)), np.zeros(0, int)).by_class()
