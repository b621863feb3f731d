"""Pictures: what is drawn is what the results say, on the axes that were given, and nothing else is changed."""

from __future__ import annotations

import copy
import dataclasses
import io
import math
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import crossent
from arrays import Array

pytest.importorskip("matplotlib")
import matplotlib as mpl
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection, PolyCollection
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from crossent import plot
from crossent._scoring.scorer import report_of_losses

DATA = Path(__file__).parents[2] / "examples" / "data"


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """Settings of Matplotlib are as before after each test, and its figures are closed."""
    before = dict(mpl.rcParams)
    yield
    pyplot.close("all")
    assert dict(mpl.rcParams) == before


def _kept(name: str) -> tuple[Array, Array]:
    return np.load(DATA / f"{name}_logits.npy"), np.load(DATA / f"{name}_targets.npy")


def _report(logits: Any, target: Any, **options: Any) -> crossent.Report:
    scorer = crossent.Scorer(**options)
    scorer.update(logits, target)
    return scorer.result()


def _axes() -> Axes:
    return Figure(figsize=(4, 4)).subplots()


def _bars(ax: Axes) -> list[Rectangle]:
    return [bar for bar in ax.patches if isinstance(bar, Rectangle)]


def _texts(ax: Axes) -> str:
    return "\n".join(text.get_text() for text in ax.texts)


def _save(ax: Axes) -> bytes:
    """Draw it, which nothing else does."""
    file = io.BytesIO()
    assert isinstance(ax.figure, Figure)
    ax.figure.savefig(file, format="png")
    return file.getvalue()


def _texts_of_two_lengths() -> tuple[Array, Array]:
    rng = np.random.default_rng(5)
    return rng.standard_normal((30, 50, 7)), rng.integers(0, 7, (30, 50))


def _draw_reliability(**more: Any) -> Axes:
    return plot.reliability(_report(*_kept("digits")), **more)


def _draw_histogram(**more: Any) -> Axes:
    return plot.histogram(_report(*_kept("docs")), **more)


def _draw_position(**more: Any) -> Axes:
    return plot.position(_report(*_texts_of_two_lengths(), by_position=True), **more)


def _draw_comparison(**more: Any) -> Axes:
    x, t = _kept("docs")
    return plot.comparison(crossent.score(x, t), crossent.score(x.round(), t), **more)


PICTURES: dict[str, Callable[..., Axes]] = {
    "reliability": _draw_reliability,
    "histogram": _draw_histogram,
    "position": _draw_position,
    "comparison": _draw_comparison,
}
every_picture = pytest.mark.parametrize("draw", PICTURES.values(), ids=PICTURES)


def test_every_public_picture_is_tested() -> None:
    assert set(PICTURES) == set(plot.__all__)


# ---- axes and state -------------------------------------------------------------------------------------


@every_picture
def test_the_axes_that_are_given_are_drawn_on_and_returned(draw: Callable[..., Axes]) -> None:
    ax = _axes()
    assert draw(ax=ax) is ax
    assert pyplot.get_fignums() == []
    assert ax.figure.axes == [ax, *ax.child_axes][: len(ax.figure.axes)]
    size = ax.xaxis.label.get_fontsize()
    assert size == pytest.approx(
        mpl.font_manager.FontProperties(size=mpl.rcParams["axes.labelsize"]).get_size_in_points()
    )
    assert _save(ax).startswith(b"\x89PNG")


@every_picture
def test_without_axes_there_is_one_new_figure_of_a_column(draw: Callable[..., Axes]) -> None:
    other = pyplot.figure()
    used = other.add_subplot()
    ax = draw()
    assert ax is not used
    assert not used.lines
    assert len(pyplot.get_fignums()) == 2
    assert isinstance(ax.figure, Figure)
    assert ax.figure.get_size_inches()[0] == pytest.approx(3.3)
    assert ax.xaxis.label.get_fontsize() == 8
    pyplot.close(ax.figure)
    assert pyplot.get_fignums() == [other.number]


