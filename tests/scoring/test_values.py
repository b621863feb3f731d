"""`values=`: probabilities and log-probabilities are scored as such, and a mistake about what they are is told."""

from __future__ import annotations

import json
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import crossent
import reference
from arrays import DTYPES, SAME_VALUES, name
from crossent import _cli as cli
from test_cli import Array

Capture = pytest.CaptureFixture[str]
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=name)
LIKELY = crossent.LikelyMistakeWarning
FIELDS = (
    "nll",
    "logsumexp",
    "entropy",
    "prediction",
    "rank",
    "counted",
    "correct",
    "top_ids",
    "top_log_probs",
)


def _probabilities(
    rows: int = 300, classes: int = 7, dtype: Any = np.float64, seed: int = 0
) -> tuple[Array, Array]:
    """Rows that add up to 1 as far as the dtype goes, and targets of which every ninth is ignored."""
    rng = np.random.default_rng((rows, classes, seed))
    p = rng.dirichlet(np.full(classes, 0.5), rows).astype(dtype)
    target = rng.integers(0, classes, rows)
    target[::9] = -100
    return p, target


def _log(p: Array) -> Array:
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(p.astype(np.float64)))


# ---- the figures ------------------------------------------------------------------------------------------


@every_dtype
@pytest.mark.parametrize("classes", [2, 7, 101, 1030])
def test_probabilities_are_scored_as_their_logarithms(classes: int, dtype: Any) -> None:
    p, target = _probabilities(120, classes, dtype)
    expected = reference.score(_log(p), target, top_k=2, log_probs=True)
    scores = crossent.score(p, target, values="probs", top_k=2)
    result = np.float64 if dtype == np.float64 else np.float32
    for field in FIELDS:
        actual = getattr(scores, field)
        if actual.dtype.kind in "ib":
            np.testing.assert_array_equal(actual, expected[field], err_msg=field)
        else:
            assert actual.dtype == result
            eps = 8 * float(np.finfo(result).eps)
            np.testing.assert_allclose(actual, expected[field], rtol=eps, atol=eps, err_msg=field)
    own = -_log(p)[np.arange(120), np.maximum(target, 0)][target != -100]
    assert crossent.score(p, target, values="probs").mean == pytest.approx(own.mean(), rel=1e-6)


@every_dtype
def test_layouts_and_axes_of_probabilities_do_not_change_a_bit(dtype: Any) -> None:
    p, target = _probabilities(150, 11, dtype)
    first = crossent.score(p, target, values="probs", top_k=3)
    for layout in SAME_VALUES.values():
        again = crossent.score(layout(p), target, values="probs", top_k=3)
        for field in FIELDS:
            assert getattr(again, field).tobytes() == getattr(first, field).tobytes(), field
    images, classes = p.reshape(3, 50, 11), target.reshape(3, 50)
    by_axis = crossent.score(np.moveaxis(images, -1, 1), classes, axis=1, values="probs")
    assert by_axis.nll.tobytes() == first.nll.tobytes()
    assert by_axis.nll.shape == (3, 50)


def test_large_arrays_are_scored_in_parts_with_the_same_numbers() -> None:
    row = np.array([0.125, 0.5, 0.25, 0.125], np.float32)
    for shape in ((700_000,), (2, 300_001), (3, 2, 150_000), (1, 1, 400_001)):
        p = np.broadcast_to(row, (*shape, 4))
        target = (np.arange(math.prod(shape)) % 4).reshape(shape)
        target[..., -1] = -100
        where = np.ones(shape, bool)
        where[..., 1] = False
        scores = crossent.score(p, target, where=where, values="probs", top_k=1)
        counted = (target != -100) & where
        expected = np.where(counted, np.array([3, 1, 2, 3])[np.maximum(target, 0)] * math.log(2), 0)
        np.testing.assert_allclose(scores.nll, expected, rtol=1e-6)
        np.testing.assert_array_equal(scores.counted, counted)
        assert scores.top_ids is not None
        assert scores.top_ids.shape == (*shape, 1)
        scorer = crossent.Scorer(values="probs")
        scorer.update(p, target, where=where)
        assert scorer.result().count == counted.sum()
        assert scorer.result().mean == pytest.approx(expected[counted].mean(), rel=1e-12)


