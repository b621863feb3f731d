"""Dask collections give the results of arrays in memory, to the bit, on every scheduler and however they are cut."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import crossent
from children import environment
from rows_on_workers import BLOCK, CLASSES, ROWS, logits_of_block, rows_at

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")
dd = pytest.importorskip("dask.dataframe")
pd = pytest.importorskip("pandas")

import crossent.dask  # noqa: E402  after Dask itself
from crossent._dask import process  # noqa: E402

Array = npt.NDArray[Any]
RNG = np.random.default_rng(0)
# Two axes of rows; nan in places whose order among the chunks is not that among the rows; ignored rows.
X = RNG.normal(size=(6, 10, 7)).astype(np.float32)
X[5, 0, 2] = X[2, 8] = np.nan
T = RNG.integers(7, size=(6, 10))
T[1, 2] = T[4, 4] = -100
Y = (X + RNG.normal(size=X.shape) / 8).astype(np.float32)
WHERE = RNG.random(T.shape) > 0.3
BYTES = RNG.integers(1, 9, size=T.shape)
POSITIONS = np.arange(10)[::-1]
CHUNKS = [(6, 10, 7), (1, 10, 7), (2, 3, 4), (4, 1, 7)]


def scored(x: Any = X, t: Any = T, *, by_position: bool = False, **options: Any) -> crossent.Scorer:
    scorer = crossent.Scorer(by_position=by_position)
    scorer.update(x, t, **options)
    return scorer


def lazy(array: Any, chunks: Any = 3) -> Any:
    return da.from_array(array, chunks=chunks) if isinstance(array, np.ndarray) else array


@st.composite
def cuts(draw: st.DrawFn, shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """Chunks of any lengths, empty ones too."""
    chunks = []
    for length in shape:
        ends = sorted(draw(st.lists(st.integers(0, length), max_size=3)))
        chunks.append(tuple(np.diff([0, *ends, length]).tolist()))
    return tuple(chunks)


OPTIONS: list[dict[str, Any]] = [
    {},
    {"shift": 1},
    {"shift": 12},
    {"where": WHERE},
    {"units": 3.5},
    {"units": BYTES, "shift": 2},
    {"by_position": True},
    {"by_position": True, "positions": POSITIONS, "shift": 1, "where": WHERE.astype(np.uint8)},
]


class TestScore:
    @given(cuts(X.shape), cuts(T.shape), st.sampled_from(OPTIONS), st.integers(2, 9), st.booleans())
    @settings(max_examples=40)
    def test_any_chunks_give_the_same_text(
        self, chunks: Any, others: Any, options: dict[str, Any], split_every: int, beside_is_lazy: bool
    ) -> None:
        beside = {key: lazy(value, "auto") for key, value in options.items()} if beside_is_lazy else options
        t = da.from_array(T, chunks=others) if beside_is_lazy else T
        found = crossent.dask.scorer(da.from_array(X, chunks=chunks), t, split_every=split_every, **beside)
        assert found.compute(scheduler="sync").to_json() == scored(**options).to_json()

    @pytest.mark.parametrize("axis", [0, 1, 2, -2])
    @pytest.mark.parametrize("shift", [0, 1])
    def test_classes_along_any_axis(self, axis: int, shift: int) -> None:
        x = np.moveaxis(X, 2, axis)
        if axis == 0 and shift:
            return
        found = crossent.dask.scorer(lazy(x), lazy(T, 4), axis=axis, shift=shift).compute(scheduler="sync")
        assert found.to_json() == scored(x, axis=axis, shift=shift).to_json()

    @pytest.mark.parametrize("scheduler", ["sync", "threads"])
    @pytest.mark.parametrize("chunks", CHUNKS)
    def test_the_report(self, scheduler: str, chunks: Any) -> None:
        found = crossent.dask.score(lazy(X, chunks), lazy(T), bins=10, top_k=(2,)).compute(
            scheduler=scheduler
        )
        scorer = crossent.Scorer(bins=10, top_k=(2,))
        scorer.update(X, T)
        assert found == scorer.result()
        assert found.first_nonfinite == 28

    @pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
    @pytest.mark.parametrize("values", ["logits", "log_probs", "probs"])
    def test_dtypes_and_kinds_of_values(self, dtype: Any, values: Any) -> None:
        x = crossent.softmax(np.nan_to_num(X)).astype(dtype)
        x = {"logits": 3 * x, "log_probs": np.log(x), "probs": x}[values]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", crossent.LikelyMistakeWarning)
            found = crossent.dask.score(lazy(x), lazy(T), values=values).compute(scheduler="sync")
            assert found == scored(x, values=values).result()

    def test_only_one_argument_is_a_collection(self) -> None:
        for x, t in ((X, lazy(T, 4)), (lazy(X), T.tolist())):
            found = crossent.dask.scorer(x, t).compute(scheduler="sync")
            assert found.to_json() == scored().to_json()

    def test_empty_chunks_of_positions(self) -> None:
        x, t, positions = X[:, :1], T[:, :1], da.from_array(np.array([4]), chunks=((0, 1, 0),))
        found = crossent.dask.scorer(lazy(x), t, by_position=True, positions=positions)
        expected = scored(x, t, by_position=True, positions=[4])
        assert found.compute(scheduler="sync").to_json() == expected.to_json()

    def test_few_rows(self) -> None:
        for x, t in ((X[:0], T[:0]), (X[:, :0], T[:, :0]), (X[0, 0], T[0, 0]), (X[0, :1], T[0, :1])):
            found = crossent.dask.scorer(lazy(x), t).compute(scheduler="sync")
            assert found.to_json() == scored(x, t).to_json()

    def test_the_sums_go_on(self) -> None:
        found = crossent.dask.scorer(lazy(X[:4]), T[:4]).compute(scheduler="sync")
        found.update(X[4:], T[4:])
        assert found.to_json() == scored().to_json()

    def test_a_graph_can_be_computed_again(self) -> None:
        found = crossent.dask.scorer(lazy(X), T)
        found.compute(scheduler="sync").update(X, T)
        assert found.compute(scheduler="threads").to_json() == scored().to_json()

    def test_one_computation_of_several_results(self) -> None:
        logits, targets = lazy(X), lazy(T)
        scorer, comparison, alone = dask.compute(
            crossent.dask.scorer(logits, targets),
            crossent.dask.compare(logits, lazy(Y, 4), targets),
            logits.sum(),
            scheduler="threads",
        )
        assert scorer.to_json() == scored().to_json()
        assert comparison == crossent.compare(X, Y, T)
        assert np.isnan(alone)


class TestCompare:
    @given(cuts(X.shape), cuts(X.shape), st.booleans(), st.integers(0, 2))
    @settings(max_examples=20)
    def test_any_chunks(self, chunks: Any, others: Any, with_target: bool, shift: int) -> None:
        t = T if with_target else None
        x, y = da.from_array(X, chunks=chunks), da.from_array(Y, chunks=others)
        found = crossent.dask.compare(x, y, t, shift=shift, where=lazy(WHERE)).compute(scheduler="sync")
        assert found == crossent.compare(X, Y, t, shift=shift, where=WHERE)

    def test_one_of_the_models_in_memory(self) -> None:
        expected = crossent.compare(X[0], Y[0], T[0])
        for x, y in ((lazy(X[0]), Y[0]), (X[0], lazy(Y[0]))):
            assert crossent.dask.compare(x, y, T[0]).compute(scheduler="sync") == expected


CLEAN = np.nan_to_num(X)
CLEAN[np.arange(6)[:, np.newaxis], np.arange(10), np.where(T < 0, 0, T)] += 0.5


class TestFitTemperature:
    @pytest.mark.parametrize("scheduler", ["sync", "threads"])
    @pytest.mark.parametrize("chunks", [(2, 3, 4), (6, 10, 7)])
    @pytest.mark.parametrize(
        "options", [{}, {"where": WHERE}, {"sample_weight": BYTES}, {"values": "log_probs"}]
    )
    def test_the_same_bits(self, scheduler: str, chunks: Any, options: dict[str, Any]) -> None:
        x = crossent.log_softmax(CLEAN)
        beside = {key: lazy(value) for key, value in options.items()}
        found = crossent.dask.fit_temperature(lazy(x, chunks), lazy(T), **beside).compute(scheduler=scheduler)
        assert found == crossent.fit_temperature(x, T, **options)

    def test_classes_along_the_first_axis(self) -> None:
        x = np.moveaxis(CLEAN, 2, 0)
        found = crossent.dask.fit_temperature(lazy(x), T, axis=0).compute(scheduler="sync")
        assert found == crossent.fit_temperature(CLEAN, T)

    def test_on_a_pool_of_a_single_thread(self) -> None:
        with ThreadPoolExecutor(1) as pool, dask.config.set(pool=pool):
            found = crossent.dask.fit_temperature(lazy(CLEAN), T).compute()
        assert found == crossent.fit_temperature(CLEAN, T)

    @pytest.mark.parametrize(
        ("x", "message"),
        [(X, "nan or \\+inf"), (-CLEAN, "no temperature is best"), (CLEAN[:0], "no row is counted")],
    )
    def test_what_the_rows_do_not_allow(self, x: Array, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            crossent.dask.fit_temperature(lazy(x), T[: len(x)]).compute(scheduler="sync")


P = crossent.softmax(RNG.normal(size=(50, 4)))
LABELS = RNG.integers(4, size=50)
NAMES = np.array(["b", "a", "d", "c"])
WEIGHTS = RNG.random(50)


class TestLogLoss:
    @given(
        cuts(P.shape),
        st.sampled_from(
            [LABELS, LABELS * 2.0, NAMES[LABELS], NAMES[LABELS].astype(object), np.eye(4)[LABELS]]
        ),
        st.sampled_from([{}, {"sample_weight": WEIGHTS}, {"normalize": False}, {"eps": 0.1}]),
        st.booleans(),
    )
    @settings(max_examples=30)
    def test_any_chunks(self, chunks: Any, labels: Array, options: Any, labels_are_lazy: bool) -> None:
        y = lazy(labels, (11, 2)[: labels.ndim]) if labels_are_lazy else labels
        found = crossent.dask.log_loss(y, da.from_array(P, chunks=chunks), **options)
        assert found.compute(scheduler="sync") == crossent.log_loss(labels, P, **options)

    @pytest.mark.parametrize("shape", [(50,), (50, 1)])
    def test_two_labels(self, shape: tuple[int, ...]) -> None:
        p, y = P[:, 0].reshape(shape), LABELS > 1
        found = crossent.dask.log_loss(lazy(y, 7), lazy(p, 9)).compute(scheduler="threads")
        assert found == crossent.log_loss(y, p)

    def test_labels_that_do_not_occur(self) -> None:
        labels = np.array([0, 1, 2, 9])
        found = crossent.dask.log_loss(LABELS % 3, lazy(P, 9), labels=labels).compute(scheduler="sync")
        assert found == crossent.log_loss(LABELS % 3, P, labels=labels)

    def test_weights_that_are_0_in_some_blocks(self) -> None:
        weight = np.where(np.arange(50) < 20, 0.0, WEIGHTS)
        found = crossent.dask.log_loss(LABELS, lazy(P, 5), sample_weight=lazy(weight, 5))
        assert found.compute(scheduler="sync") == crossent.log_loss(LABELS, P, sample_weight=weight)

    @pytest.mark.parametrize(
        ("arguments", "options", "message"),
        [
            ((LABELS[:49], P), {}, r"inconsistent numbers of samples: got \[50, 49\]"),
            ((LABELS, P + 0j), {}, "y_proba must be floating"),
            ((LABELS, P), {"eps": 2}, "eps is out of range"),
            ((LABELS % 3, P), {}, "the numbers of labels and columns differ: got 3 labels in y_true"),
            ((LABELS % 3, P), {"labels": [0, 1]}, "got 2 labels in labels"),
            ((LABELS * 0, P), {}, "y_true contains only one label"),
            ((LABELS, P), {"sample_weight": 0 * WEIGHTS}, "nothing but zeros"),
            ((LABELS[:0], P[:0]), {}, "there are no rows"),
            ((LABELS, P), {"labels": [0, 1, 2, 7]}, r"y_true contains values \{3\} not belonging"),
            ((LABELS, np.where(np.arange(200).reshape(50, 4) == 130, 2, P)), {}, r"y_proba\[32, 2\] = 2"),
        ],
    )
    def test_errors_are_those_of_arrays(self, arguments: Any, options: Any, message: str) -> None:
        kind = TypeError if arguments[1].dtype.kind == "c" else ValueError
        with pytest.raises(kind, match=message):
            crossent.log_loss(*arguments, **options)
        with pytest.raises(kind, match=message):
            crossent.dask.log_loss(arguments[0], lazy(arguments[1], 9), **options).compute(scheduler="sync")


COLUMNS = ["p_b", "p_a", "p_d", "p_c"]
FRAME = pd.DataFrame(P, columns=COLUMNS).assign(label=NAMES[LABELS], number=LABELS, weight=WEIGHTS)


@pytest.mark.parametrize("partitions", [1, 3, 7])
class TestFrames:
    def test_report(self, partitions: int) -> None:
        expected = scored(P, LABELS, values="probs").result()
        frame = dd.from_pandas(FRAME, npartitions=partitions)
        p, label = frame[COLUMNS], frame["label"]
        for targets in (label, label.astype("category"), label.astype(object), frame["number"]):
            found = crossent.dask.score(p, targets, values="probs").compute(scheduler="sync")
            assert found == expected
        arrays = p.to_dask_array(), frame["number"].to_dask_array()
        assert crossent.dask.score(*arrays, values="probs").compute(scheduler="threads") == expected
        known = p.to_dask_array(lengths=True), frame["number"]
        assert crossent.dask.score(*known, values="probs").compute(scheduler="sync") == expected

    def test_the_other_functions(self, partitions: int) -> None:
        frame = dd.from_pandas(FRAME, npartitions=partitions)
        p, label = frame[COLUMNS], frame["label"]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of the prefix
            loss = crossent.dask.log_loss(label, p, sample_weight=frame["weight"]).compute(scheduler="sync")
            assert loss == crossent.log_loss(FRAME["label"], FRAME[COLUMNS], sample_weight=WEIGHTS)
        likely = FRAME.copy()  # so that there is a best temperature
        likely[COLUMNS] = crossent.log_softmax(P + np.eye(4)[LABELS] / 2)
        frame = dd.from_pandas(likely, npartitions=partitions)
        fitted = crossent.dask.fit_temperature(frame[COLUMNS], frame["label"], sample_weight=frame["weight"])
        expected = crossent.fit_temperature(np.asarray(likely[COLUMNS]), LABELS, sample_weight=WEIGHTS)
        assert fitted.compute(scheduler="sync") == expected
        compared = crossent.dask.compare(4 * p, 3 * p, label).compute(scheduler="sync")
        assert compared == crossent.compare(4 * P, 3 * P, LABELS)

    def test_names_that_are_numbers(self, partitions: int) -> None:
        frame = dd.from_pandas(
            pd.DataFrame(P, columns=["3", "1", "2", "4"]).assign(y=np.array([3, 1, 2, 4])[LABELS]),
            npartitions=partitions,
        )
        p = frame[["3", "1", "2", "4"]]
        found = crossent.dask.score(p, frame["y"], values="probs").compute(scheduler="sync")
        assert found == scored(P, LABELS, values="probs").result()
        with pytest.raises(ValueError, match="ignore_index is the number of a column"):
            crossent.dask.score(p, frame["y"], values="probs", ignore_index=0).compute(scheduler="sync")

    @pytest.mark.parametrize(
        ("column", "row", "value", "options", "message"),
        [
            ("label", 33, "zz", {}, r"names? of no column: got target\[33\] = 'zz'"),
            ("label", 33, None, {}, r"target has labels that are missing: got .* at \[33\]"),
            ("number", 41, 9, {}, r"Target 9 is out of bounds: got target\[41\] = 9"),
            ("p_a", 20, 3.0, {"values": "probs"}, r"got 3 for class 1 of row \[20\]"),
        ],
    )
    def test_a_bad_row_is_named_by_its_place_among_all(
        self, partitions: int, column: str, row: int, value: Any, options: Any, message: str
    ) -> None:
        bad = FRAME.copy()
        bad[column] = bad[column].astype(object if isinstance(value, str | None) else bad[column].dtype)
        bad.loc[row, column] = value
        with dask.config.set({"dataframe.convert-string": False}):
            frame = dd.from_pandas(bad, npartitions=partitions)
        target = frame["number"] if column == "number" else frame["label"]
        with pytest.raises((IndexError, TypeError, ValueError), match=message):
            crossent.dask.score(frame[COLUMNS], target, **options).compute(scheduler="sync")

    def test_a_label_that_reads_as_a_place_stays_as_it_is(self, partitions: int) -> None:
        labels = np.array(["row 1", "row 2"])[LABELS % 2].astype(object)
        labels[40] = "row 9"
        bad = pd.DataFrame(crossent.softmax(P[:, :2]), columns=["row 1", "row 2"]).assign(y=labels)
        frame = dd.from_pandas(bad, npartitions=partitions)
        with pytest.raises(ValueError, match=r"target\[40\] = 'row 9', expected one of \['row 1', 'row 2'\]"):
            crossent.dask.score(frame[["row 1", "row 2"]], frame["y"], values="probs").compute(
                scheduler="sync"
            )

    def test_frames_without_classes(self, partitions: int) -> None:
        frame = dd.from_pandas(FRAME, npartitions=partitions)
        for logits, axis in ((frame["p_a"], -1), (frame[COLUMNS], 0)):
            with pytest.raises(ValueError, match="expected a frame with a column for each class"):
                crossent.dask.score(logits, frame["number"], axis=axis)

    @pytest.mark.filterwarnings("ignore:The inplace keyword")
    def test_partitions_of_parquet_files_stay_together(self, partitions: int, tmp_path: Path) -> None:
        # Optimising reads several files in a task where few of their columns are needed.
        wide = pd.DataFrame(RNG.random((60, 20)), columns=[f"c{i}" for i in range(20)])
        wide["y"] = RNG.integers(20, size=60)
        dd.from_pandas(wide, npartitions=3 * partitions).to_parquet(tmp_path)
        frame = dd.read_parquet(tmp_path)
        names = list(wide.columns[:20])
        found = crossent.dask.score(frame[names] * 9, frame["y"]).compute(scheduler="sync")
        assert found == scored(np.asarray(wide[names] * 9), np.asarray(wide["y"])).result()


def unknown(array: Array) -> Any:
    """Without the lengths of the chunks."""
    cut = lazy(array)
    return cut[da.ones(len(array), dtype=bool, chunks=cut.chunks[0])]


class TestErrors:
    def test_a_bad_target_is_named_by_its_place_among_all(self) -> None:
        bad = T.copy()
        bad[4, 7] = 9
        for chunks in CHUNKS:
            for options, place in (({}, "4, 7"), ({"shift": 2}, "4, 5")):
                with pytest.raises(IndexError) as caught:
                    crossent.dask.score(lazy(X, chunks), lazy(bad), **options).compute(scheduler="threads")
                with pytest.raises(IndexError) as alone:
                    crossent.Scorer().update(X, bad, **options)
                text, own = str(caught.value), str(alone.value)
                assert f"target[{place}] = 9" in text
                assert text.partition(";")[0] == own.partition(";")[0]

    def test_no_advice_from_some_of_the_targets(self) -> None:
        """Labels from 1 in one block, and 0 in others: "use target - 1" would be wrong."""
        bad = np.arange(60).reshape(6, 10) // 8
        assert bad.max() == 7
        with pytest.raises(IndexError, match="one block was looked at") as caught:
            crossent.dask.score(lazy(X), lazy(bad)).compute(scheduler="sync")
        assert "- 1" not in str(caught.value)

    def test_targets_in_memory_are_checked_at_once(self) -> None:
        bad = T.copy()
        bad[4, 7] = 9
        with pytest.raises(IndexError) as alone:
            crossent.Scorer().update(X, bad)
        with pytest.raises(IndexError) as caught:
            crossent.dask.score(lazy(X), bad)
        assert str(caught.value) == str(alone.value)
        left_out = lazy(bad != 9)
        found = crossent.dask.scorer(lazy(X), bad, where=left_out).compute(scheduler="sync")
        assert found.to_json() == scored(X, bad, where=bad != 9).to_json()

    @pytest.mark.parametrize(
        ("arguments", "options"),
        [
            ((X, T.T), {}),
            ((X, T.astype(float)), {}),
            ((X, T == 1), {}),
            ((X, T.astype(str)), {}),
            ((X, None), {}),
            ((CLEAN.astype(int), T), {}),
            ((X.astype(complex), T), {}),
            ((X, T), {"axis": 3}),
            ((X, T), {"axis": 0.5}),
            ((X, T), {"axis": None}),
            ((X, T), {"shift": -1}),
            ((X[0, 0], T[0, 0]), {"shift": 1}),
            ((X, T), {"where": WHERE.T}),
            ((X, T), {"where": WHERE.astype(float)}),
            ((X, T), {"units": -1}),
            ((X, T), {"units": BYTES.T}),
            ((X, T), {"values": "odds"}),
            ((X, T), {"top_k": (0,)}),
            ((X, T), {"bins": -1}),
            ((X, T), {"positions": POSITIONS}),
            ((X, T), {"positions": POSITIONS.reshape(10, 1), "by_position": True}),
            ((X, T), {"positions": POSITIONS * 1.5, "by_position": True}),
            ((X[0], T[0]), {"by_position": True}),
            ((X, T), {"ignore_index": 2**70}),
        ],
    )
    def test_what_does_not_fit_is_refused_at_once_as_arrays_are(self, arguments: Any, options: Any) -> None:
        made = {"top_k", "bins", "ignore_index", "by_position"}
        with pytest.raises((IndexError, TypeError, ValueError, OverflowError)) as alone:
            crossent.Scorer(**{k: v for k, v in options.items() if k in made}).update(
                *arguments, **{k: v for k, v in options.items() if k not in made}
            )
        beside = {key: lazy(value) for key, value in options.items()}
        for function in (crossent.dask.score, crossent.dask.scorer):
            with pytest.raises(type(alone.value)) as caught:
                function(lazy(arguments[0]), lazy(arguments[1]), **beside)
            got, expected = str(caught.value), str(alone.value)
            if "where" in options or "axis" in options:
                # The fix for a mask is in its numbers; the check of the axis is another one.
                got, expected = got[:25], expected[:25]
            assert got == expected

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"where": np.full(T.shape, 2)}, r"where must be a mask: got where\[\d, \d\] = 2"),
            ({"units": -BYTES}, "units is out of range"),
            ({"positions": POSITIONS - 5, "by_position": True}, "positions is out of range"),
        ],
    )
    def test_numbers_that_only_reading_shows(self, options: Any, message: str) -> None:
        beside = {key: lazy(value) for key, value in options.items()}
        with pytest.raises(ValueError, match=message):
            crossent.dask.score(lazy(X), T, **beside).compute(scheduler="sync")

    def test_a_mask_that_is_none_is_named_by_its_place_among_all(self) -> None:
        mask = np.ones(T.shape, int)
        mask[3, 8] = 2
        with pytest.raises(ValueError, match=r"where\[3, 8\] = 2"):
            crossent.dask.score(lazy(X), T, where=lazy(mask)).compute(scheduler="sync")

    def test_a_weight_that_is_none_is_named_by_its_place_among_all(self) -> None:
        weight = BYTES.copy()
        weight[3, 8] = -1
        with pytest.raises(ValueError, match=r"sample_weight\[3, 8\] = -1"):
            crossent.dask.fit_temperature(lazy(CLEAN), T, sample_weight=lazy(weight)).compute(
                scheduler="sync"
            )
        with pytest.raises(ValueError, match="sample_weight has the wrong shape"):
            crossent.dask.fit_temperature(lazy(CLEAN), T, sample_weight=lazy(weight[0]))

    def test_shapes_of_two_models(self) -> None:
        with pytest.raises(ValueError, match=r"other_logits has the wrong shape: got \(5, 10, 7\), expected"):
            crossent.dask.compare(lazy(X), lazy(X[:5]))

    @pytest.mark.parametrize("split_every", [1, 0, -3, 2.5, True])
    def test_split_every(self, split_every: Any) -> None:
        calls: list[Callable[[], Any]] = [
            lambda: crossent.dask.score(lazy(X), T, split_every=split_every),
            lambda: crossent.dask.fit_temperature(lazy(X), T, split_every=split_every),
            lambda: crossent.dask.log_loss(LABELS, lazy(P), split_every=split_every),
        ]
        for call in calls:
            with pytest.raises((TypeError, ValueError), match="split_every"):
                call()

    def test_no_collection(self) -> None:
        with pytest.raises(TypeError, match="no argument is a Dask collection: got ndarray"):
            crossent.dask.score(X, T)
        with pytest.raises(TypeError, match="arrays in memory are for log_loss"):
            crossent.dask.log_loss(LABELS, P)

    def test_collections_without_a_shape(self) -> None:
        with pytest.raises(
            TypeError, match=r"logits has no shape: got a Delayed\w*, .*dask\.array\.from_delayed"
        ):
            crossent.dask.score(dask.delayed(X), T)

    def test_lists_of_collections(self) -> None:
        for x, t, name in (([lazy(X)], [T], "logits"), (X, [[lazy(T[0])]], "target")):
            with pytest.raises(TypeError, match=rf"{name} is a list of Dask collections: .*concatenate"):
                crossent.dask.score(x, t)

    def test_a_number_that_is_not_computed(self) -> None:
        with pytest.raises(TypeError, match=r"units is one number that is not computed yet: .*compute\(\)"):
            crossent.dask.score(lazy(X), T, units=lazy(BYTES).sum())

    def test_unknown_lengths_of_chunks(self) -> None:
        x, t = X[:, 0], T[:, 0]
        assert np.isnan(unknown(x).shape[0])
        found = crossent.dask.scorer(unknown(x), unknown(t)).compute(scheduler="sync")
        assert found.to_json() == scored(x, t).to_json()
        assert (
            crossent.dask.scorer(unknown(x), lazy(t)).compute(scheduler="sync").to_json() == found.to_json()
        )
        for logits, targets, options in (
            (unknown(x), t, {}),
            (unknown(x), lazy(t, 2), {}),
            (unknown(x), unknown(t), {"shift": 1}),
            (unknown(X), unknown(T), {}),
            (unknown(x.T.copy()).T, lazy(t), {}),
        ):
            with pytest.raises(ValueError, match=r"compute_chunk_sizes\(\)"):
                crossent.dask.score(logits, targets, **options)

    def test_partitions_of_different_lengths(self) -> None:
        x, t = X[:, 0], T[:, 0]
        with pytest.raises(
            ValueError, match=r"partition 1 has different numbers of rows .*compute_chunk_sizes"
        ):
            crossent.dask.score(unknown(x), lazy(t, ((3, 2, 1),))[:5]).compute(scheduler="sync")


class TestWarnings:
    LIKE = crossent.softmax(np.nan_to_num(X))

    def test_a_likely_mistake_is_told_once(self) -> None:
        with pytest.warns(crossent.LikelyMistakeWarning, match="looks like probabilities") as told:
            crossent.dask.score(lazy(self.LIKE), T).compute(scheduler="threads")
        assert len(told) == 1
        with (
            pytest.warns(crossent.LikelyMistakeWarning, match="looks like probabilities") as told,
            pytest.raises(ValueError, match="no temperature"),
        ):
            crossent.dask.fit_temperature(lazy(self.LIKE), (T + 1) % 7 * 0).compute(scheduler="sync")
        assert len(told) == 1
        with pytest.warns(crossent.LikelyMistakeWarning) as told:
            crossent.dask.compare(lazy(self.LIKE), lazy(self.LIKE), T).compute(scheduler="sync")
        assert [str(each.message).split()[0] for each in told] == ["logits", "other_logits"]

    def test_the_first_rows_decide(self) -> None:
        x = np.nan_to_num(X)
        x[3:] = self.LIKE[3:]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            crossent.Scorer().update(x, T)
            crossent.dask.score(lazy(x), T).compute(scheduler="sync")
        ignored = np.where(np.arange(6)[:, np.newaxis] < 3, -100, T)
        with pytest.warns(crossent.LikelyMistakeWarning, match="looks like"):
            crossent.dask.score(lazy(x), ignored).compute(scheduler="sync")

    def test_a_row_that_is_told_of_is_named_by_its_place_among_all(self) -> None:
        p = self.LIKE.copy()
        p[4, 7] /= 2
        with pytest.warns(crossent.LikelyMistakeWarning, match=r"of row \[4, 7\] of logits add up to 0\.5"):
            crossent.dask.score(lazy(p), T, values="probs").compute(scheduler="sync")
        normal = P.copy()
        normal[33] /= 2
        with pytest.warns(UserWarning, match=r"the first such row is 33"):
            crossent.dask.log_loss(LABELS, lazy(normal, 4)).compute(scheduler="sync")

    def test_a_warning_can_be_an_error(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error", crossent.LikelyMistakeWarning)
            with pytest.raises(crossent.LikelyMistakeWarning):
                crossent.dask.score(lazy(self.LIKE), T).compute(scheduler="sync")

    def test_the_order_of_labels_is_told_at_once(self) -> None:
        with pytest.warns(UserWarning, match="ordered lexicographically") as told:
            crossent.dask.log_loss(LABELS, lazy(P), labels=[3, 2, 1, 0])
        assert told[0].filename == __file__


CALLS: dict[str, Callable[[Any, Any, Any], Any]] = {
    "cross_entropy": lambda x, t, w: crossent.cross_entropy(x, t),
    "cross_entropy where": lambda x, t, w: crossent.cross_entropy(X[0], T[0], where=w),
    "cross_entropy weight": lambda x, t, w: crossent.cross_entropy(X[0], T[0], weight=w),
    "nll_loss": lambda x, t, w: crossent.nll_loss(x, T[0]),
    "focal_loss_and_grad": lambda x, t, w: crossent.focal_loss_and_grad(X[0], t),
    "kl_div": lambda x, t, w: crossent.kl_div(x, x),
    "binary_cross_entropy": lambda x, t, w: crossent.binary_cross_entropy(x, x),
    "softmax": lambda x, t, w: crossent.softmax(x),
    "logsumexp": lambda x, t, w: crossent.logsumexp(X[0], b=x),
    "score": lambda x, t, w: crossent.score(x, T[0]),
    "score target": lambda x, t, w: crossent.score(X[0], t),
    "score list": lambda x, t, w: crossent.score([x, x], T[:2]),
    "score lists": lambda x, t, w: crossent.score([[x], [x]], T[:2]),
    "Scorer": lambda x, t, w: crossent.Scorer().update(x, T[0]),
    "Scorer where": lambda x, t, w: crossent.Scorer().update(X[0], T[0], where=w),
    "Scorer units": lambda x, t, w: crossent.Scorer().update(X[0], T[0], units=t),
    "Scorer positions": lambda x, t, w: crossent.Scorer(by_position=True).update(X[0], T[0], positions=t),
    "compare": lambda x, t, w: crossent.compare(X[0], x),
    "fit_temperature": lambda x, t, w: crossent.fit_temperature(x, T[0]),
    "fit_temperature batches": lambda x, t, w: crossent.fit_temperature([(x, T[0])]),
    "fit_temperature sample_weight": lambda x, t, w: crossent.fit_temperature(X[0], T[0], sample_weight=t),
    "LinearLogits": lambda x, t, w: crossent.score(crossent.LinearLogits(x, X[0]), T[0]),
    "linear_cross_entropy": lambda x, t, w: crossent.linear_cross_entropy(x, X[0], T[0]),
    "frame": lambda x, t, w: crossent.score(dd.from_pandas(FRAME)[COLUMNS], LABELS),
    "series": lambda x, t, w: crossent.score(P, dd.from_pandas(FRAME)["number"]),
    "delayed": lambda x, t, w: crossent.score(dask.delayed(X[0]), T[0]),
}


class TestFunctionsOfArrays:
    """A collection is never brought into memory by accident."""

    @pytest.mark.parametrize("name", CALLS)
    def test_they_name_what_takes_it(self, name: str) -> None:
        def read(block: Array) -> Array:
            raise AssertionError("a block was read")

        x, t = lazy(X[0]).map_blocks(read, dtype="f4"), lazy(T[0]).map_blocks(read, dtype=int)
        with pytest.raises(TypeError, match=r"is a Dask collection: got dask\w*\..*crossent\.dask takes it"):
            CALLS[name](x, t, t > 0)

    def test_log_loss_names_its_own(self) -> None:
        for function in (crossent.log_loss, crossent.dask.log_loss):
            with pytest.raises(TypeError, match=r"labels is a Dask collection: .*labels are few: use"):
                function(
                    lazy(LABELS) if function is crossent.dask.log_loss else LABELS, P, labels=da.arange(4)
                )
        for arguments in ((LABELS, lazy(P)), (lazy(LABELS), P)):
            with pytest.raises(TypeError, match=r"crossent\.dask\.log_loss takes it"):
                crossent.log_loss(*arguments)


def test_without_dask_the_import_says_what_to_install() -> None:
    code = "import sys; sys.modules['dask'] = None; import crossent; import crossent.dask"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "ImportError: crossent.dask needs Dask: pip install 'crossent[dask]'" in run.stderr


class Cluster(NamedTuple):
    client: Any
    logits: Callable[..., Any]
    """Logits that are made on the workers, after a pause for each block."""

    x: Array
    t: Array


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Two processes of a thread each."""
    distributed = pytest.importorskip("distributed")
    settings = {"distributed.worker.memory.terminate": False, "distributed.comm.timeouts.connect": "60s"}
    x = np.concatenate([rows_at(start) for start in range(0, ROWS, BLOCK)])
    t = (x.cumsum(axis=1).argmax(axis=1) + np.arange(ROWS) % 3) % CLASSES

    def logits(pause: float = 0.0) -> Any:
        starts = da.from_array(np.arange(0, ROWS, BLOCK)[:, np.newaxis], chunks=1)
        chunks = ((BLOCK,) * (ROWS // BLOCK), (CLASSES,))
        return starts.map_blocks(logits_of_block, pause, chunks=chunks, dtype="f4").rechunk((BLOCK, 20))

    paths = environment()["PYTHONPATH"]
    with (
        dask.config.set(settings),
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            silence_logs=50,
            env={"PYTHONPATH": paths, "CROSSENT_NUM_THREADS": ""},
        ) as running,
        distributed.Client(running) as client,
    ):
        yield Cluster(client, logits, x, t)


def kill_one(client: Any) -> int:
    """Kill a worker process, with the results that it has so far."""
    pids: dict[str, int] = client.run(os.getpid)
    pid = pids[min(pids)]
    os.kill(pid, signal.SIGKILL)
    return pid


def steps(client: Any) -> list[str]:
    """The tasks of the steps to a temperature that are assigned to workers."""
    return [str(key) for keys in client.processing().values() for key in keys if "likelihood" in str(key)]


class TestProcesses:
    def test_the_same_text_and_bits(self, cluster: Cluster) -> None:
        x, t, logits = cluster.x, cluster.t, cluster.logits()
        assert crossent.dask.scorer(logits, t).compute().to_json() == scored(x, t).to_json()
        assert crossent.dask.score(logits, t).compute() == scored(x, t).result()
        y = logits.round(1)
        assert crossent.dask.compare(logits, y, t).compute() == crossent.compare(x, x.round(1), t)
        names = np.arange(CLASSES).astype(str)[t]
        p = crossent.softmax(x)
        loss = crossent.dask.log_loss(lazy(names, 100), lazy(p, (500, 20)), labels=np.unique(names))
        assert loss.compute() == crossent.log_loss(names, p, labels=np.unique(names))

    def test_the_temperature(self, cluster: Cluster) -> None:
        x = cluster.x.copy()
        x[np.arange(ROWS), cluster.t] += 2
        expected = crossent.fit_temperature(x, cluster.t)
        # In the memory of the workers: the futures are kept by the graph alone.
        found = crossent.dask.fit_temperature(lazy(x, (400, 30)).persist(), lazy(cluster.t, 500)).compute()
        assert found == expected

    def test_a_worker_uses_its_own_number_of_threads(self, cluster: Cluster) -> None:
        crossent.dask.score(cluster.logits(), cluster.t).compute()
        assert set(cluster.client.run(crossent.get_num_threads).values()) == {1}

    def test_a_bad_target(self, cluster: Cluster) -> None:
        bad = cluster.t.copy()
        bad[1033] = CLASSES
        with pytest.raises(IndexError, match=r"got target\[1033\] = 50, expected 0 to 49"):
            crossent.dask.score(cluster.logits(), lazy(bad, 100)).compute()

    def test_a_likely_mistake_is_told_in_the_client(self, cluster: Cluster) -> None:
        with pytest.warns(crossent.LikelyMistakeWarning, match="looks like probabilities") as told:
            crossent.dask.score(da.full((100, 4), 0.25, chunks=9), np.zeros(100, int)).compute()
            limit = time.monotonic() + 30
            while not told and time.monotonic() < limit:  # it comes by another way than the result
                time.sleep(0.05)
        assert len(told) == 1

    def test_cancelling_a_fit_ends_its_steps(self, cluster: Cluster) -> None:
        future = cluster.client.compute(crossent.dask.fit_temperature(cluster.logits(0.5), cluster.t))
        limit = time.monotonic() + 30
        while not (begun := steps(cluster.client)) and time.monotonic() < limit:
            time.sleep(0.05)
        assert begun  # asked once: there may be none between two steps
        future.cancel()
        quiet = time.monotonic()
        while (now := time.monotonic()) - quiet < 3 and now < limit:  # a minute, if they went on
            quiet = now if steps(cluster.client) else quiet
            time.sleep(0.05)
        assert now - quiet >= 3

    @pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
    def test_a_worker_that_dies_changes_nothing(self, cluster: Cluster) -> None:
        blocks = ROWS // BLOCK
        future = cluster.client.compute(crossent.dask.scorer(cluster.logits(0.15), cluster.t))
        time.sleep(0.15 * blocks / 6)
        assert not future.done()
        dead = kill_one(cluster.client)
        assert future.result(timeout=120).to_json() == scored(cluster.x, cluster.t).to_json()
        cluster.client.wait_for_workers(2, timeout=60)
        assert dead not in cluster.client.run(os.getpid).values()

    @pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
    def test_a_worker_that_dies_between_two_steps_changes_nothing(self, cluster: Cluster) -> None:
        x, t = cluster.x[:240], cluster.x[:240].argmax(axis=1)
        t[::3] = 0  # so that some are wrong, and several steps are needed
        logits = cluster.logits(0.1)[:240]
        cluster.client.wait_for_workers(2, timeout=60)
        future = cluster.client.compute(crossent.dask.fit_temperature(logits, t))
        time.sleep(1)
        assert not future.done()
        kill_one(cluster.client)
        assert future.result(timeout=120) == crossent.fit_temperature(x, t)


def test_a_worker_in_the_client_leaves_its_threads_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Worker:
        class state:
            nthreads = 3

        address = "inproc://10.0.0.1/1/1"

    worker = Worker()
    monkeypatch.setattr(process, "_worker", lambda: worker)
    monkeypatch.setattr(process, "_has_own_threads", False)
    monkeypatch.delenv("CROSSENT_NUM_THREADS", raising=False)
    before = crossent.get_num_threads()
    try:
        process.use_own_threads()
        assert crossent.get_num_threads() == before
        worker.address = "tcp://10.0.0.1:1"
        crossent.dask.score(lazy(X), T)  # which makes this process a client
        process.use_own_threads()
        assert crossent.get_num_threads() == before
        monkeypatch.setattr(process, "_client", None)
        monkeypatch.setenv("CROSSENT_NUM_THREADS", "2")
        process.use_own_threads()
        assert crossent.get_num_threads() == before
        monkeypatch.delenv("CROSSENT_NUM_THREADS")
        process.use_own_threads()
        assert crossent.get_num_threads() == 3
        crossent.set_num_threads(2)
        process.use_own_threads()
        assert crossent.get_num_threads() == 2
    finally:
        crossent.set_num_threads(before)
