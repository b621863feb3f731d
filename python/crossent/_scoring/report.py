"""The report of a scorer: figures of any number of rows."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from crossent._display import aligned, html_table, nats_with_error
from crossent._scoring.distribution import LossHistogram, PositionGroup
from crossent._scoring.equality import Result

# The interval holds the middle 95 % of a normal distribution.
Z = 1.9599639845400536


@dataclass(frozen=True, eq=False, slots=True)
class CalibrationBin(Result):
    """The rows whose largest probability lies between two numbers.

    Attributes
    ----------
    lower, upper : float
        The ends of the bin: above `lower`, up to and including `upper`.
    count : int
        How many rows there are.
    confidence : float
        The mean of their largest probability; nan for an empty bin.
    accuracy : float
        The share of them whose prediction is the target; nan for an empty bin.

    See Also
    --------
    Report : Holds the bins.
    """

    lower: float
    upper: float
    count: int
    confidence: float
    accuracy: float


@dataclass(frozen=True, eq=False, repr=False)
class Report(Result):
    """The scores of all rows that a `Scorer` has seen, as numbers.

    Attributes
    ----------
    count : int
        Rows that are counted.
    ignored : int
        Rows that are not.
    nll_sum : float
        The sum of the negative log-likelihoods of the targets, in nats.
    mean : float
        Their mean over the counted rows; nan for none. It is the report's value as a float.
    standard_error : float
        Of the mean: the sample standard deviation (n - 1) over the root of n; nan for less than two rows.
    perplexity : float
        The exponential of the mean.
    perplexity_interval : tuple of two floats
        The exponentials of the ends of the mean's 95 % interval, which are 1.96 standard errors away from it.
    bits_per_token : float
        The mean in bits: divided by ln 2.
    bits_per_unit : float or None
        The sum in bits for each unit (byte, character, word); None where no units were given.
    units : float or None
        The number of units of the counted rows.
    accuracy : float
        The share of the counted rows whose prediction is the target.
    top_k_accuracy : mapping of int to float
        For each k, the share of the counted rows whose target is among the k largest logits, where the lower of tied
        classes comes first: that of 1 is the accuracy. In a row that holds a nan the target is among no k largest.
    mean_entropy : float
        The mean of the entropy of the softmax, in nats.
    mean_reciprocal_rank : float
        The mean of 1 / rank, with the ranks of `Scores`: ties go to the lower class.
    expected_calibration_error : float
        The mean over the rows of the distance between accuracy and confidence of their bin.
    calibration_bins : tuple of CalibrationBin
        Equally wide bins of the largest probability, closed on the right.
    brier_score : float
        The mean of the sum over the classes of (probability - 1 for the target)^2: from 0 to 2.
    nonfinite : int
        Counted rows whose negative log-likelihood is nan or infinite.
    first_nonfinite : int or None
        The number of the first of them, among all rows in the order of the updates.
    loss_histogram : LossHistogram
        The rows by their negative log-likelihood.
    position_groups : tuple of PositionGroup
        Means by position, for scorers made with ``by_position=True``: one group for each position below 16, then
        eight for each doubling of it, up to the largest that occurred.
    classes : int
        The number of classes, the largest where batches differ; 0 for no batch.

    See Also
    --------
    Scorer : Makes it.
    """

    count: int
    ignored: int
    nll_sum: float
    mean: float
    standard_error: float
    perplexity: float
    perplexity_interval: tuple[float, float]
    bits_per_token: float
    bits_per_unit: float | None
    units: float | None
    accuracy: float
    top_k_accuracy: Mapping[int, float]
    mean_entropy: float
    mean_reciprocal_rank: float
    expected_calibration_error: float
    calibration_bins: tuple[CalibrationBin, ...]
    brier_score: float
    nonfinite: int
    first_nonfinite: int | None
    loss_histogram: LossHistogram
    position_groups: tuple[PositionGroup, ...]
    classes: int = 0

    def __float__(self) -> float:
        return self.mean

    def to_dict(self) -> dict[str, Any]:
        """Give the fields by name.

        Returns
        -------
        dict
            Numbers, lists and dictionaries: what `json.dumps` takes.
        """
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        values["perplexity_interval"] = list(self.perplexity_interval)
        values["top_k_accuracy"] = {str(k): share for k, share in self.top_k_accuracy.items()}
        values["calibration_bins"] = [asdict(b) for b in self.calibration_bins]
        values["loss_histogram"] = asdict(self.loss_histogram) | {"counts": list(self.loss_histogram.counts)}
        values["position_groups"] = [asdict(g) for g in self.position_groups]
        return values

    def _lines(self, row: str | None = None) -> list[tuple[str, str]]:
        low, high = self.perplexity_interval
        # A single row has none.
        interval = "" if math.isnan(self.standard_error) else f" (95 %: {low:.6g} to {high:.6g})"
        # Rows that stand for units of text are tokens; of others that is not known.
        row = row or ("row" if self.bits_per_unit is None else "token")
        lines = [
            ("rows counted", f"{self.count:,}"),
            ("rows ignored", f"{self.ignored:,}"),
            ("mean NLL", nats_with_error(self.mean, self.standard_error)),
            ("perplexity", f"{self.perplexity:.6g}{interval}"),
            (f"bits per {row}", f"{self.bits_per_token:.6g}"),
        ]
        if self.bits_per_unit is not None:
            lines.append(("bits per unit", f"{self.bits_per_unit:.6g} ({self.units:,.12g} units)"))
        lines.append(("accuracy", f"{self.accuracy:.6g}"))
        # Among as many classes as there are, every target is found.
        lines += [
            (f"top-{k} accuracy", f"{share:.6g}")
            for k, share in self.top_k_accuracy.items()
            if k > 1 and not 0 < self.classes <= k
        ]
        lines += [
            ("mean reciprocal rank", f"{self.mean_reciprocal_rank:.6g}"),
            ("mean entropy", f"{self.mean_entropy:.6g} nats"),
        ]
        if self.calibration_bins:
            ece = f"{self.expected_calibration_error:.6g} ({len(self.calibration_bins)} bins)"
            lines.append(("calibration error", ece))
        lines.append(("Brier score", f"{self.brier_score:.6g}"))
        if self.nonfinite:
            lines.append(("rows not finite", f"{self.nonfinite:,} (the first is row {self.first_nonfinite})"))
        return lines

    def __repr__(self) -> str:
        return "Report\n" + aligned(self._lines())

    def _repr_html_(self) -> str:
        return html_table("Report", self._lines())
