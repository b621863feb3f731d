"""Pictures of results, for a notebook or a paper: they take result objects and return Matplotlib's axes.

They draw fields of the results, and compute nothing again. Matplotlib is loaded by the first picture, and its
settings are left alone. Each function takes the axes to draw on as `ax`; without them it makes a new figure of 3.3
inches, the width of a column, with `matplotlib.pyplot`, so that notebooks show it. Such a figure stays open until
``matplotlib.pyplot.close(ax.figure)``; with ``ax=matplotlib.figure.Figure().subplots()`` pyplot is not even loaded.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from crossent._exact import ExactSum, standard_error
from crossent._scoring.distribution import BINS_PER_NAT, LAST_EDGE, LossHistogram
from crossent._scoring.report import Report, Z
from crossent._scoring.rows import Scores
from crossent._scoring.scorer import report_of_losses

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["comparison", "histogram", "position", "reliability"]

# Of Okabe and Ito: they differ for every kind of colour vision, and in grey.
_BLUE, _ORANGE, _GREY = "#0072B2", "#D55E00", "#595959"
_COLUMN = 3.3  # inches
_POINTS = 8.0  # of letters in a column
_MOST_BARS = 48
# Above this many rows points would cover each other, and a vector file would be large.
_MOST_POINTS = 2000


class _Canvas:
    """The axes to draw on, and the size of letters: small on a new figure of one column, the user's own elsewhere."""

    def __init__(self, ax: Axes | None, height: float) -> None:
        try:
            import matplotlib.axes
        except ImportError as error:
            raise ImportError("pictures need Matplotlib: pip install 'crossent[plot]'") from error
        self.letters: dict[str, Any] = {}
        if ax is None:
            from matplotlib import pyplot

            self.letters = {"fontsize": _POINTS}
            _, ax = pyplot.subplots(figsize=(_COLUMN, height), layout="constrained")
        elif not isinstance(ax, matplotlib.axes.Axes):
            raise TypeError(f"ax must be Matplotlib's Axes: got {type(ax).__name__}")
        self.ax = ax
        self.frame(ax)

    def frame(self, ax: Axes) -> None:
        """Remove the upper and the right spine, and draw a light grid."""
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(visible=True, color="0.9", linewidth=0.6)
        ax.set_axisbelow(True)
        if self.letters:
            ax.tick_params(labelsize=_POINTS, width=0.6, length=2.5)
            for spine in ax.spines.values():
                spine.set_linewidth(0.6)

    def label(self, x: str, y: str) -> None:
        self.ax.set_xlabel(x, **self.letters)
        self.ax.set_ylabel(y, **self.letters)

    def note(self, lines: Sequence[str], x: float, y: float) -> None:
        """Write lines in a corner of the axes, 0 or 1 each."""
        self.ax.annotate(
            "\n".join(lines),
            (x, y),
            xytext=(5 - 10 * x, 4 - 8 * y),
            xycoords="axes fraction",
            textcoords="offset points",
            ha="right" if x else "left",
            va="top" if y else "bottom",
            bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1.0},
            **self.letters,
        )

    def empty(self) -> Axes:
        """Write that there are no rows."""
        self.ax.text(
            0.5, 0.5, "no rows", transform=self.ax.transAxes, ha="center", va="center", **self.letters
        )
        return self.ax