def test_a_probability_of_0_is_minus_infinity_and_its_target_infinitely_unlikely() -> None:
    p = np.array([[0.0, 1.0], [1.0, 0.0], [0.5, 0.5]])
    scores = crossent.score(p, [0, 0, 1], values="probs")
    assert scores.nll.tolist() == [math.inf, 0.0, pytest.approx(math.log(2))]
    assert scores.entropy.tolist() == [0.0, 0.0, pytest.approx(math.log(2))]


def test_a_scorer_of_probabilities_has_the_bits_of_any_batches_and_order() -> None:
    p, target = _probabilities(500, 9, np.float32)
    whole = crossent.Scorer(values="probs")
    whole.update(p, target)
    cut, other = crossent.Scorer(), crossent.Scorer(values="probs")
    for at in range(0, 200, 33):
        cut.update(p[at : min(at + 33, 200)], target[at : min(at + 33, 200)], values="probs")
    other.update(p[200:], target[200:])
    assert cut.merge(other).result() == whole.result()
    assert crossent.Scorer.from_json(whole.to_json()).values == "probs"
    again = crossent.Scorer.from_json(whole.to_json())
    again.update(p, target)
    assert again.result().count == 2 * whole.result().count


def test_positions_and_units_go_with_probabilities() -> None:
    p, _ = _probabilities(400, 5)
    texts, target = p.reshape(20, 20, 5), np.zeros((20, 20), int)
    logs = crossent.Scorer(by_position=True)
    logs.update(_log(texts), target, values="log_probs", units=target + 2)
    probs = crossent.Scorer(by_position=True, values="probs")
    probs.update(texts, target, units=target + 2)
    shifted = crossent.Scorer(by_position=True, values="probs")
    shifted.update(texts, target, shift=1)
    assert probs.result().units == 800
    assert [g.count for g in probs.result().position_groups] == [
        g.count for g in logs.result().position_groups
    ]
    for ours, theirs in zip(probs.result().position_groups, logs.result().position_groups, strict=True):
        assert ours.mean == pytest.approx(theirs.mean, rel=1e-13)
    assert shifted.result().count == 20 * 19
    np.testing.assert_allclose(shifted.result().mean, -_log(texts[:, :-1, 0]).mean(), rtol=1e-12)


def test_comparisons_and_temperatures_of_probabilities_are_those_of_their_logits() -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(2000, 6))
    y = x + rng.normal(scale=0.3, size=x.shape)
    target = (crossent.softmax(x / 2).cumsum(axis=1) < rng.random((2000, 1))).sum(axis=1).clip(0, 5)
    p, q = crossent.softmax(x), crossent.softmax(y)
    of_logits, of_probs = crossent.compare(x, y, target), crossent.compare(p, q, target, values="probs")
    for field, value in of_logits.to_dict().items():
        found = of_probs.to_dict()[field]
        assert found == (pytest.approx(value, rel=1e-7, abs=1e-12) if value is not None else None), field
    comparer = crossent.Comparer(values="probs")
    comparer.update(p[:700], q[:700], target[:700])
    comparer.update(p[700:], q[700:], target[700:], values="probs")
    assert comparer.result() == of_probs
    assert crossent.Comparer.from_json(comparer.to_json()).result() == of_probs
    logs = crossent.compare(np.log(p), np.log(q), target, values="log_probs")
    assert logs.kl_mean == pytest.approx(of_logits.kl_mean, rel=1e-10)

    fitted = crossent.fit_temperature(x, target)
    for values, rows in (("probs", p), ("log_probs", np.log(p))):
        found = crossent.fit_temperature(rows, target, values=values)
        assert found.temperature == pytest.approx(fitted.temperature, rel=1e-9)
        batches = [(rows[:300], target[:300]), (rows[300:], target[300:])]
        assert crossent.fit_temperature(batches, values=values).temperature == found.temperature


# ---- what is wrong ------------------------------------------------------------------------------------------


