"""Readers for arrays on disk: checked before use, and read in blocks of rows that need little memory.

`open_logits` and `open_targets` open a file of any known kind, or several files by a pattern. What the first gives
is a `Source`: it knows its shape and its dtype, and hands out its rows in blocks.
"""

from crossent._io.ahead import read_ahead
from crossent._io.describe import describe
from crossent._io.formats import register, row_of
from crossent._io.hidden import Head, HiddenSource, describe_hidden, open_hidden
from crossent._io.kinds import ZARR_METADATA
from crossent._io.npy import open_npy
from crossent._io.opening import integers_in, open_logits, open_targets, others_in, paths_of
from crossent._io.probabilities import axes_in_memory, log_blocks, scored_as
from crossent._io.raw import RAW_DTYPES, RAW_TARGET_DTYPES
from crossent._io.source import VALUES, OptionError, Source, TargetArray, files_of, open_regular

__all__ = [
    "RAW_DTYPES",
    "RAW_TARGET_DTYPES",
    "VALUES",
    "ZARR_METADATA",
    "Head",
    "HiddenSource",
    "OptionError",
    "Source",
    "TargetArray",
    "axes_in_memory",
    "describe",
    "describe_hidden",
    "files_of",
    "integers_in",
    "log_blocks",
    "open_hidden",
    "open_logits",
    "open_npy",
    "open_regular",
    "open_targets",
    "others_in",
    "paths_of",
    "read_ahead",
    "register",
    "row_of",
    "scored_as",
]
