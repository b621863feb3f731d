"""The compiled module: the checks and the numbers. Private; every argument is always given, by position."""

from collections.abc import Sequence
from typing import Any, Final, Literal, TypeAlias, TypedDict, type_check_only

import numpy as np
from numpy.typing import DTypeLike, NDArray

from crossent._interop import ArrayInput

__all__ = [
    "BINS_PER_NAT",
    "LOSS_BINS",
    "MOST_PROBABILITY",
    "__version__",
    "active_rows",
    "binary_cross_entropy",
    "binary_cross_entropy_and_grad",
    "binary_cross_entropy_with_logits",
    "binary_cross_entropy_with_logits_and_grad",
    "build_info",
    "check_targets",
    "compare_sums",
    "cross_entropy",
    "cross_entropy_and_grad",
    "empty",
    "exact_sums",
    "focal_loss",
    "focal_loss_and_grad",
    "gaussian_nll_loss",
    "get_num_threads",
    "kl_div",
    "kl_div_and_grad",
    "kl_div_topk",
    "kl_div_topk_and_grad",
    "likely_mistake",
    "likely_values",
    "log_loss",
    "log_of_probabilities",
    "log_sigmoid",
    "log_softmax",
    "logsumexp",
    "nll_loss",
    "nll_loss_and_grad",
    "out_of_range_hint",
    "percentiles",
    "poisson_nll_loss",
    "poly_loss",
    "poly_loss_and_grad",
    "read_pieces",
    "score",
    "score_sums",
    "set_num_threads",
    "shape_hint",
    "shard_gradient",
    "shard_merge",
    "shard_sums",
    "sigmoid_focal_loss",
    "sigmoid_focal_loss_and_grad",
    "softmax",
    "softmax_gradient_hessian",
    "targets_found",
    "temperature_sums",
]

__version__: Final[str]

# The bins of a histogram of losses: how many there are for each nat, and all but the last, which has no end.
BINS_PER_NAT: Final[int]
LOSS_BINS: Final[int]

# The largest number that passes for a probability: rounding may take one above 1.
MOST_PROBABILITY: Final[float]

# A sum: the bytes of its units of 2**-1074, and how many terms were +inf, -inf and nan.
_Units: TypeAlias = tuple[bytes, tuple[int, int, int]]

# The fields of Scores, in their order; and the losses as float64, where `score` gives the others as float32.
_Columns: TypeAlias = tuple[
    NDArray[np.floating[Any]],
    NDArray[np.floating[Any]],
    NDArray[np.floating[Any]],
    NDArray[np.int64],
    NDArray[np.int64],
    NDArray[np.bool_],
    NDArray[np.bool_],
    NDArray[np.int64] | None,
    NDArray[np.floating[Any]] | None,
    NDArray[np.float64] | None,
]

@type_check_only
class _BuildInfo(TypedDict):
    version: str
    profile: Literal["release", "debug"]
    isa: str
    available_isas: list[str]
    threads: int

