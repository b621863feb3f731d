"""Exact and fast cross entropy, softmax and log-sum-exp on the CPU, with torch's names, for NumPy arrays."""

from crossent._core import __version__
from crossent.exceptions import LikelyMistakeWarning
from crossent.gradients import cross_entropy_and_grad, nll_loss_and_grad
from crossent.losses import cross_entropy, nll_loss
from crossent.modules import CrossEntropyLoss, LogSoftmax, NLLLoss, Softmax
from crossent.rows import log_sigmoid, log_softmax, logsumexp, softmax
from crossent.settings import get_num_threads, set_num_threads, show_versions

__all__ = [
    "CrossEntropyLoss",
    "LikelyMistakeWarning",
    "LogSoftmax",
    "NLLLoss",
    "Softmax",
    "__version__",
    "cross_entropy",
    "cross_entropy_and_grad",
    "get_num_threads",
    "log_sigmoid",
    "log_softmax",
    "logsumexp",
    "nll_loss",
    "nll_loss_and_grad",
    "set_num_threads",
    "show_versions",
    "softmax",
]