def _calls(rows: Array, target: Array, **options: Any) -> list[Any]:
    """Each function that takes rows, as a call of nothing."""
    scorer, comparer = crossent.Scorer(), crossent.Comparer()
    return [
        lambda: crossent.score(rows, target, **options),
        lambda: scorer.update(rows, target, **options),
        lambda: crossent.compare(rows, rows, target, **options),
        lambda: comparer.update(rows, rows, target, **options),
        lambda: crossent.fit_temperature(rows, target, **options),
    ]


@pytest.mark.parametrize("call", range(5), ids=["score", "Scorer", "compare", "Comparer", "fit_temperature"])
@pytest.mark.parametrize("value", [math.nan, -0.25, 1.5, math.inf])
def test_a_number_that_is_no_probability_is_named_with_its_row(call: int, value: float) -> None:
    p, target = _probabilities(40)
    p[31, 4] = value
    for dtype in DTYPES:
        with pytest.raises(ValueError, match=r"no probability: got .* for class 4 of row \[31\]"):
            _calls(p.astype(dtype), target, values="probs")[call]()
    # A row that is ignored is not looked at.
    target[31] = -100
    _calls(p, target, values="probs")[call]()
    images = np.moveaxis(p.reshape(4, 10, 7), -1, 1)
    target[31] = 0
    with pytest.raises(ValueError, match=r"class 4 of row \[3, 1\]"):
        _calls(images, target.reshape(4, 10), values="probs", axis=1)[call]()


def test_when_a_scorer_refuses_probabilities_nothing_has_been_added() -> None:
    row = np.array([0.25, 0.75], np.float32)
    p = np.array(np.broadcast_to(row, (700_000, 2)))
    p[-1, 0] = math.nan
    scorer, comparer = crossent.Scorer(values="probs"), crossent.Comparer(values="probs")
    with pytest.raises(ValueError, match=r"row \[699999\]"):
        scorer.update(p, np.zeros(700_000, int))
    with pytest.raises(ValueError, match=r"row \[699999\]"):
        comparer.update(p, p)
    assert (scorer.rows, comparer.rows) == (0, 0)
    target = np.zeros(700_000, int)
    target[-2] = 2
    with pytest.raises(IndexError, match=r"target\[699998\] = 2"):
        scorer.update(p, target)


@pytest.mark.parametrize("call", range(5))
def test_rows_that_do_not_add_up_to_1_are_told(call: int) -> None:
    p, target = _probabilities(40)
    p[23] *= 0.5
    with pytest.warns(LIKELY, match=r"row \[23\] of logits add up to 0\.5, not 1"):
        _calls(p, target, values="probs")[call]()


@pytest.mark.parametrize("call", range(5))
def test_probabilities_given_as_logits_are_told_at_the_line_of_the_call(call: int) -> None:
    p, target = _probabilities(40, dtype=np.float32)
    for values in ("logits", "log_probs"):
        with pytest.warns(LIKELY, match='looks like probabilities .* pass values="probs"') as caught:
            _calls(p, target, values=values)[call]()
        assert {warning.filename for warning in caught} == {__file__}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _calls(p, target, values="probs")[call]()
        _calls(_log(p), target, values="log_probs")[call]()
        _calls(_log(p), target)[call]()
        _calls(p * 3, target)[call]()


@pytest.mark.parametrize("call", range(5))
def test_logits_given_as_log_probabilities_are_told(call: int) -> None:
    x = np.random.default_rng(0).normal(size=(400, 7))
    target = _known_targets(crossent.softmax(x))
    with pytest.warns(LIKELY, match='holds positive numbers.* pass values="logits"'):
        _calls(x, target, values="log_probs")[call]()


@pytest.mark.parametrize("call", range(5))
def test_one_class_is_told_and_unknown_values_are_refused(call: int) -> None:
    with pytest.warns(LIKELY, match="has one class only"):
        _calls(np.ones((4, 1)), np.zeros(4, int))[call]()
    for values in ("prob", "log-probs", "", None, 1):
        if values is None and call in (1, 3):
            continue  # what the object was made for
        with pytest.raises(ValueError, match="values is not understood"):
            _calls(np.ones((4, 2)), np.zeros(4, int), values=values)[call]()


