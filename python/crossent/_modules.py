"""The losses and softmax as objects that hold their options, after ``torch.nn``."""

from dataclasses import KW_ONLY, dataclass, fields
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeAlias, cast, overload

import numpy as np
from numpy.typing import DTypeLike, NDArray

from crossent import _core
from crossent._arguments import Reduction
from crossent._interop import ArrayInput, as_array
from crossent._rows import log_softmax, softmax

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    # What a call returns, and an array that is given for it: known by the reduction, anything without it.
    _ResultT = TypeVar("_ResultT", default=Any)
else:
    from typing import TypeVar

    _ResultT = TypeVar("_ResultT")

_Float = TypeVar("_Float", bound=np.floating[Any])
_Loss: TypeAlias = np.floating[Any]
_Losses: TypeAlias = NDArray[np.floating[Any]]

__all__ = [
    "BCELoss",
    "BCEWithLogitsLoss",
    "CrossEntropyLoss",
    "FocalLoss",
    "LogSoftmax",
    "NLLLoss",
    "PolyLoss",
    "Softmax",
]


# A loss calls the compiled function itself, as its function does: a warning then names the line that called the object.
# The constructors are the dataclasses' own; type checkers learn from overloads which reduction gives which result.


class _Options:
    """A repr that names the options other than the defaults, and weights that cannot be changed."""

    def __post_init__(self) -> None:
        for name in ("weight", "pos_weight"):
            weight = getattr(self, name, None)
            if weight is not None:
                array = as_array(weight, name)
                # NumPy lets its owner make a copy writable again; the memory of a bytes object stays read-only.
                frozen: NDArray[Any] = np.ndarray(array.shape, array.dtype, array.tobytes())
                object.__setattr__(self, name, frozen)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.__post_init__()

    def __repr__(self) -> str:
        options = {
            field.name: (getattr(self, field.name), field.default) for field in fields(cast(Any, self))
        }
        given = (f"{name}={value!r}" for name, (value, default) in options.items() if _differ(value, default))
        return f"{type(self).__name__}({', '.join(given)})"


def _differ(value: object, default: object) -> bool:
    """Whether an option is not the default. Values of different types may not be comparable."""
    return type(value) is not type(default) or value != default


@dataclass(frozen=True, eq=False, repr=False)
class CrossEntropyLoss(_Options, Generic[_ResultT]):
    """`cross_entropy` with its options, to be called with the logits and their targets.

    The loss, its equation, shapes, units (nats) and errors are those of `cross_entropy`.

    Parameters
    ----------
    weight : array-like of shape (C,), optional
        A factor for each class. It is copied, and cannot be changed afterwards.
    ignore_index, reduction, label_smoothing, z_loss, axis, dtype
        As for `cross_entropy`, which checks them when the object is called.

    See Also
    --------
    cross_entropy : The function.

    Notes
    -----
    The torch equivalent is ``torch.nn.CrossEntropyLoss``. Objects are frozen and can be pickled.

    Examples
    --------
    >>> import numpy as np
    >>> import crossent
    >>> loss = crossent.CrossEntropyLoss(label_smoothing=0.1)
    >>> loss
    CrossEntropyLoss(label_smoothing=0.1)
    >>> logits = np.array([[1.0, 2.0, 3.0], [0.0, -1.0, 4.0]])
    >>> round(float(loss(logits, np.array([2, 2]))), 4)
    0.4162
    """

    weight: ArrayInput | None = None
    _: KW_ONLY
    ignore_index: int = -100
    reduction: Reduction = "mean"
    label_smoothing: float = 0.0
    z_loss: float = 0.0
    axis: int | None = None
    dtype: DTypeLike | None = None

    if TYPE_CHECKING:

        @overload
        def __init__(
            self: "CrossEntropyLoss[_Loss]",
            weight: ArrayInput | None = None,
            *,
            ignore_index: int = -100,
            reduction: Literal["mean", "sum"] = "mean",
            label_smoothing: float = 0.0,
            z_loss: float = 0.0,
            axis: int | None = None,
            dtype: DTypeLike | None = None,
        ) -> None: ...
        @overload
        def __init__(
            self: "CrossEntropyLoss[_Losses]",
            weight: ArrayInput | None = None,
            *,
            ignore_index: int = -100,
            reduction: Literal["none"],
            label_smoothing: float = 0.0,
            z_loss: float = 0.0,
            axis: int | None = None,
            dtype: DTypeLike | None = None,
        ) -> None: ...
        def __init__(self, weight: ArrayInput | None = None, **options: Any) -> None: ...

    def __call__(
        self,
        input: ArrayInput,
        target: ArrayInput,
        *,
        where: ArrayInput | None = None,
        out: _ResultT | None = None,
    ) -> _ResultT:
        """Compute the loss.

        Parameters
        ----------
        input : array-like of shape (N, C, ...)
            The logits.
        target : array-like of shape (N, ...)
            Class indices; class probabilities of the shape of `input` are allowed too.
        where : array-like of bool, optional
            Which rows count, as for `cross_entropy`.
        out : numpy.ndarray, optional
            Where to write the loss, as for `cross_entropy`.

        Returns
        -------
        numpy.floating or numpy.ndarray
            The loss in nats: a number, or with ``reduction="none"`` one for each row.
        """
        array: Any = out
        result: _ResultT = _core.cross_entropy(
            input,
            target,
            self.weight,
            self.ignore_index,
            self.reduction,
            self.label_smoothing,
            self.z_loss,
            self.axis,
            where,
            self.dtype,
            array,
        )
        return result


