"""Readers for arrays on disk: checked before use, and read in blocks of rows that need little memory.

`open_logits` and `open_targets` open a file of any known kind, or several files by a pattern. What the first gives
is a `Source`: it knows its shape and its dtype, and hands out its rows in blocks.
"""

from crossent._io.ahead import read_ahead
from crossent._io.blocks import BLOCK_BYTES, MEMORY, parse_bytes, row_blocks
from crossent._io.describe import describe
from crossent._io.npy import open_npy
from crossent._io.opening import (
    RAW_DTYPES,
    RAW_TARGET_DTYPES,
    integers_in,
    open_logits,
    open_targets,
    paths_of,
)
from crossent._io.probabilities import log_blocks, scored_as
from crossent._io.source import VALUES, Block, OptionError, Source, TargetArray, open_regular

__all__ = [
    "BLOCK_BYTES",
    "MEMORY",
    "RAW_DTYPES",
    "RAW_TARGET_DTYPES",
    "VALUES",
    "Block",
    "OptionError",
    "Source",
    "TargetArray",
    "describe",
    "integers_in",
    "log_blocks",
    "open_logits",
    "open_npy",
    "open_regular",
    "open_targets",
    "parse_bytes",
    "paths_of",
    "read_ahead",
    "row_blocks",
    "scored_as",
]