@every_picture
def test_labels_have_units_and_nothing_is_outside_the_figure(draw: Callable[..., Axes]) -> None:
    ax = draw()
    assert isinstance(ax.figure, Figure)
    labels = (ax.get_xlabel(), ax.get_ylabel())
    assert all(labels)
    assert any("(nats)" in label for label in labels) or labels == ("confidence", "accuracy")
    _save(ax)
    figure = ax.figure
    box, whole = figure.get_tightbbox(), figure.bbox_inches
    assert box is not None
    slack = 0.02
    assert box.x0 >= whole.x0 - slack
    assert box.y0 >= whole.y0 - slack
    assert box.x1 <= whole.x1 + slack
    assert box.y1 <= whole.y1 + slack


@every_picture
def test_something_that_is_no_axes_is_refused(draw: Callable[..., Axes]) -> None:
    with pytest.raises(TypeError, match="ax must be Matplotlib's Axes: got Figure"):
        draw(ax=Figure())


SCRIPT = """
import sys
from crossent import plot
import crossent
assert not any(name.startswith("matplotlib") for name in sys.modules)
import numpy
scorer = crossent.Scorer()
scorer.update(numpy.zeros((3, 2)), [0, 1, 0])
"""


def _run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", SCRIPT + code], capture_output=True, text=True, check=False,
        env={"PYTHONPATH": ":".join(sys.path), "HOME": "/nonexistent", "PATH": "", **environment},
    )  # fmt: skip


def test_matplotlib_is_loaded_by_the_first_picture_and_pyplot_only_without_axes(tmp_path: Path) -> None:
    code = """
from matplotlib.figure import Figure
plot.reliability(scorer.result(), ax=Figure().subplots())
assert "matplotlib.pyplot" not in sys.modules
plot.reliability(scorer.result()).figure.savefig(sys.argv[-1] if len(sys.argv) > 1 else "/dev/null", format="svg")
assert "matplotlib.pyplot" in sys.modules
import matplotlib
assert matplotlib.get_backend().lower() == "agg"
"""
    done = _run(code, MPLCONFIGDIR=str(tmp_path))
    assert done.returncode == 0, done.stderr


def test_without_matplotlib_the_error_says_what_to_install() -> None:
    code = """
sys.modules["matplotlib"] = None
try:
    plot.reliability(scorer.result())
except ImportError as error:
    print(error)
"""
    done = _run(code)
    assert (done.returncode, done.stdout) == (
        0,
        "pictures need Matplotlib: pip install 'crossent[plot]'\n",
    ), done.stderr


# ---- the reliability diagram ----------------------------------------------------------------------------


@pytest.mark.parametrize("bins", [1, 10, 15])
@pytest.mark.parametrize("name", ["digits", "docs"])
def test_a_reliability_diagram_shows_the_bins_of_the_report(name: str, bins: int) -> None:
    report = _report(*_kept(name), bins=bins)
    ax = plot.reliability(report, ax=_axes())
    (points,) = (c for c in ax.containers if isinstance(c, ErrorbarContainer))
    line = points.lines[0]
    full = [b for b in report.calibration_bins if b.count]
    assert line is not None
    np.testing.assert_array_equal(line.get_xdata(), [b.confidence for b in full])
    np.testing.assert_array_equal(line.get_ydata(), [b.accuracy for b in full])
    (bars,) = ax.child_axes
    assert [bar.get_height() for bar in _bars(bars)] == [b.count for b in report.calibration_bins]
    np.testing.assert_allclose(
        [bar.get_x() for bar in _bars(bars)], [b.lower for b in report.calibration_bins]
    )
    assert bars.get_yscale() == "log"
    assert bars.get_xlim() == ax.get_xlim() == (0, 1)
    assert f"ECE {report.expected_calibration_error:.3g}" in _texts(ax)
    assert f"{report.count:,} rows" in _texts(ax)


def test_the_interval_is_wilsons() -> None:
    stats = pytest.importorskip("scipy.stats")
    right, count = np.array([0, 1, 5, 400, 9]), np.array([3, 1, 12, 1000, 9])
    low, high = plot.wilson(right / count, count)
    for i, (k, n) in enumerate(zip(right.tolist(), count.tolist(), strict=True)):
        expected = stats.binomtest(k, n).proportion_ci(method="wilson")
        assert (low[i], high[i]) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert low[0] == 0
    assert high[1] == high[4] == 1