def cross_entropy(
    input: ArrayInput,
    target: ArrayInput,
    weight: ArrayInput | None,
    ignore_index: int,
    reduction: str,
    label_smoothing: float,
    z_loss: float,
    axis: int | None,
    where: ArrayInput | None,
    dtype: DTypeLike | None,
    out: NDArray[Any] | None,
    /,
) -> Any: ...
def cross_entropy_and_grad(
    input: ArrayInput,
    target: ArrayInput,
    weight: ArrayInput | None,
    ignore_index: int,
    reduction: str,
    label_smoothing: float,
    z_loss: float,
    axis: int | None,
    where: ArrayInput | None,
    dtype: DTypeLike | None,
    out: NDArray[Any] | None,
    grad_output: ArrayInput | None,
    grad_out: NDArray[Any] | None,
    /,
) -> tuple[Any, NDArray[Any]]: ...
def focal_loss(
    input: ArrayInput,
    target: ArrayInput,
    weight: ArrayInput | None,
    gamma: float,
    ignore_index: int,
    reduction: str,
    axis: int | None,
    where: ArrayInput | None,
    dtype: DTypeLike | None,
    out: NDArray[Any] | None,
    /,
) -> Any: ...
def focal_loss_and_grad(
    input: ArrayInput,
    target: ArrayInput,
    weight: ArrayInput | None,
    gamma: float,
    ignore_index: int,
    reduction: str,
    axis: int | None,
    where: ArrayInput | None,
    dtype: DTypeLike | None,
    out: NDArray[Any] | None,
    grad_output: ArrayInput | None,
    grad_out: NDArray[Any] | None,
    /,
) -> tuple[Any, NDArray[Any]]: ...
def nll_loss(
    input: ArrayInput,
    target: ArrayInput,
    weight: ArrayInput | None,
    ignore_index: int,
    reduction: str,
    axis: int | None,
    where: ArrayInput | None,
    dtype: DTypeLike | None,
    out: NDArray[Any] | None,
    /,
) -> Any: ...
def nll_loss_and_grad(
    input: ArrayInput,
    target: ArrayInput,
    weight: ArrayInput | None,
    ignore_index: int,
    reduction: str,
    axis: int | None,
    where: ArrayInput | None,
    dtype: DTypeLike | None,
    out: NDArray[Any] | None,
    grad_output: ArrayInput | None,
    grad_out: NDArray[Any] | None,
    /,
) -> tuple[Any, NDArray[Any]]: ...
def poly_loss(
    input: ArrayInput,
    target: ArrayInput,
    weight: ArrayInput | None,
    epsilon: float,
    ignore_index: int,
    reduction: str,
    axis: int | None,
    where: ArrayInput | None,
    dtype: DTypeLike | None,
    out: NDArray[Any] | None,
    /,
) -> Any: ...
def poly_loss_and_grad(
    input: ArrayInput,
    target: ArrayInput,
    weight: ArrayInput | None,
    epsilon: float,
    ignore_index: int,
    reduction: str,
    axis: int | None,
    where: ArrayInput | None,
    dtype: DTypeLike | None,
    out: NDArray[Any] | None,
    grad_output: ArrayInput | None,
    grad_out: NDArray[Any] | None,
    /,
) -> tuple[Any, NDArray[Any]]: ...
def binary_cross_entropy(
    input: ArrayInput,
    target: ArrayInput,
    weight: ArrayInput | None,
    reduction: str,
    clamp: float | None,
    dtype: DTypeLike | None,
    out: NDArray[Any] | None,
    /,
) -> Any: ...
def binary_cross_entropy_and_grad(
    input: ArrayInput,
    target: ArrayInput,
    weight: ArrayInput | None,
    reduction: str,
    clamp: float | None,
    dtype: DTypeLike | None,
    out: NDArray[Any] | None,
    grad_output: ArrayInput | None,
    grad_out: NDArray[Any] | None,
    /,
) -> tuple[Any, NDArray[Any]]: ...
def binary_cross_entropy_with_logits(
    input: ArrayInput,
    target: ArrayInput,
    weight: ArrayInput | None,
    pos_weight: ArrayInput | None,
    reduction: str,
    dtype: DTypeLike | None,
    out: NDArray[Any] | None,
    /,
) -> Any: ...
def binary_cross_entropy_with_logits_and_grad(
    input: ArrayInput,
    target: ArrayInput,
    weight: ArrayInput | None,
    pos_weight: ArrayInput | None,
    reduction: str,
    dtype: DTypeLike | None,
    out: NDArray[Any] | None,
    grad_output: ArrayInput | None,
    grad_out: NDArray[Any] | None,
    /,
) -> tuple[Any, NDArray[Any]]: ...
def kl_div_topk(
    input: ArrayInput,
    teacher_ids: ArrayInput,
    teacher_log_probs: ArrayInput,
    tail: bool,
    reduction: str,
    where: ArrayInput | None,
    dtype: DTypeLike | None,
    out: NDArray[Any] | None,
    /,
) -> Any: ...
def kl_div_topk_and_grad(
    input: ArrayInput,
    teacher_ids: ArrayInput,
    teacher_log_probs: ArrayInput,
    tail: bool,
    reduction: str,
    where: ArrayInput | None,
    dtype: DTypeLike | None,
    out: NDArray[Any] | None,
    grad_output: ArrayInput | None,
    grad_out: NDArray[Any] | None,
    /,
) -> tuple[Any, NDArray[Any]]: ...
def sigmoid_focal_loss(
    input: ArrayInput,
    target: ArrayInput,
    alpha: float,
    gamma: float,
    reduction: str,
    dtype: DTypeLike | None,
    out: NDArray[Any] | None,
    /,
) -> Any: ...
def sigmoid_focal_loss_and_grad(
    input: ArrayInput,
    target: ArrayInput,
    alpha: float,
    gamma: float,
    reduction: str,
    dtype: DTypeLike | None,
    out: NDArray[Any] | None,
    grad_output: ArrayInput | None,
    grad_out: NDArray[Any] | None,
    /,
) -> tuple[Any, NDArray[Any]]: ...
def kl_div(
    input: ArrayInput,
    target: ArrayInput,
    reduction: str,
    log_target: bool,
    dtype: DTypeLike | None,
    out: NDArray[Any] | None,
    /,
) -> Any: ...
def kl_div_and_grad(
    input: ArrayInput,
    target: ArrayInput,
    reduction: str,
    log_target: bool,
    dtype: DTypeLike | None,
    out: NDArray[Any] | None,
    grad_output: ArrayInput | None,
    grad_out: NDArray[Any] | None,
    /,
) -> tuple[Any, NDArray[Any]]: ...
def gaussian_nll_loss(
    input: ArrayInput,
    target: ArrayInput,
    var: ArrayInput,
    full: bool,
    eps: float,
    reduction: str,
    dtype: DTypeLike | None,
    out: NDArray[Any] | None,
    /,
) -> Any: ...
def poisson_nll_loss(
    input: ArrayInput,
    target: ArrayInput,
    log_input: bool,
    full: bool,
    eps: float,
    reduction: str,
    dtype: DTypeLike | None,
    out: NDArray[Any] | None,
    /,
) -> Any: ...
def log_softmax(
    x: ArrayInput, axis: int | tuple[int, ...] | None, out: NDArray[Any] | None, /
) -> NDArray[Any]: ...
def softmax(
    x: ArrayInput, axis: int | tuple[int, ...] | None, out: NDArray[Any] | None, /
) -> NDArray[Any]: ...
def shard_sums(
    logits: ArrayInput, axis: int, name: str, /
) -> tuple[NDArray[np.float64], NDArray[np.float64]]: ...
def shard_merge(
    max: NDArray[np.float64],
    rest: NDArray[np.float64],
    other_max: NDArray[np.float64],
    other_rest: NDArray[np.float64],
    /,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]: ...