@dataclass(frozen=True, eq=False, repr=False)
class NLLLoss(_Options, Generic[_ResultT]):
    """`nll_loss` with its options, to be called with log-probabilities and their targets.

    The loss, its equation, shapes, units (nats) and errors are those of `nll_loss`.

    Parameters
    ----------
    weight : array-like of shape (C,), optional
        A factor for each class. It is copied, and cannot be changed afterwards.
    ignore_index, reduction, axis, dtype
        As for `nll_loss`, which checks them when the object is called.

    See Also
    --------
    nll_loss : The function.

    Notes
    -----
    The torch equivalent is ``torch.nn.NLLLoss``. Objects are frozen and can be pickled.

    Examples
    --------
    >>> import numpy as np
    >>> import crossent
    >>> loss = crossent.NLLLoss(reduction="sum")
    >>> loss
    NLLLoss(reduction='sum')
    >>> round(float(loss(np.log([[0.5, 0.5], [0.25, 0.75]]), np.array([0, 1]))), 4)
    0.9808
    """

    weight: ArrayInput | None = None
    _: KW_ONLY
    ignore_index: int = -100
    reduction: Reduction = "mean"
    axis: int | None = None
    dtype: DTypeLike | None = None

    if TYPE_CHECKING:

        @overload
        def __init__(
            self: "NLLLoss[_Loss]",
            weight: ArrayInput | None = None,
            *,
            ignore_index: int = -100,
            reduction: Literal["mean", "sum"] = "mean",
            axis: int | None = None,
            dtype: DTypeLike | None = None,
        ) -> None: ...
        @overload
        def __init__(
            self: "NLLLoss[_Losses]",
            weight: ArrayInput | None = None,
            *,
            ignore_index: int = -100,
            reduction: Literal["none"],
            axis: int | None = None,
            dtype: DTypeLike | None = None,
        ) -> None: ...
        def __init__(self, weight: ArrayInput | None = None, **options: Any) -> None: ...

    def __call__(
        self,
        input: ArrayInput,
        target: ArrayInput,
        *,
        where: ArrayInput | None = None,
        out: _ResultT | None = None,
    ) -> _ResultT:
        """Compute the loss.

        Parameters
        ----------
        input : array-like of shape (N, C, ...)
            The log-probabilities.
        target : array-like of shape (N, ...)
            Class indices.
        where : array-like of bool, optional
            Which rows count, as for `nll_loss`.
        out : numpy.ndarray, optional
            Where to write the loss, as for `nll_loss`.

        Returns
        -------
        numpy.floating or numpy.ndarray
            The loss in nats: a number, or with ``reduction="none"`` one for each row.
        """
        array: Any = out
        result: _ResultT = _core.nll_loss(
            input, target, self.weight, self.ignore_index, self.reduction, self.axis, where, self.dtype, array
        )
        return result