def test_no_reliability_diagram_without_bins() -> None:
    with pytest.raises(ValueError, match="bins=15, not 0"):
        plot.reliability(_report(*_kept("digits"), bins=0))
    with pytest.raises(TypeError, match="a Scorer makes: got Scores"):
        plot.reliability(crossent.score(*_kept("digits")))
    assert pyplot.get_fignums() == []


# ---- the histogram --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["digits", "docs"])
def test_a_histogram_shows_the_bins_of_the_report_and_so_of_scores(name: str) -> None:
    report = _report(*_kept(name))
    scores = crossent.score(*_kept(name))
    for result in (report, scores):
        ax = plot.histogram(result, ax=_axes())
        heights = [bar.get_height() for bar in _bars(ax)]
        assert sum(heights) == report.count
        assert 20 < len(heights) <= 48
        starts = [bar.get_x() for bar in _bars(ax)] + [_bars(ax)[-1].get_x() + _bars(ax)[-1].get_width()]
        nll = scores.nll.astype(np.float64)
        assert heights == np.histogram(nll, starts)[0].tolist()
        assert ax.get_yscale() == "log"
        assert ax.get_xlim()[1] > nll.max()
        assert [line.get_xdata()[0] for line in ax.get_lines()] == pytest.approx([report.mean], rel=1e-6)  # type: ignore[index]
        for share in (0.99, 0.999):
            assert f"{share * 100:g} % of rows below {report.loss_histogram.quantile(share):.3g}" in _texts(
                ax
            )


def test_the_tail_has_a_bar_of_its_own_and_what_is_not_finite_is_told() -> None:
    x = np.zeros((9, 2))
    x[:3, 1] = [50.0, 1000.0, 31.0]
    x[3, 0], x[4, 1] = -np.inf, np.nan
    for result in (_report(x, [0] * 9), crossent.score(x, [0] * 9)):
        ax = plot.histogram(result, ax=_axes())
        tail = _bars(ax)[-1]
        assert (tail.get_x(), tail.get_height(), tail.get_hatch()) == (32, 2, "////")
        assert "≥ 32: 2" in _texts(ax)
        assert "2 nan or infinite" in _texts(ax)
        assert sum(bar.get_height() for bar in _bars(ax)) == 7
        assert ax.get_xlim()[1] >= 33
        assert not ax.get_lines()  # the mean is nan
        assert "mean nan" in _texts(ax)
        _save(ax)


@pytest.mark.parametrize("losses", [[40.0], [0.0], [math.nan], [3.0]])
def test_one_row_is_drawn(losses: list[float]) -> None:
    x = np.array([[0.0, loss] if loss else [900.0, 0.0] for loss in losses])
    ax = plot.histogram(crossent.score(x, [0]), ax=_axes())
    assert len(ax.patches) >= (0 if math.isnan(losses[0]) else 1)
    _save(ax)


def test_bars_are_whole_bins() -> None:
    rng = np.random.default_rng(1)
    for size in (1, 47, 48, 49, 96, 97, 777, 1024):
        counts = tuple(rng.integers(1, 9, size).tolist())
        edges, bars = plot.coarse(crossent.LossHistogram(counts, 0, 0))
        assert bars.sum() == sum(counts)
        assert 24 < len(bars) <= 48 or size < 48
        step = round((edges[1] - edges[0]) * 32)
        assert step & (step - 1) == 0
        assert bars[0] == sum(counts[:step])
        assert edges[0] == 0
        assert edges[-1] * 32 >= size


# ---- the loss against the position ----------------------------------------------------------------------


def test_the_loss_against_the_position_shows_the_groups() -> None:
    x, t = _texts_of_two_lengths()
    t[:, 20:] = np.where(np.arange(30)[:, np.newaxis] < 20, -100, t[:, 20:])
    report, scores = _report(x, t, by_position=True), crossent.score(x, t)
    for result in (report, scores):
        ax = plot.position(result, ax=_axes())
        line, mean = ax.get_lines()
        groups = report.position_groups
        np.testing.assert_array_equal(line.get_xdata(), [(g.first + g.last) / 2 + 1 for g in groups])
        np.testing.assert_array_equal(line.get_ydata(), [g.mean for g in groups])
        assert mean.get_ydata()[0] == pytest.approx(report.mean, rel=1e-12)  # type: ignore[index]
        (band,) = (c for c in ax.collections if isinstance(c, PolyCollection))
        low = np.asarray(band.get_paths()[0].vertices)[:, 1].min()
        assert low == pytest.approx(min(g.mean - 1.96 * g.standard_error for g in groups), rel=1e-3)
        assert ax.get_xscale() == "log"
        _save(ax)