def shard_gradient(
    logits: ArrayInput,
    axis: int,
    max: NDArray[np.float64],
    rest: NDArray[np.float64],
    scale: NDArray[np.float64],
    target: NDArray[np.int64],
    grad_out: NDArray[Any] | None,
    /,
) -> NDArray[Any]: ...
def softmax_gradient_hessian(
    raw: ArrayInput,
    y: ArrayInput,
    weight: NDArray[np.float64] | None,
    class_weight: NDArray[np.float64] | None,
    label_smoothing: float,
    focal_gamma: float,
    hessian: str,
    grad_out: NDArray[Any] | None,
    hess_out: NDArray[Any] | None,
    /,
) -> tuple[NDArray[Any], NDArray[Any]]: ...
def log_sigmoid(x: ArrayInput, out: NDArray[Any] | None, /) -> NDArray[Any]: ...
def logsumexp(
    x: ArrayInput,
    axis: int | tuple[int, ...] | None,
    b: ArrayInput | None,
    keepdims: bool,
    return_sign: bool,
    out: NDArray[Any] | None,
    /,
) -> Any: ...
def score(
    logits: ArrayInput,
    target: ArrayInput,
    ignore_index: int,
    where: ArrayInput | None,
    axis: int,
    top_k: int,
    log_probs: bool,
    /,
) -> _Columns: ...
def score_sums(
    logits: ArrayInput,
    target: ArrayInput,
    ignore_index: int,
    where: ArrayInput | None,
    axis: int,
    top_k: Sequence[int],
    bins: int,
    log_probs: bool,
    groups: NDArray[np.uint16] | None,
    columns: bool,
    /,
) -> tuple[
    tuple[int, int, int],
    list[int],
    tuple[int, int | None],
    tuple[_Units, _Units, _Units, _Units, _Units],
    list[tuple[int, int, _Units]],
    NDArray[np.uint64],
    list[tuple[int, _Units, _Units]],
    _Columns | None,
]: ...
def compare_sums(
    logits: ArrayInput,
    other_logits: ArrayInput,
    target: ArrayInput | None,
    ignore_index: int,
    where: ArrayInput | None,
    axis: int,
    /,
) -> tuple[
    tuple[int, int, int],
    list[_Units],
    list[_Units] | None,
    NDArray[np.float64],
    NDArray[np.float64] | None,
]: ...
def active_rows(
    rows: ArrayInput,
    target: ArrayInput | None,
    ignore_index: int,
    where: ArrayInput | None,
    axis: int,
    name: str,
    /,
) -> NDArray[np.bool_]: ...
def targets_found(
    target: NDArray[Any], classes: int, ignore_index: int, /
) -> tuple[tuple[int, int] | None, tuple[int, int] | None, bool, int | None]: ...
def check_targets(
    rows: ArrayInput,
    target: ArrayInput | None,
    ignore_index: int,
    where: ArrayInput | None,
    axis: int,
    name: str,
    /,
) -> None: ...
def likely_mistake(
    rows: ArrayInput,
    target: ArrayInput | None,
    ignore_index: int,
    where: ArrayInput | None,
    axis: int,
    log_probs: bool,
    name: str,
    /,
) -> str | None: ...
def likely_values(
    rows: NDArray[Any], name: str, /
) -> tuple[
    Literal["no finite rows", "one class only", "probabilities", "log-probabilities", "logits"], bool
]: ...
def log_of_probabilities(
    probabilities: ArrayInput,
    target: ArrayInput | None,
    ignore_index: int,
    where: ArrayInput | None,
    axis: int,
    name: str,
    /,
) -> tuple[NDArray[np.float64], tuple[tuple[int, int, float] | None, tuple[int, float] | None]]: ...
def temperature_sums(
    logits: ArrayInput,
    target: ArrayInput,
    ignore_index: int,
    where: ArrayInput | None,
    axis: int,
    b: float,
    weight: NDArray[np.float64] | None,
    /,
) -> tuple[int, list[_Units]]: ...
def log_loss(
    probabilities: ArrayInput,
    classes: NDArray[np.int64],
    weight: NDArray[np.float64] | None,
    eps: float,
    tolerance: float,
    /,
) -> tuple[_Units, _Units, int | None, int | None]: ...
def out_of_range_hint(
    value: int,
    classes: int,
    ignore_index: int,
    inside: tuple[int, int] | None,
    outside: tuple[int, int],
    ignored: bool,
    dtype_bits: int,
    signed: bool,
    /,
) -> str: ...
def shape_hint(name: str, got: Sequence[int], expected: Sequence[int], /) -> str | None: ...
def percentiles(ordered: NDArray[np.float64], percents: Sequence[float], /) -> list[float]: ...
def exact_sums(values: NDArray[np.float64], offsets: Sequence[int], /) -> list[_Units]: ...
def empty(shape: tuple[int, ...], dtype: DTypeLike, /) -> NDArray[Any]: ...
def read_pieces(
    descriptor: int,
    buffer: NDArray[np.uint8],
    length: int,
    count: int,
    step: int,
    firsts: Sequence[int],
    /,
) -> bool: ...
def set_num_threads(n: int, /) -> None: ...
def get_num_threads() -> int: ...
def build_info() -> _BuildInfo: ...
