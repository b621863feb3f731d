"""Public names belong to `crossent`, whatever module their code is in; and the modules that pickles of 0.1.0 name."""

import sys
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any, get_overloads, overload

# Version 0.1.0 named classes and functions by these modules, in pickles and in warning filters.
MODULES_OF_0_1: dict[str, tuple[str, ...]] = {
    "comparing": ("Comparer", "Comparison", "compare"),
    "distribution": ("LossHistogram", "PositionGroup"),
    "exceptions": ("LikelyMistakeWarning",),
    "gradients": ("cross_entropy_and_grad", "nll_loss_and_grad"),
    "losses": ("cross_entropy", "nll_loss"),
    "metrics": ("log_loss",),
    "modules": ("BCELoss", "BCEWithLogitsLoss", "CrossEntropyLoss", "LogSoftmax", "NLLLoss", "Softmax"),
    "pointwise": (
        "binary_cross_entropy",
        "binary_cross_entropy_and_grad",
        "binary_cross_entropy_with_logits",
        "binary_cross_entropy_with_logits_and_grad",
        "gaussian_nll_loss",
        "kl_div",
        "kl_div_and_grad",
        "poisson_nll_loss",
    ),
    "report": ("CalibrationBin", "Report", "Scorer"),
    "rows": ("log_sigmoid", "log_softmax", "logsumexp", "softmax"),
    "scoring": ("Scores", "SequenceScores", "score"),
    "settings": ("get_num_threads", "set_num_threads", "show_versions"),
    "temperature": ("Temperature", "fit_temperature"),
}


def publish(names: Mapping[str, Any], public: Iterable[str]) -> None:
    """Make the public names of a package its own, and let the modules of 0.1.0 be imported.

    Tracebacks, pickles and documentation then show `crossent.Scorer`, and code may move without breaking them.
    """
    package: str = names["__name__"]
    for name in public:
        if not name.startswith("_"):
            _move(names[name], package)
    for module, its_names in MODULES_OF_0_1.items():
        # Not an attribute of the package: `dir` shows what is public, and a pickle looks into `sys.modules`.
        old = ModuleType(
            f"{package}.{module}", f"The names that version 0.1.0 had in this module; use `{package}`."
        )
        vars(old).update({name: names[name] for name in its_names})
        sys.modules[old.__name__] = old


def _move(thing: Any, package: str) -> None:
    # `typing.get_overloads` finds the overloads of a function by its module.
    for overloaded in get_overloads(thing):
        overloaded.__module__ = package
        overload(overloaded)
    thing.__module__ = package