def reliability(report: Report, *, ax: Axes | None = None) -> Axes:
    """Draw a reliability diagram: the accuracy of a classifier against its confidence.

    A point for each bin of the largest probability, at ::

        x = mean of the largest probability in the bin
        y = share of the bin's rows whose prediction is the target

    with Wilson's 95 % interval of y. A calibrated classifier lies on the diagonal, an overconfident one below it. The
    bars above count the rows of each bin, on a logarithmic scale.

    Parameters
    ----------
    report : Report
        A report with `calibration_bins`.
    ax : matplotlib.axes.Axes, optional
        The axes to draw on; by default those of a new figure. The bars are on axes inside of them.

    Returns
    -------
    matplotlib.axes.Axes
        The axes with the points; ``ax.child_axes[-1]`` has the bars.

    Raises
    ------
    ImportError
        If there is no Matplotlib.
    TypeError
        If an argument is of another class.
    ValueError
        If the report has no bins.

    See Also
    --------
    crossent.fit_temperature : The temperature that calibrates a model.

    Notes
    -----
    Wilson (1927): with z = 1.96 and n rows in a bin, the interval is
    (y + z^2 / 2n ± z sqrt(y (1 - y) / n + z^2 / 4n^2)) / (1 + z^2 / n).

    Examples
    --------
    >>> import numpy as np
    >>> import crossent
    >>> from crossent import plot
    >>> from matplotlib.figure import Figure
    >>> scorer = crossent.Scorer(bins=4)
    >>> scorer.update(np.log([[0.6, 0.4], [0.9, 0.1], [0.7, 0.3]]), [0, 0, 1])
    >>> ax = plot.reliability(scorer.result(), ax=Figure().subplots())
    >>> ax.get_xlabel(), ax.get_ylabel()
    ('confidence', 'accuracy')
    """
    if not isinstance(report, Report):
        raise TypeError(
            f"a reliability diagram needs a Report, which a Scorer makes: got {type(report).__name__}"
        )
    if not report.calibration_bins:
        raise ValueError("the report has no calibration_bins: make the scorer with bins=15, not 0")
    canvas = _Canvas(ax, height=3.9)
    ax = canvas.ax
    canvas.label("confidence", "accuracy")
    ax.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    bars = ax.inset_axes((0.0, 1.04, 1.0, 0.22), sharex=ax)
    canvas.frame(bars)
    bars.tick_params(labelbottom=False)
    bars.set_ylabel("rows", **canvas.letters)
    ax.plot([0, 1], [0, 1], color=_GREY, linewidth=0.8, linestyle="--", zorder=1)
    full = [b for b in report.calibration_bins if b.count]
    if not full:
        bars.set_yticks([])
        return canvas.empty()
    bars.bar(
        [b.lower for b in report.calibration_bins],
        [b.count for b in report.calibration_bins],
        width=1 / len(report.calibration_bins),
        align="edge",
        color=_BLUE,
        edgecolor="white",
        linewidth=0.5,
    )
    bars.set_yscale("log")
    bars.set_ylim(0.5, 2 * max(b.count for b in full))
    x = np.array([b.confidence for b in full])
    y = np.array([b.accuracy for b in full])
    low, high = wilson(y, np.array([b.count for b in full]))
    ax.plot(x, y, color=_BLUE, linewidth=0.8, alpha=0.5)
    bars_of_error = ax.errorbar(
        x, y, yerr=(y - low, high - y), color=_BLUE, fmt="o", markersize=4, elinewidth=1
    )
    bars_of_error.lines[0].set_clip_on(False)  # a share of 0 or 1 is a whole point
    canvas.note([f"ECE {report.expected_calibration_error:.3g}", f"{report.count:,} rows"], 1, 0)
    return ax


