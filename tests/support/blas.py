"""What the BLAS library of NumPy does on this machine."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest


def _gives_rows_the_same_bits() -> bool:
    """Whether a row of a product has the same bits in blocks of 64, 128 and 192 rows.

    OpenBLAS' kernels for AVX-512 do so, and those for older processors but for float32 on Haswell and Zen, which take
    12 rows at a time, and sum the rest in another order.
    """
    rng = np.random.default_rng(0)
    dtypes: tuple[Any, ...] = (np.float32, np.float64)
    for dtype in dtypes:
        a, b = (rng.normal(size=(192, 96)).astype(dtype) for _ in range(2))
        parts = [a[:64] @ b.T, a[64:] @ b.T]
        if not np.array_equal(np.concatenate(parts), a @ b.T):
            return False
    return True


needs_equal_rows = pytest.mark.skipif(
    not _gives_rows_the_same_bits(),
    reason="this BLAS library rounds a row by its place in a block",
)