def test_log_probs_is_a_deprecated_name() -> None:
    p, target = _probabilities(40)
    scorer = crossent.Scorer()
    with pytest.warns(DeprecationWarning, match='use values="log_probs"') as caught:
        old = crossent.score(_log(p), target, log_probs=True)
        scorer.update(_log(p), target, log_probs=True)
        crossent.score(_log(p), target, log_probs=False)
    assert [warning.filename for warning in caught] == [__file__] * 3
    assert old.nll.tobytes() == crossent.score(_log(p), target, values="log_probs").nll.tobytes()
    assert scorer.result().mean == old.mean
    with pytest.raises(TypeError, match="contradict"):
        crossent.score(_log(p), target, values="probs", log_probs=True)
    with pytest.raises(TypeError, match="log_probs must be True or False"):
        crossent.score(_log(p), target, log_probs="yes")


def test_kl_div_tells_of_an_input_that_cannot_be_log_probabilities() -> None:
    p, _ = _probabilities(5)
    x = np.random.default_rng(0).normal(size=p.shape)
    for rows in (p, x, p.astype(np.float16)):
        for function in (crossent.kl_div, crossent.kl_div_and_grad):
            with pytest.warns(LIKELY, match="input holds positive numbers") as caught:
                function(rows, p)
            assert caught[0].filename == __file__
    with pytest.warns(LIKELY, match="target holds positive numbers"):
        crossent.kl_div(_log(p), p, log_target=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        crossent.kl_div(_log(p), p)
        crossent.kl_div(_log(p), _log(p), log_target=True)
        crossent.kl_div(np.array([0.0, 1e-7, -1.0]), np.array([0.5, 0.25, 0.25]))


# ---- the command line -------------------------------------------------------------------------------------


def _write(folder: Path, kind: str, p: Array, target: Array) -> list[str]:
    """Save probabilities and their targets in a kind of file, and give the arguments that name them."""
    beside = str(folder / "targets.npy")
    np.save(beside, target)
    path = str(folder / f"p.{kind}")
    if kind == "npy":
        np.save(path, p)
    elif kind == "npz":
        np.savez_compressed(path, p=p)
    elif kind == "safetensors":
        from safetensors.numpy import save_file

        save_file({"p": p}, path)
    elif kind == "f32":
        p.astype("<f4").tofile(path)
        return [path, beside, "--classes", str(p.shape[1])]
    elif kind == "csv":
        names = [f"p_{i}" for i in range(p.shape[1])]
        lines = [",".join([*names, "label"])]
        lines += [
            ",".join([*map(repr, row), str(label)])
            for row, label in zip(p.tolist(), target.tolist(), strict=True)
        ]
        Path(path).write_text("\n".join(lines) + "\n")
        return [path]
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq

        columns = {f"p_{i}": p[:, i] for i in range(p.shape[1])}
        pq.write_table(pa.table({**columns, "label": target}), path)
        return [path]
    return [path, beside]


KINDS = ["npy", "npz", "safetensors", "f32", "csv", "parquet"]


def _known_targets(p: Array) -> Array:
    """Targets for which there is a best temperature."""
    rng = np.random.default_rng(1)
    return np.asarray((p.cumsum(axis=1) < rng.random((len(p), 1))).sum(axis=1).clip(0, p.shape[1] - 1))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("command", ["score", "calibrate", "compare"])
def test_every_command_tells_of_probabilities_read_as_logits(
    tmp_path: Path, capsys: Capture, kind: str, command: str
) -> None:
    p, _ = _probabilities(200, 5, np.float32)
    target = _known_targets(p)
    names = _write(tmp_path, kind, p, target)
    arguments = [command, names[0], *names[:1], *names[1:]] if command == "compare" else [command, *names]
    assert cli.main([*arguments, "--values", "logits", "--json"]) == 0
    captured = capsys.readouterr()
    json.loads(captured.out)
    assert "look like probabilities" in captured.err
    assert "--values probs" in captured.err
    assert "values=" not in captured.err
    assert cli.main([*arguments, "--values", "probs", "--json"]) == 0
    captured = capsys.readouterr()
    assert "look like" not in captured.err
    if command == "score":
        own = -np.log(p.astype(np.float64))[np.arange(200), target]
        assert json.loads(captured.out)["mean"] == pytest.approx(own.mean(), rel=1e-9)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [math.nan, -0.5, 2.0])
