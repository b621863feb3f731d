"""Exact and fast cross entropy, softmax and log-sum-exp on the CPU, with torch's names, for NumPy arrays."""

from crossent import _names
from crossent._core import __version__
from crossent._exceptions import LikelyMistakeWarning, NothingCountedWarning
from crossent._linear import LinearLogits
from crossent._losses.binary import (
    binary_cross_entropy,
    binary_cross_entropy_and_grad,
    binary_cross_entropy_with_logits,
    binary_cross_entropy_with_logits_and_grad,
    sigmoid_focal_loss,
    sigmoid_focal_loss_and_grad,
)
from crossent._losses.classes import (
    cross_entropy,
    cross_entropy_and_grad,
    focal_loss,
    focal_loss_and_grad,
    nll_loss,
    nll_loss_and_grad,
    poly_loss,
    poly_loss_and_grad,
)
from crossent._losses.elements import (
    gaussian_nll_loss,
    kl_div,
    kl_div_and_grad,
    poisson_nll_loss,
)
from crossent._losses.linear import LinearGradients, linear_cross_entropy, linear_cross_entropy_and_grad
from crossent._losses.teacher import kl_div_topk, kl_div_topk_and_grad
from crossent._modules import (
    BCELoss,
    BCEWithLogitsLoss,
    CrossEntropyLoss,
    FocalLoss,
    LogSoftmax,
    NLLLoss,
    PolyLoss,
    Softmax,
)
from crossent._rows import log_sigmoid, log_softmax, logsumexp, softmax
from crossent._scoring.comparer import Comparer, compare
from crossent._scoring.comparison import Comparison
from crossent._scoring.distribution import LossHistogram, PositionGroup
from crossent._scoring.metrics import log_loss
from crossent._scoring.report import CalibrationBin, Report
from crossent._scoring.rows import ClassScores, Scores, SequenceScores, score
from crossent._scoring.scorer import Scorer
from crossent._scoring.temperature import Temperature, fit_temperature
from crossent._settings import get_num_threads, set_num_threads, show_versions

__all__ = [
    "BCELoss",
    "BCEWithLogitsLoss",
    "CalibrationBin",
    "ClassScores",
    "Comparer",
    "Comparison",
    "CrossEntropyLoss",
    "FocalLoss",
    "LikelyMistakeWarning",
    "LinearGradients",
    "LinearLogits",
    "LogSoftmax",
    "LossHistogram",
    "NLLLoss",
    "NothingCountedWarning",
    "PolyLoss",
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
    "focal_loss",
    "focal_loss_and_grad",
    "gaussian_nll_loss",
    "get_num_threads",
    "kl_div",
    "kl_div_and_grad",
    "kl_div_topk",
    "kl_div_topk_and_grad",
    "linear_cross_entropy",
    "linear_cross_entropy_and_grad",
    "log_loss",
    "log_sigmoid",
    "log_softmax",
    "logsumexp",
    "nll_loss",
    "nll_loss_and_grad",
    "poisson_nll_loss",
    "poly_loss",
    "poly_loss_and_grad",
    "score",
    "set_num_threads",
    "show_versions",
    "sigmoid_focal_loss",
    "sigmoid_focal_loss_and_grad",
    "softmax",
]

_names.publish(vars(), __all__)