def _drawn(result: crossent.Report | crossent.Scores) -> tuple[object, ...]:
    """What the pictures of a result show, with all bits."""
    ax, of_losses = plot.position(result, ax=_axes()), plot.histogram(result, ax=_axes())
    (band,) = (c for c in ax.collections if isinstance(c, PolyCollection))
    lines = [np.asarray(line.get_data()).tobytes() for line in (*ax.get_lines(), *of_losses.get_lines())]
    bars = [bar.get_bbox().bounds for bar in _bars(of_losses)]
    return lines, np.asarray(band.get_paths()[0].vertices).tobytes(), bars


@pytest.mark.parametrize("values", ["logits", "log_probs", "probs"])
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
def test_scores_and_a_report_are_drawn_to_the_bit_alike(dtype: Any, values: Any) -> None:
    x, t = _texts_of_two_lengths()
    if values != "logits":
        x = crossent.log_softmax(x) if values == "log_probs" else crossent.softmax(x)
    x = x.astype(dtype)
    t[:, 7:9] = -100
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", crossent.LikelyMistakeWarning)  # of sums that are rounded
        scorer = crossent.Scorer(by_position=True, values=values)
        scorer.update(x, t)
        scores = crossent.score(x, t, values=values)
        in_blocks = crossent.score(crossent.blocks.ArrayBlocks(x, -1), t, values=values)
    report = scorer.result()
    expected = _drawn(report)
    assert _drawn(scores) == expected
    assert _drawn(in_blocks) == expected
    assert _drawn(pickle.loads(pickle.dumps(scores))) == expected
    assert _drawn(copy.copy(scores)) == expected


def test_scores_whose_losses_have_been_changed_are_drawn_as_they_are() -> None:
    x, t = _texts_of_two_lengths()
    scores = crossent.score(x.astype(np.float32), t)
    other = dataclasses.replace(scores, nll=scores.nll + 1)
    assert np.asarray(plot.position(other, ax=_axes()).get_lines()[0].get_ydata()).min() > 1
    expected = _drawn(other)
    scores.nll[...] += 1
    assert _drawn(scores) == expected


def test_positions_without_rows_and_losses_that_are_not_finite_leave_gaps() -> None:
    x, t = _texts_of_two_lengths()
    t[:, 3] = -100
    t[:, :3] = 0
    x[2, 1, 0], x[2, 2, 0] = -np.inf, np.nan
    for result in (_report(x, t, by_position=True), crossent.score(x, t)):
        ax = plot.position(result, ax=_axes())
        (line,) = ax.get_lines()
        positions, means = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
        assert 4 not in positions
        assert np.isnan(means[[1, 2]]).all()
        assert np.isfinite(means[[0, 3]]).all()
        assert ax.get_ylim()[1] < 10
        _save(ax)


def test_one_text_is_drawn_without_a_band_where_there_is_none() -> None:
    scores = crossent.score(*_kept("docs"))
    ax = plot.position(scores, ax=_axes())
    groups = report_of_losses(scores._losses(), scores.counted).position_groups
    assert sum(group.count for group in groups) == 1500
    np.testing.assert_array_equal(ax.get_lines()[0].get_ydata(), [group.mean for group in groups])
    assert math.isnan(groups[0].standard_error)
    _save(ax)
    _save(plot.position(crossent.score(np.zeros(3), 1), ax=_axes()))


def test_no_positions_without_asking_for_them() -> None:
    with pytest.raises(ValueError, match="by_position=True"):
        plot.position(_report(*_kept("digits")))
    with pytest.raises(TypeError, match="got Comparison"):
        plot.position(crossent.compare(np.zeros((1, 2)), np.zeros((1, 2))))
    with pytest.raises(TypeError, match="got Scorer"):
        plot.histogram(crossent.Scorer())


# ---- two models -----------------------------------------------------------------------------------------