def test_every_kind_of_file_names_the_row_of_what_is_no_probability(
    tmp_path: Path, capsys: Capture, kind: str, value: float
) -> None:
    p, target = _probabilities(200, 5, np.float32)
    p[137, 2] = value
    names = _write(tmp_path, kind, p, target)
    for command in ("score", "calibrate"):
        for memory in ("64M", "8K"):
            code = cli.main([command, *names, "--values", "probs", "--memory", memory])
            captured = capsys.readouterr()
            assert code == 1
            assert "137" in captured.err
            assert names[0] in captured.err
            assert "Traceback" not in captured.err


def test_rows_apart_in_a_file_are_named_and_scored_alike(tmp_path: Path, capsys: Capture) -> None:
    p, target = _probabilities(240, 5, np.float64)
    images, classes = np.moveaxis(p.reshape(4, 60, 5), -1, 1), target.reshape(4, 60)
    np.save(tmp_path / "t.npy", classes)
    expected = -_log(p)[np.arange(240), np.maximum(target, 0)][target != -100].mean()
    for order in ("C", "F"):
        np.save(tmp_path / "p.npy", np.asarray(images, order=order))
        arguments = [
            "score",
            str(tmp_path / "p.npy"),
            str(tmp_path / "t.npy"),
            "--axis",
            "1",
            "--values",
            "probs",
        ]
        for memory in ("64M", "4K"):
            assert cli.main([*arguments, "--json", "--memory", memory]) == 0
            assert json.loads(capsys.readouterr().out)["mean"] == pytest.approx(expected, rel=1e-12)
        wrong = np.array(images, order=order)
        wrong[2, 3, 41] = -1
        np.save(tmp_path / "p.npy", wrong)
        assert cli.main(arguments) == 1
        assert "row 2, 41 has -1 for class 3" in capsys.readouterr().err


def test_log_probabilities_that_are_none_are_told_on_the_command_line(
    tmp_path: Path, capsys: Capture
) -> None:
    x = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "t.npy", np.arange(50) % 4)
    arguments = ["score", str(tmp_path / "x.npy"), str(tmp_path / "t.npy")]
    assert cli.main([*arguments, "--values", "log-probs"]) == 0
    assert "--values logits" in capsys.readouterr().err
    assert cli.main(arguments) == 0
    assert capsys.readouterr().err == ""
    np.save(tmp_path / "x.npy", crossent.log_softmax(x))
    assert cli.main([*arguments, "--values", "log-probs"]) == 0
    assert capsys.readouterr().err == ""


# ---- edges ------------------------------------------------------------------------------------------------


def test_where_warnings_are_errors_nothing_has_been_added() -> None:
    p, target = _probabilities(40)
    scorer, comparer = crossent.Scorer(), crossent.Comparer()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for call in (lambda: scorer.update(p, target), lambda: comparer.update(p, p, target)):
            with pytest.raises(LIKELY):
                call()
    assert (scorer.rows, comparer.rows) == (0, 0)


@pytest.mark.parametrize("before", [1, 3, 100, 5000])
def test_rows_that_do_not_count_hide_no_mistake(before: int) -> None:
    p, target = _probabilities(50)
    target[target == -100] = 0
    rows = np.concatenate([np.zeros((before, 7)), p])
    targets = np.concatenate([np.full(before, -100), target])
    with pytest.warns(LIKELY, match="looks like probabilities"):
        crossent.score(rows, targets)
    with pytest.warns(LIKELY, match="looks like probabilities"):
        crossent.cross_entropy(rows, np.maximum(targets, 0), where=np.arange(before + 50) >= before)


def test_rows_without_classes_take_no_time_as_probabilities() -> None:
    empty = np.broadcast_to(np.zeros((1, 0)), (2**40, 0))
    with pytest.raises(IndexError, match=r"target\[0\] = 0"):
        crossent.score(empty, np.broadcast_to(np.int64(0), (2**40,)), values="probs")
    for rows in (np.zeros((0, 2**40), np.float32), np.zeros((0, 5))):
        assert crossent.score(rows, np.zeros(0, int), values="probs").count == 0
        scorer = crossent.Scorer(values="probs")
        scorer.update(rows, np.zeros(0, int))
        assert scorer.result().count == 0
