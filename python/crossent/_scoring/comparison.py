"""The comparison of two models: figures of any number of rows."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from crossent._display import aligned, html_table, nats_with_error, with_error
from crossent._scoring.equality import Result


@dataclass(frozen=True, eq=False, repr=False)
class Comparison(Result):
    """How far a model Q is from a reference P, over all rows: the table of llama.cpp, in full precision.

    Divergences are in nats. The fields after `jensen_shannon_mean` are None where there were no targets.

    Attributes
    ----------
    count : int
        Rows that are counted.
    ignored : int
        Rows that are not.
    kl_mean : float
        The mean of KL(P || Q); nan for no rows. It is the comparison's value as a float.
    kl_standard_error : float
        Of that mean: the sample standard deviation (n - 1) over the root of n.
    kl_percentiles : mapping of float to float
        Of KL(P || Q), at 1, 5, 10, 50, 90, 95, 99 and 99.9 percent: interpolated linearly at position share (n - 1)
        of the sorted values.
    kl_min, kl_max : float
        The smallest and the largest KL(P || Q).
    same_top : float
        The share of rows for which both models have the same prediction; a row that holds a nan has none.
    same_top_standard_error : float
        The root of same_top (1 - same_top) / (n - 1).
    reverse_kl_mean : float
        The mean of KL(Q || P).
    jensen_shannon_mean : float
        The mean of the Jensen-Shannon divergence, (KL(P || M) + KL(Q || M)) / 2 with M = (P + Q) / 2: from 0 to
        ln 2.
    nll_mean, other_nll_mean : float or None
        The mean negative log-likelihoods of the targets under P and Q.
    log_perplexity_ratio : float or None
        ln(perplexity of Q / perplexity of P), the difference of these means.
    log_perplexity_ratio_standard_error : float or None
        Of that difference, in pairs: the root of (var(P) + var(Q) - 2 cov(P, Q)) / n with sample variances.
    perplexity_ratio : float or None
        Perplexity of Q / perplexity of P.
    perplexity_ratio_standard_error : float or None
        The ratio times the standard error of its logarithm.
    perplexity_difference : float or None
        Perplexity of Q - perplexity of P.
    perplexity_difference_standard_error : float or None
        The root of (var(P) a^2 + var(Q) b^2 - 2 cov(P, Q) a b) / n, where a and b are the perplexities.
    target_probability_mean_difference : float or None
        The mean of q - p for the targets' probabilities.
    target_probability_mean_difference_standard_error : float or None
        Of that mean.
    target_probability_rms_difference : float or None
        The root of the mean of (q - p)^2.
    target_probability_rms_difference_standard_error : float or None
        That of the mean of (q - p)^2, over twice the root; 0 where all are 0.
    target_probability_difference_percentiles : mapping of float to float, or None
        Of q - p, at 0.1, 1, 5, 10, 25, 50, 75, 90, 95, 99 and 99.9 percent.
    target_probability_difference_min, target_probability_difference_max : float or None
        The smallest and the largest q - p.
    correlation : float or None
        Pearson's, of the two models' negative log-likelihoods; nan where one of them does not vary.

    See Also
    --------
    compare, Comparer : Make it.
    """

    count: int
    ignored: int
    kl_mean: float
    kl_standard_error: float
    kl_percentiles: Mapping[float, float]
    kl_min: float
    kl_max: float
    same_top: float
    same_top_standard_error: float
    reverse_kl_mean: float
    jensen_shannon_mean: float
    nll_mean: float | None
    other_nll_mean: float | None
    log_perplexity_ratio: float | None
    log_perplexity_ratio_standard_error: float | None
    perplexity_ratio: float | None
    perplexity_ratio_standard_error: float | None
    perplexity_difference: float | None
    perplexity_difference_standard_error: float | None
    target_probability_mean_difference: float | None
    target_probability_mean_difference_standard_error: float | None
    target_probability_rms_difference: float | None
    target_probability_rms_difference_standard_error: float | None
    target_probability_difference_percentiles: Mapping[float, float] | None
    target_probability_difference_min: float | None
    target_probability_difference_max: float | None
    correlation: float | None

    def __float__(self) -> float:
        return self.kl_mean

    def to_dict(self) -> dict[str, Any]:
        """Give the fields by name.

        Returns
        -------
        dict
            Numbers and dictionaries: what `json.dumps` takes.
        """
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        for name in ("kl_percentiles", "target_probability_difference_percentiles"):
            if values[name] is not None:
                values[name] = {str(key): value for key, value in values[name].items()}
        return values

    def _lines(self) -> list[tuple[str, str]]:
        lines = [
            ("rows counted", f"{self.count:,}"),
            ("rows ignored", f"{self.ignored:,}"),
            ("mean KL(P || Q)", nats_with_error(self.kl_mean, self.kl_standard_error)),
            ("KL, maximum", f"{self.kl_max:.6g}"),
            *_percentile_lines("KL", self.kl_percentiles),
            ("KL, minimum", f"{self.kl_min:.6g}"),
            ("mean KL(Q || P)", f"{self.reverse_kl_mean:.6g} nats"),
            ("mean Jensen-Shannon", f"{self.jensen_shannon_mean:.6g} nats"),
            ("same prediction", with_error(self.same_top, self.same_top_standard_error)),
        ]
        if self.target_probability_difference_percentiles is None:
            return lines
        return [
            *lines,
            ("mean NLL of P", f"{self.nll_mean:.6g} nats"),
            ("mean NLL of Q", f"{self.other_nll_mean:.6g} nats"),
            (
                "ln(PPL(Q) / PPL(P))",
                with_error(self.log_perplexity_ratio, self.log_perplexity_ratio_standard_error),
            ),
            ("PPL(Q) / PPL(P)", with_error(self.perplexity_ratio, self.perplexity_ratio_standard_error)),
            (
                "PPL(Q) - PPL(P)",
                with_error(self.perplexity_difference, self.perplexity_difference_standard_error),
            ),
            ("correlation of NLL", f"{self.correlation:.6g}"),
            (
                "mean of q - p",
                with_error(
                    self.target_probability_mean_difference,
                    self.target_probability_mean_difference_standard_error,
                )
                + " (p, q: the target's probability)",
            ),
            (
                "RMS of q - p",
                with_error(
                    self.target_probability_rms_difference,
                    self.target_probability_rms_difference_standard_error,
                ),
            ),
            ("q - p, maximum", f"{self.target_probability_difference_max:.6g}"),
            *_percentile_lines("q - p", self.target_probability_difference_percentiles),
            ("q - p, minimum", f"{self.target_probability_difference_min:.6g}"),
        ]

    def __repr__(self) -> str:
        return "Comparison of Q with the reference P\n" + aligned(self._lines())

    def _repr_html_(self) -> str:
        return html_table("Comparison of Q with the reference P", self._lines())


def _percentile_lines(what: str, percentiles: Mapping[float, float]) -> list[tuple[str, str]]:
    """Name the percentiles of something for a table, the largest first."""
    return [
        (f"{what}, median" if key == 50 else f"{what}, percentile {key:g}", f"{value:.6g}")
        for key, value in sorted(percentiles.items(), reverse=True)
    ]
