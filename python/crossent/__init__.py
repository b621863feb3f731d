"""Exact and fast cross entropy, softmax and log-sum-exp on the CPU, with torch's names, for NumPy arrays."""

from crossent._core import __version__
from crossent.comparing import Comparer, Comparison, compare
from crossent.distribution import LossHistogram, PositionGroup
from crossent.exceptions import LikelyMistakeWarning
from crossent.gradients import cross_entropy_and_grad, nll_loss_and_grad
from crossent.losses import cross_entropy, nll_loss
from crossent.metrics import log_loss
from crossent.modules import BCELoss, BCEWithLogitsLoss, CrossEntropyLoss, LogSoftmax, NLLLoss, Softmax
from crossent.pointwise import (
    binary_cross_entropy,
    binary_cross_entropy_and_grad,
    binary_cross_entropy_with_logits,
    binary_cross_entropy_with_logits_and_grad,
    gaussian_nll_loss,
    kl_div,
    kl_div_and_grad,
    poisson_nll_loss,
)
from crossent.report import CalibrationBin, Report, Scorer
from crossent.rows import log_sigmoid, log_softmax, logsumexp, softmax
from crossent.scoring import Scores, SequenceScores, score
from crossent.settings import get_num_threads, set_num_threads, show_versions
from crossent.temperature import Temperature, fit_temperature

__all__ = [
    "BCELoss",
    "BCEWithLogitsLoss",
    "CalibrationBin",
    "Comparer",
    "Comparison",
    "CrossEntropyLoss",
    "LikelyMistakeWarning",
    "LogSoftmax",
    "LossHistogram",
    "NLLLoss",
    "PositionGroup",
    "Report",
    "Scorer",
    "Scores",
    "SequenceScores",
    "Softmax",
    "Temperature",
    "__version__",
    "binary_cross_entropy",
    "binary_cross_entropy_and_grad",
    "binary_cross_entropy_with_logits",
    "binary_cross_entropy_with_logits_and_grad",
    "compare",
    "cross_entropy",
    "cross_entropy_and_grad",
    "fit_temperature",
    "gaussian_nll_loss",
    "get_num_threads",
    "kl_div",
    "kl_div_and_grad",
    "log_loss",
    "log_sigmoid",
    "log_softmax",
    "logsumexp",
    "nll_loss",
    "nll_loss_and_grad",
    "poisson_nll_loss",
    "score",
    "set_num_threads",
    "show_versions",
    "softmax",
]
