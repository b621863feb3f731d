"""Importing crossent loads NumPy and nothing else; the public names are those of the contract, and documented."""

from __future__ import annotations

import inspect
import json
import pickle
import pkgutil
import statistics
import subprocess
import sys
import typing
from typing import Any

import pytest

import crossent
from crossent._scoring.report import Z

FUNCTIONS = {
    "cross_entropy": (
        "input, target, weight=None, *, ignore_index=-100, reduction='mean', label_smoothing=0.0, z_loss=0.0, "
        "axis=None, where=None, dtype=None, out=None"
    ),
    "nll_loss": (
        "input, target, weight=None, *, ignore_index=-100, reduction='mean', axis=None, where=None, dtype=None, "
        "out=None"
    ),
    "cross_entropy_and_grad": (
        "input, target, weight=None, *, ignore_index=-100, reduction='mean', label_smoothing=0.0, z_loss=0.0, "
        "axis=None, where=None, dtype=None, out=None, grad_output=None, grad_out=None"
    ),
    "nll_loss_and_grad": (
        "input, target, weight=None, *, ignore_index=-100, reduction='mean', axis=None, where=None, dtype=None, "
        "out=None, grad_output=None, grad_out=None"
    ),
    "binary_cross_entropy": "input, target, weight=None, *, reduction='mean', clamp=-100.0, dtype=None, out=None",
    "binary_cross_entropy_and_grad": (
        "input, target, weight=None, *, reduction='mean', clamp=-100.0, dtype=None, out=None, grad_output=None, "
        "grad_out=None"
    ),
    "binary_cross_entropy_with_logits": (
        "input, target, weight=None, *, pos_weight=None, reduction='mean', dtype=None, out=None"
    ),
    "binary_cross_entropy_with_logits_and_grad": (
        "input, target, weight=None, *, pos_weight=None, reduction='mean', dtype=None, out=None, "
        "grad_output=None, grad_out=None"
    ),
    "sigmoid_focal_loss": ("input, target, *, alpha=0.25, gamma=2.0, reduction='none', dtype=None, out=None"),
    "sigmoid_focal_loss_and_grad": (
        "input, target, *, alpha=0.25, gamma=2.0, reduction='none', dtype=None, out=None, grad_output=None, "
        "grad_out=None"
    ),
    "kl_div": "input, target, *, reduction='mean', log_target=False, dtype=None, out=None",
    "kl_div_and_grad": (
        "input, target, *, reduction='mean', log_target=False, dtype=None, out=None, grad_output=None, "
        "grad_out=None"
    ),
    "gaussian_nll_loss": "input, target, var, *, full=False, eps=1e-06, reduction='mean', dtype=None, out=None",
    "poisson_nll_loss": (
        "input, target, *, log_input=True, full=False, eps=1e-08, reduction='mean', dtype=None, out=None"
    ),
    "log_softmax": "x, axis=-1, *, out=None",
    "softmax": "x, axis=-1, *, out=None",
    "log_sigmoid": "x, *, out=None",
    "logsumexp": "x, axis=None, *, b=None, keepdims=False, return_sign=False, out=None",
    "score": "logits, target, *, ignore_index=-100, where=None, axis=-1, shift=0, top_k=0, "
    "values='logits', log_probs=None",
    "Scorer": "*, ignore_index=-100, top_k=(1, 5), bins=15, by_position=False, values='logits'",
    "compare": (
        "logits, other_logits, target=None, *, ignore_index=-100, where=None, axis=-1, shift=0, values='logits'"
    ),
    "Comparer": "*, ignore_index=-100, values='logits'",
    "fit_temperature": (
        "logits, target=None, *, ignore_index=-100, where=None, axis=-1, values='logits', sample_weight=None"
    ),
    "log_loss": "y_true, y_proba, *, labels=None, sample_weight=None, normalize=True, eps='auto'",
    "set_num_threads": "n",
    "get_num_threads": "",
    "show_versions": "",
}

PUBLIC = [key for key in crossent.__all__ if key != "__version__"]


def _loaded(module: str) -> set[str]:
    """The top-level names of all modules that a fresh process has after importing `module`."""
    code = (
        f"import sys, json, {module}; print(json.dumps(sorted({{m.partition('.')[0] for m in sys.modules}})))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names: set[str] = set(json.loads(run.stdout))
    return names


def test_the_import_loads_numpy_and_nothing_else() -> None:
    new = _loaded("crossent") - _loaded("numpy")
    assert new - sys.stdlib_module_names == {"crossent"}


def test_the_import_leaves_out_what_only_some_results_need() -> None:
    assert not {"statistics", "random", "html", "argparse", "matplotlib"} & (
        _loaded("crossent") - _loaded("numpy")
    )
    assert pytest.approx(statistics.NormalDist().inv_cdf(0.975), rel=1e-15) == Z


def test_the_import_starts_no_thread_and_prints_nothing() -> None:
    code = "import threading, crossent; assert threading.active_count() == 1"
    run = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


def test_the_public_names_exist_and_are_the_contracts() -> None:
    assert set(FUNCTIONS) | {"LikelyMistakeWarning"} <= set(PUBLIC)
    assert len(set(PUBLIC)) == len(PUBLIC)
    for key in crossent.__all__:
        assert hasattr(crossent, key)
    assert crossent.__version__[0].isdigit()


@pytest.mark.parametrize("key", FUNCTIONS)
def test_signatures_are_the_contracts(key: str) -> None:
    signature = inspect.signature(getattr(crossent, key))
    bare = [p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()]
    plain = signature.replace(parameters=bare, return_annotation=inspect.Signature.empty)
    assert str(plain) == f"({FUNCTIONS[key]})"


@pytest.mark.parametrize("key", PUBLIC)
def test_public_names_are_documented_with_an_example(key: str) -> None:
    thing: Any = getattr(crossent, key)
    text = inspect.getdoc(thing) or ""
    assert text.splitlines()[0].endswith(".")
    if not inspect.isclass(thing):
        assert "Examples\n--------" in text
        assert ">>> " in text


def test_public_names_belong_to_the_package() -> None:
    for key in PUBLIC:
        assert (getattr(crossent, key).__module__, getattr(crossent, key).__name__) == ("crossent", key)
        assert pickle.dumps(getattr(crossent, key), 0).startswith(b"ccrossent\n" + key.encode() + b"\n")


def test_the_package_shows_its_public_names_and_no_other() -> None:
    code = "import json, crossent; print(json.dumps([n for n in dir(crossent) if not n.startswith('_')]))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(run.stdout) == sorted([*PUBLIC, "blocks"])
    public = [module.name for module in pkgutil.iter_modules(crossent.__path__) if module.name[0] != "_"]
    assert public == ["blocks", "boosting", "dask", "plot", "sharded", "sklearn", "torch"]


def test_annotations_of_public_names_can_be_read() -> None:
    for key in PUBLIC:
        thing = getattr(crossent, key)
        hints = typing.get_type_hints(thing)
        assert set(hints) >= set(getattr(thing, "__dataclass_fields__", {}))
        for overloaded in typing.get_overloads(thing):
            assert overloaded.__module__ == "crossent"
            assert "return" in typing.get_type_hints(overloaded)


def test_a_traceback_names_a_file_that_says_what_it_holds() -> None:
    for key in PUBLIC:
        thing = getattr(crossent, key)
        if inspect.isfunction(thing):
            assert f"def {key}(" in inspect.getsource(thing)
