"""Results of rows or classes as columns: of lists, of a frame of pandas, of a table of PyArrow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as _pandas
    import pyarrow as _pyarrow


class Column(NamedTuple):
    """The values of all rows under one name."""

    values: NDArray[Any]
    """Of shape (N,), or (N, k) for k numbers in each row."""

    known: NDArray[np.bool_] | None = None
    """Of shape (N,): where there is a value; None for everywhere."""

    each: str = ""
    """What one of k numbers is called, where each becomes a column."""


class Columns:
    """Mixin for results that can be given as columns."""

    __slots__ = ()

    def _columns(self) -> dict[str, Column]:
        raise NotImplementedError

    def to_dict(self) -> dict[str, list[Any]]:
        """Give the columns as lists.

        Returns
        -------
        dict
            A list for each column by its name: what `json.dumps`, `pandas.DataFrame` and `polars.DataFrame` take. A
            value that is missing is None.
        """
        return {name: _as_list(column) for name, column in self._columns().items()}

    def to_pandas(self) -> _pandas.DataFrame:
        """Give the columns as a frame of pandas.

        Returns
        -------
        pandas.DataFrame
            With one line for each row, or for each class. Floats that are missing are nan; integers and truth values
            have the dtypes Int64 and boolean where some are missing, else those of NumPy.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise ImportError("to_pandas needs pandas: pip install pandas") from error
        series: dict[str, Any] = {}
        for name, (values, known, each) in self._columns().items():
            if values.ndim == 1:
                series[name] = _for_pandas(pandas, values, known)
                continue
            for at in range(values.shape[1]):
                series[f"{each}_{at + 1}"] = _for_pandas(pandas, values[:, at], known)
        return pandas.DataFrame(series)

    def to_arrow(self) -> _pyarrow.Table:
        """Give the columns as a table of PyArrow.

        Returns
        -------
        pyarrow.Table
            With one line for each row, or for each class. Values that are missing are null.

        Raises
        ------
        ImportError
            If PyArrow is not installed.
        """
        try:
            import pyarrow
        except ImportError as error:
            raise ImportError("to_arrow needs pyarrow: pip install 'crossent[io]'") from error
        columns = {name: _for_arrow(pyarrow, *column[:2]) for name, column in self._columns().items()}
        return pyarrow.table(columns)


def _as_list(column: Column) -> list[Any]:
    values: list[Any] = column.values.tolist()
    if column.known is not None:
        for at in np.flatnonzero(~column.known).tolist():
            values[at] = None
    return values


def _for_pandas(pandas: Any, values: NDArray[Any], known: NDArray[np.bool_] | None) -> Any:
    """Return a column for pandas, which copies it."""
    if known is None or known.all():
        return values
    if values.dtype.kind == "f":
        return np.where(known, values, values.dtype.type(np.nan))
    array = pandas.arrays.BooleanArray if values.dtype.kind == "b" else pandas.arrays.IntegerArray
    return array(np.ascontiguousarray(values), ~known)


def _for_arrow(pyarrow: Any, values: NDArray[Any], known: NDArray[np.bool_] | None) -> Any:
    """Return a column for PyArrow, which would keep a view of a result."""
    missing = None if known is None else ~known
    if values.ndim == 1:
        return pyarrow.array(values.copy(), mask=missing)
    items = pyarrow.array(values.reshape(-1).copy())
    return pyarrow.FixedSizeListArray.from_arrays(
        items, values.shape[1], mask=None if missing is None else pyarrow.array(missing)
    )