def _pair(rows: int) -> tuple[crossent.Scores, crossent.Scores]:
    rng = np.random.default_rng(rows)
    x, t = rng.standard_normal((rows, 12)), rng.integers(0, 12, rows)
    t[3::5] = -100
    return crossent.score(x, t), crossent.score(x + 0.3 * rng.standard_normal(x.shape), t)


@pytest.mark.parametrize("rows", [1, 2, 100, 2500, 5000])
def test_a_comparison_shows_each_row_or_counts_them(rows: int) -> None:
    one, other = _pair(rows)
    ax = plot.comparison(one, other, names=("large", "small"), ax=_axes())
    x, y = one.nll[one.counted], other.nll[one.counted]
    if len(x) <= 2000:
        (points,) = (c for c in ax.collections if isinstance(c, PathCollection))
        np.testing.assert_array_equal(points.get_offsets(), np.stack([x, y], axis=1))
    else:
        (hexagons,) = (c for c in ax.collections if isinstance(c, PolyCollection))
        counts = hexagons.get_array()
        assert counts is not None
        assert counts.sum() == len(x)
        assert len(ax.child_axes) == 1
    assert ax.get_xlim() == ax.get_ylim()
    assert ax.get_xticks().tolist() == ax.get_yticks().tolist()
    (diagonal,) = ax.get_lines()
    np.testing.assert_array_equal(diagonal.get_xdata(), diagonal.get_ydata())
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("loss of large (nats)", "loss of small (nats)")
    if len(x) > 1:
        error = (y - x).std(ddof=1) / math.sqrt(len(x))
        assert f"{(y - x).mean():+.3g} ± {error:.2g} nats" in _texts(ax)
    assert f"small lower in {100 * (y < x).mean():.3g} %\nof {len(x):,} rows" in _texts(ax)
    _save(ax)


def test_the_difference_is_that_of_compare() -> None:
    x, t = _kept("docs")
    x = x.astype(np.float64)
    other = x.round()
    found = crossent.compare(x, other, t)
    ax = plot.comparison(crossent.score(x, t), crossent.score(other, t), ax=_axes())
    expected = f"{found.log_perplexity_ratio:+.3g} ± {found.log_perplexity_ratio_standard_error:.2g} nats"
    assert expected in _texts(ax)


def test_rows_that_are_not_finite_are_told_and_not_drawn() -> None:
    x = np.zeros((6, 3))
    y = x.copy()
    x[1, 0], y[2, 0], x[3, 1] = -np.inf, -np.inf, np.nan
    ax = plot.comparison(crossent.score(x, [0] * 6), crossent.score(y, [0] * 6), ax=_axes())
    (points,) = (c for c in ax.collections if isinstance(c, PathCollection))
    assert len(np.asarray(points.get_offsets())) == 3
    assert "3 nan or infinite" in _texts(ax)
    assert "nan nats" in _texts(ax)
    _save(ax)
    nothing = crossent.score(np.full((2, 3), np.nan), [0, 0])
    _save(plot.comparison(nothing, nothing, ax=_axes()))


def test_scores_of_other_rows_are_refused() -> None:
    one, _ = _pair(100)
    for wrong in (_pair(101)[0], crossent.score(np.zeros((100, 2)), [0] * 100)):
        with pytest.raises(ValueError, match="not of the same rows"):
            plot.comparison(one, wrong)
    with pytest.raises(TypeError, match="got Report; use score"):
        plot.comparison(one, _report(*_kept("digits")))


# ---- nothing to draw ------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [0, 3])
def test_no_rows_give_empty_axes_that_say_so(rows: int) -> None:
    x, t = np.zeros((rows, 1, 4)), np.full((rows, 1), -100)
    report, scores = _report(x, t, by_position=True), crossent.score(x, t)
    for draw in (
        lambda ax: plot.reliability(report, ax=ax),
        lambda ax: plot.histogram(report, ax=ax),
        lambda ax: plot.histogram(scores, ax=ax),
        lambda ax: plot.position(report, ax=ax),
        lambda ax: plot.position(scores, ax=ax),
        lambda ax: plot.comparison(scores, scores, ax=ax),
    ):
        ax = draw(_axes())
        assert _texts(ax) == "no rows"
        assert ax.get_xlabel()
        _save(ax)