@dataclass(frozen=True, eq=False, repr=False)
class FocalLoss(_Options, Generic[_ResultT]):
    """`focal_loss` with its options, to be called with the logits and their targets.

    The loss, its equation, shapes, units (nats) and errors are those of `focal_loss`.

    Parameters
    ----------
    weight : array-like of shape (C,), optional
        A factor for each class. It is copied, and cannot be changed afterwards.
    gamma, ignore_index, reduction, axis, dtype
        As for `focal_loss`, which checks them when the object is called.

    See Also
    --------
    focal_loss : The function.

    Notes
    -----
    The torch equivalent is ``torch.nn.CrossEntropyLoss`` of each row times ``(1 - p) ** gamma``. Objects are
    frozen and can be pickled.

    Examples
    --------
    >>> import numpy as np
    >>> import crossent
    >>> loss = crossent.FocalLoss(gamma=1.0)
    >>> loss
    FocalLoss(gamma=1.0)
    >>> logits = np.array([[1.0, 2.0, 3.0], [0.0, -1.0, 4.0]])
    >>> round(float(loss(logits, np.array([2, 0]))), 4)
    2.0446
    """

    weight: ArrayInput | None = None
    _: KW_ONLY
    gamma: float = 2.0
    ignore_index: int = -100
    reduction: Reduction = "mean"
    axis: int | None = None
    dtype: DTypeLike | None = None

    if TYPE_CHECKING:

        @overload
        def __init__(
            self: "FocalLoss[_Loss]",
            weight: ArrayInput | None = None,
            *,
            gamma: float = 2.0,
            ignore_index: int = -100,
            reduction: Literal["mean", "sum"] = "mean",
            axis: int | None = None,
            dtype: DTypeLike | None = None,
        ) -> None: ...
        @overload
        def __init__(
            self: "FocalLoss[_Losses]",
            weight: ArrayInput | None = None,
            *,
            gamma: float = 2.0,
            ignore_index: int = -100,
            reduction: Literal["none"],
            axis: int | None = None,
            dtype: DTypeLike | None = None,
        ) -> None: ...
        def __init__(self, weight: ArrayInput | None = None, **options: Any) -> None: ...

    def __call__(
        self,
        input: ArrayInput,
        target: ArrayInput,
        *,
        where: ArrayInput | None = None,
        out: _ResultT | None = None,
    ) -> _ResultT:
        """Compute the loss.

        Parameters
        ----------
        input : array-like of shape (N, C, ...)
            The logits.
        target : array-like of shape (N, ...)
            Class indices.
        where : array-like of bool, optional
            Which rows count, as for `focal_loss`.
        out : numpy.ndarray, optional
            Where to write the loss, as for `focal_loss`.

        Returns
        -------
        numpy.floating or numpy.ndarray
            The loss in nats: a number, or with ``reduction="none"`` one for each row.
        """
        array: Any = out
        result: _ResultT = _core.focal_loss(
            input,
            target,
            self.weight,
            self.gamma,
            self.ignore_index,
            self.reduction,
            self.axis,
            where,
            self.dtype,
            array,
        )
        return result


@dataclass(frozen=True, eq=False, repr=False)
class PolyLoss(_Options, Generic[_ResultT]):
    """`poly_loss` with its options, to be called with the logits and their targets.

    The loss, its equation, shapes, units (nats) and errors are those of `poly_loss`.

    Parameters
    ----------
    weight : array-like of shape (C,), optional
        A factor for each class. It is copied, and cannot be changed afterwards.
    epsilon, ignore_index, reduction, axis, dtype
        As for `poly_loss`, which checks them when the object is called.

    See Also
    --------
    poly_loss : The function.

    Notes
    -----
    The torch equivalent is ``torch.nn.CrossEntropyLoss`` of each row plus ``epsilon * (1 - p)``. Objects are
    frozen and can be pickled.

    Examples
    --------
    >>> import numpy as np
    >>> import crossent
    >>> loss = crossent.PolyLoss(epsilon=2.0)
    >>> loss
    PolyLoss(epsilon=2.0)
    >>> logits = np.array([[1.0, 2.0, 3.0], [0.0, -1.0, 4.0]])
    >>> round(float(loss(logits, np.array([2, 0]))), 4)
    3.5331
    """

    weight: ArrayInput | None = None
    _: KW_ONLY
    epsilon: float = 1.0
    ignore_index: int = -100
    reduction: Reduction = "mean"
    axis: int | None = None
    dtype: DTypeLike | None = None

    if TYPE_CHECKING:

        @overload
        def __init__(
            self: "PolyLoss[_Loss]",
            weight: ArrayInput | None = None,
            *,
            epsilon: float = 1.0,
            ignore_index: int = -100,
            reduction: Literal["mean", "sum"] = "mean",
            axis: int | None = None,
            dtype: DTypeLike | None = None,
        ) -> None: ...
        @overload
        def __init__(
            self: "PolyLoss[_Losses]",
            weight: ArrayInput | None = None,
            *,
            epsilon: float = 1.0,
            ignore_index: int = -100,
            reduction: Literal["none"],
            axis: int | None = None,
            dtype: DTypeLike | None = None,
        ) -> None: ...
        def __init__(self, weight: ArrayInput | None = None, **options: Any) -> None: ...

    def __call__(
        self,
        input: ArrayInput,
        target: ArrayInput,
        *,
        where: ArrayInput | None = None,
        out: _ResultT | None = None,
    ) -> _ResultT:
        """Compute the loss.

        Parameters
        ----------
        input : array-like of shape (N, C, ...)
            The logits.
        target : array-like of shape (N, ...)
            Class indices.
        where : array-like of bool, optional
            Which rows count, as for `poly_loss`.
        out : numpy.ndarray, optional
            Where to write the loss, as for `poly_loss`.

        Returns
        -------
        numpy.floating or numpy.ndarray
            The loss in nats: a number, or with ``reduction="none"`` one for each row.
        """
        array: Any = out
        result: _ResultT = _core.poly_loss(
            input,
            target,
            self.weight,
            self.epsilon,
            self.ignore_index,
            self.reduction,
            self.axis,
            where,
            self.dtype,
            array,
        )
        return result