def wilson(
    share: NDArray[np.float64], count: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the ends of Wilson's 95 % interval of a share of `count` rows."""
    square = Z * Z / count
    middle = (share + square / 2) / (1 + square)
    half = np.sqrt(share * (1 - share) * square + square * square / 4) / (1 + square)
    # Despite rounding, the interval holds the share and lies between 0 and 1.
    return np.clip(middle - half, 0.0, share), np.clip(middle + half, share, 1.0)


def histogram(result: Report | Scores, *, ax: Axes | None = None) -> Axes:
    """Draw how many rows have which loss, on a logarithmic scale that shows the tail.

    Parameters
    ----------
    result : Report or Scores
        A report's `loss_histogram` is drawn. The rows of scores are counted as a report on them counts them.
    ax : matplotlib.axes.Axes, optional
        The axes to draw on; by default those of a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The axes. A bar is a bin of the histogram, or 2, 4, 8, ... of them where there would be more than 48 bars. A
        hatched bar at the right end counts the finite losses from 32 nats on.

    Raises
    ------
    ImportError
        If there is no Matplotlib.
    TypeError
        If an argument is of another class.

    See Also
    --------
    crossent.LossHistogram : What is drawn.

    Notes
    -----
    The dashed line is the mean of the rows. The bounds of 99 % and 99.9 % in the text are ends of bins, at most 1/32
    nat above the quantiles. Losses that are nan or infinite are counted in the text.

    Examples
    --------
    >>> import numpy as np
    >>> import crossent
    >>> from crossent import plot
    >>> from matplotlib.figure import Figure
    >>> scores = crossent.score(np.log([[0.5, 0.5], [0.2, 0.8]]), [0, 1])
    >>> plot.histogram(scores, ax=Figure().subplots()).get_xlabel()
    'loss (nats)'
    """
    if isinstance(result, Report):
        report = result
    elif isinstance(result, Scores):
        report = report_of_losses(result._losses(), result.counted)
    else:
        raise TypeError(f"a histogram needs a Report or Scores: got {type(result).__name__}")
    spread, mean = report.loss_histogram, report.mean
    canvas = _Canvas(ax, height=2.3)
    ax = canvas.ax
    canvas.label("loss (nats)", "rows")
    if not spread.total:
        return canvas.empty()
    edges, counts = coarse(spread)
    if counts.size:
        ax.bar(
            edges[:-1],
            counts,
            width=np.diff(edges),
            align="edge",
            color=_BLUE,
            edgecolor="white",
            linewidth=0.4,
        )
    if spread.above:
        ax.bar(
            LAST_EDGE, spread.above, width=1.0, align="edge", color="white", edgecolor=_ORANGE, hatch="////"
        )
        ax.annotate(
            f"≥ {LAST_EDGE}: {spread.above:,}",
            (LAST_EDGE + 1.0, spread.above),
            xytext=(0, 2),
            textcoords="offset points",
            ha="right",
            va="bottom",
            **canvas.letters,
        )
    ax.set_yscale("log")
    most = max([spread.above, *counts.tolist(), 1])
    ax.set_ylim(0.7, 3 * most)
    ax.set_xlim(0, None)
    if math.isfinite(mean):
        ax.axvline(mean, color=_GREY, linewidth=0.9, linestyle="--")
    lines = [f"mean {mean:.4g}"]
    for share in (0.99, 0.999):
        bound = spread.quantile(share)
        if math.isfinite(bound):
            lines.append(f"{share * 100:g} % of rows below {bound:.3g}")
    if spread.not_finite:
        lines.append(f"{spread.not_finite:,} nan or infinite")
    canvas.note(lines, 1, 1)
    return ax


def coarse(spread: LossHistogram) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return edges and counts of bars of 1, 2, 4, ... bins, so that there are not too many."""
    counts = np.array(spread.counts, dtype=np.int64)
    together = 1
    while counts.size > _MOST_BARS * together:
        together *= 2
    counts = np.pad(counts, (0, -counts.size % together)).reshape(-1, together).sum(axis=1)
    return np.arange(counts.size + 1) * (together / BINS_PER_NAT), counts


def position(result: Report | Scores, *, ax: Axes | None = None) -> Axes:
    """Draw the mean loss against the position, with its error band.

    Parameters
    ----------
    result : Report or Scores
        A report of a scorer made with ``by_position=True``, whose `position_groups` are drawn; or scores, whose last
        axis is that of the positions.
    ax : matplotlib.axes.Axes, optional
        The axes to draw on; by default those of a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The axes, with positions from 1 on a logarithmic scale. A group is drawn at the middle of its positions.

    Raises
    ------
    ImportError
        If there is no Matplotlib.
    TypeError
        If an argument is of another class.
    ValueError
        If the report has no positions.

    See Also
    --------
    crossent.PositionGroup : What is drawn.

    Notes
    -----
    The band is the mean ± 1.96 standard errors of the rows of each group, taken as independent; a group with one row
    has none. Groups whose mean is nan or infinite leave a gap.

    Scores are drawn as a report on the same rows is, to the bit and for logits of every dtype: those from `score`
    remember their losses as they were before `nll` was rounded to float32. Scores that were put together from other
    arrays, or whose `nll` has been changed, are drawn by `nll`.

    Examples
    --------
    >>> import numpy as np
    >>> import crossent
    >>> from crossent import plot
    >>> from matplotlib.figure import Figure
    >>> logits, target = np.zeros((2, 4, 3)), np.zeros((2, 4), dtype=int)
    >>> ax = plot.position(crossent.score(logits, target), ax=Figure().subplots())
    >>> ax.get_lines()[0].get_xdata().tolist()
    [1.0, 2.0, 3.0, 4.0]
    """
    if isinstance(result, Report):
        report = result
        if not report.position_groups and report.count + report.ignored:
            raise ValueError("the report has no position_groups: make the scorer with by_position=True")
    elif isinstance(result, Scores):
        report = report_of_losses(result._losses(), result.counted)
    else:
        raise TypeError(f"a picture of positions needs a Report or Scores: got {type(result).__name__}")
    groups, mean = report.position_groups, report.mean
    canvas = _Canvas(ax, height=2.3)
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    ax = canvas.ax
    canvas.label("position", "loss (nats)")
    groups = tuple(group for group in groups if group.count)
    if not groups:
        return canvas.empty()
    x = np.array([(group.first + group.last) / 2 + 1 for group in groups])
    y = np.array([group.mean for group in groups])
    y[np.isinf(y)] = math.nan
    half = Z * np.array([group.standard_error for group in groups])
    few = len(groups) <= 40
    ax.plot(x, y, color=_BLUE, linewidth=1.2, marker="o" if few else "", markersize=2.5, label="mean")
    ax.fill_between(x, y - half, y + half, color=_BLUE, alpha=0.25, linewidth=0, label="95 % interval")
    if math.isfinite(mean):
        ax.axhline(mean, color=_GREY, linewidth=0.9, linestyle="--", label="all positions")
    ax.set_xscale("log")
    ax.set_xlim(0.9, 1.15 * x[-1])
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if x[-1] < 200 else (1,)))
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.legend(frameon=False, handlelength=1.5, **canvas.letters)
    return ax


def comparison(
    scores: Scores, other: Scores, *, names: tuple[str, str] = ("P", "Q"), ax: Axes | None = None
) -> Axes:
    """Draw the losses of two models for the same rows against each other.

    A row on the diagonal is as likely under both; below it, the second model is the better one. The text gives the mean
    difference, with the standard error of pairs: ::

        mean(d) ± sqrt(var(d) / n)                        with d = nll of other - nll of scores

    Parameters
    ----------
    scores, other : Scores
        The scores of both models, for the same targets.
    names : pair of str, default ("P", "Q")
        What to call the models.
    ax : matplotlib.axes.Axes, optional
        The axes to draw on; by default those of a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The axes: a point for each row, or, above 2000 rows, hexagons whose colour counts the rows in them.

    Raises
    ------
    ImportError
        If there is no Matplotlib.
    TypeError
        If an argument is of another class.
    ValueError
        If the scores are not of the same rows.

    See Also
    --------
    crossent.compare : The figures of such a comparison, over any number of rows.

    Notes
    -----
    Rows whose loss is nan or infinite under one of the models are not drawn. The text counts them, and they make the
    mean difference nan or infinite.

    Examples
    --------
    >>> import numpy as np
    >>> import crossent
    >>> from crossent import plot
    >>> from matplotlib.figure import Figure
    >>> p = crossent.score(np.log([[0.5, 0.5], [0.2, 0.8]]), [0, 1])
    >>> q = crossent.score(np.log([[0.6, 0.4], [0.3, 0.7]]), [0, 1])
    >>> ax = plot.comparison(p, q, names=("large", "small"), ax=Figure().subplots())
    >>> ax.get_xlabel(), ax.get_ylabel()
    ('loss of large (nats)', 'loss of small (nats)')
    """
    for given in (scores, other):
        if not isinstance(given, Scores):
            raise TypeError(
                f"a comparison needs the Scores of both models: got {type(given).__name__}; use score"
            )
    if not np.array_equal(scores.counted, other.counted):
        raise ValueError(
            "the scores are not of the same rows: got shapes "
            f"{scores.nll.shape} with {scores.count} counted and {other.nll.shape} with {other.count} counted rows"
        )
    x, y = (s.nll[s.counted].astype(np.float64) for s in (scores, other))
    canvas = _Canvas(ax, height=3.1)
    from matplotlib.ticker import MaxNLocator

    ax = canvas.ax
    canvas.label(f"loss of {names[0]} (nats)", f"loss of {names[1]} (nats)")
    ax.set_aspect("equal")
    if not x.size:
        return canvas.empty()
    finite = np.isfinite(x) & np.isfinite(y)
    lines = [
        "mean difference",
        _mean_difference(x, y),
        f"{names[1]} lower in {100 * np.mean(y < x):.3g} %",
        f"of {x.size:,} rows",
    ]
    if not finite.all():
        lines += [f"{np.count_nonzero(~finite):,} nan or infinite,", "not drawn"]
    x, y = x[finite], y[finite]
    most = float(max(x.max(initial=0.0), y.max(initial=0.0))) * 1.04 or 1.0
    if x.size > _MOST_POINTS:
        hexagons = ax.hexbin(
            x,
            y,
            gridsize=45,
            extent=(0, most, 0, most),
            bins="log",
            mincnt=1,
            cmap="viridis_r",
            linewidths=0.1,
        )
        scale = ax.inset_axes((1.03, 0.0, 0.04, 1.0))
        bar = ax.figure.colorbar(hexagons, cax=scale)
        bar.set_label("rows", **canvas.letters)
        if canvas.letters:
            scale.tick_params(labelsize=_POINTS, width=0.6, length=2.5)
        bar.outline.set_linewidth(0.6)
    else:
        ax.scatter(x, y, s=6, color=_BLUE, alpha=0.4, linewidths=0)
    ax.plot([0, most], [0, most], color=_GREY, linewidth=0.8, linestyle="--")
    ax.set(xlim=(0, most), ylim=(0, most))
    ticks = [tick for tick in MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(0.0, most) if tick <= most]
    ax.set_xticks(ticks)
    ax.set_yticks(ticks)
    canvas.note(lines, 1, 0)
    return ax


def _mean_difference(x: NDArray[np.float64], y: NDArray[np.float64]) -> str:
    with np.errstate(invalid="ignore", over="ignore"):
        difference = y - x
        squares = ExactSum.of(difference * difference)
    sum, count = ExactSum.of(difference), difference.size
    mean = sum.over(count)
    if not math.isfinite(mean) or count < 2:
        return f"{mean:+.3g} nats"
    return f"{mean:+.3g} ± {standard_error(squares, sum, count):.2g} nats"