@dataclass(frozen=True, eq=False, repr=False)
class BCELoss(_Options, Generic[_ResultT]):
    """`binary_cross_entropy` with its options, to be called with probabilities and their targets.

    The loss, its equation, shapes, units (nats) and errors are those of `binary_cross_entropy`.

    Parameters
    ----------
    weight : array-like, optional
        A factor for each element. It is copied, and cannot be changed afterwards.
    reduction, clamp, dtype
        As for `binary_cross_entropy`, which checks them when the object is called.

    See Also
    --------
    binary_cross_entropy : The function.
    BCEWithLogitsLoss : The loss of logits.

    Notes
    -----
    The torch equivalent is ``torch.nn.BCELoss``. Objects are frozen and can be pickled.

    Examples
    --------
    >>> import numpy as np
    >>> import crossent
    >>> loss = crossent.BCELoss(reduction="sum")
    >>> loss
    BCELoss(reduction='sum')
    >>> round(float(loss(np.array([0.9, 0.2]), np.array([1, 0]))), 4)
    0.3285
    """

    weight: ArrayInput | None = None
    _: KW_ONLY
    reduction: Reduction = "mean"
    clamp: float | None = -100.0
    dtype: DTypeLike | None = None

    if TYPE_CHECKING:

        @overload
        def __init__(
            self: "BCELoss[_Loss]",
            weight: ArrayInput | None = None,
            *,
            reduction: Literal["mean", "sum"] = "mean",
            clamp: float | None = -100.0,
            dtype: DTypeLike | None = None,
        ) -> None: ...
        @overload
        def __init__(
            self: "BCELoss[_Losses]",
            weight: ArrayInput | None = None,
            *,
            reduction: Literal["none"],
            clamp: float | None = -100.0,
            dtype: DTypeLike | None = None,
        ) -> None: ...
        def __init__(self, weight: ArrayInput | None = None, **options: Any) -> None: ...

    def __call__(
        self,
        input: ArrayInput,
        target: ArrayInput,
        *,
        out: _ResultT | None = None,
    ) -> _ResultT:
        """Compute the loss.

        Parameters
        ----------
        input : array-like
            The probabilities.
        target : array-like
            The targets, from 0 to 1, of the shape of `input`.
        out : numpy.ndarray, optional
            Where to write the loss, as for `binary_cross_entropy`.

        Returns
        -------
        numpy.floating or numpy.ndarray
            The loss in nats: a number, or with ``reduction="none"`` one for each element.
        """
        array: Any = out
        result: _ResultT = _core.binary_cross_entropy(
            input, target, self.weight, self.reduction, self.clamp, self.dtype, array
        )
        return result


@dataclass(frozen=True, eq=False, repr=False)
class BCEWithLogitsLoss(_Options, Generic[_ResultT]):
    """`binary_cross_entropy_with_logits` with its options, to be called with logits and their targets.

    The loss, its equation, shapes, units (nats) and errors are those of `binary_cross_entropy_with_logits`.

    Parameters
    ----------
    weight : array-like, optional
        A factor for each element. It is copied, and cannot be changed afterwards.
    pos_weight : array-like, optional
        A factor for the term of the target. It is copied, and cannot be changed afterwards.
    reduction, dtype
        As for `binary_cross_entropy_with_logits`, which checks them when the object is called.

    See Also
    --------
    binary_cross_entropy_with_logits : The function.

    Notes
    -----
    The torch equivalent is ``torch.nn.BCEWithLogitsLoss``. Objects are frozen and can be pickled.

    Examples
    --------
    >>> import numpy as np
    >>> import crossent
    >>> loss = crossent.BCEWithLogitsLoss(pos_weight=[3.0])
    >>> loss
    BCEWithLogitsLoss(pos_weight=array([3.]))
    >>> round(float(loss(np.array([2.0, -1.0]), np.array([1, 0]))), 4)
    0.347
    """

    weight: ArrayInput | None = None
    _: KW_ONLY
    pos_weight: ArrayInput | None = None
    reduction: Reduction = "mean"
    dtype: DTypeLike | None = None

    if TYPE_CHECKING:

        @overload
        def __init__(
            self: "BCEWithLogitsLoss[_Loss]",
            weight: ArrayInput | None = None,
            *,
            pos_weight: ArrayInput | None = None,
            reduction: Literal["mean", "sum"] = "mean",
            dtype: DTypeLike | None = None,
        ) -> None: ...
        @overload
        def __init__(
            self: "BCEWithLogitsLoss[_Losses]",
            weight: ArrayInput | None = None,
            *,
            pos_weight: ArrayInput | None = None,
            reduction: Literal["none"],
            dtype: DTypeLike | None = None,
        ) -> None: ...
        def __init__(self, weight: ArrayInput | None = None, **options: Any) -> None: ...

    def __call__(
        self,
        input: ArrayInput,
        target: ArrayInput,
        *,
        out: _ResultT | None = None,
    ) -> _ResultT:
        """Compute the loss.

        Parameters
        ----------
        input : array-like
            The logits.
        target : array-like
            The targets, from 0 to 1, of the shape of `input`.
        out : numpy.ndarray, optional
            Where to write the loss, as for `binary_cross_entropy_with_logits`.

        Returns
        -------
        numpy.floating or numpy.ndarray
            The loss in nats: a number, or with ``reduction="none"`` one for each element.
        """
        array: Any = out
        result: _ResultT = _core.binary_cross_entropy_with_logits(
            input, target, self.weight, self.pos_weight, self.reduction, self.dtype, array
        )
        return result


@dataclass(frozen=True, repr=False)
class Softmax(_Options):
    """`softmax` along a fixed axis.

    Parameters
    ----------
    axis : int, tuple of int or None, default -1
        The axis of the classes, or several that make up one row; None for all.

    See Also
    --------
    softmax : The function, with its equation, shapes, dtypes and errors.

    Notes
    -----
    The torch equivalent is ``torch.nn.Softmax``. Objects are frozen and can be pickled.

    Examples
    --------
    >>> import numpy as np
    >>> import crossent
    >>> crossent.Softmax(axis=0)(np.array([0.0, np.log(3.0)])).round(4).tolist()
    [0.25, 0.75]
    """

    axis: int | tuple[int, ...] | None = -1

    @overload
    def __call__(self, x: NDArray[_Float], *, out: NDArray[_Float] | None = None) -> NDArray[_Float]: ...
    @overload
    def __call__(self, x: ArrayInput, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def __call__(self, x: ArrayInput, *, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Compute ``softmax(x, axis)``.

        Parameters
        ----------
        x : array-like
            The logits.
        out : numpy.ndarray, optional
            Where to write the result.

        Returns
        -------
        numpy.ndarray
            Probabilities of the shape and dtype of `x`.
        """
        return softmax(x, self.axis, out=out)


@dataclass(frozen=True, repr=False)
class LogSoftmax(_Options):
    """`log_softmax` along a fixed axis.

    Parameters
    ----------
    axis : int, tuple of int or None, default -1
        The axis of the classes, or several that make up one row; None for all.

    See Also
    --------
    log_softmax : The function, with its equation, shapes, dtypes and errors.

    Notes
    -----
    The torch equivalent is ``torch.nn.LogSoftmax``. Objects are frozen and can be pickled.

    Examples
    --------
    >>> import numpy as np
    >>> import crossent
    >>> crossent.LogSoftmax(0)(np.array([0.0, 0.0])).round(4).tolist()
    [-0.6931, -0.6931]
    """

    axis: int | tuple[int, ...] | None = -1

    @overload
    def __call__(self, x: NDArray[_Float], *, out: NDArray[_Float] | None = None) -> NDArray[_Float]: ...
    @overload
    def __call__(self, x: ArrayInput, *, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def __call__(self, x: ArrayInput, *, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Compute ``log_softmax(x, axis)``.

        Parameters
        ----------
        x : array-like
            The logits.
        out : numpy.ndarray, optional
            Where to write the result.

        Returns
        -------
        numpy.ndarray
            Log-probabilities, in nats, of the shape and dtype of `x`.
        """
        return log_softmax(x, self.axis, out=out)
