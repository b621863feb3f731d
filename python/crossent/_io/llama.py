"""The files that llama.cpp's `llama-perplexity --kl-divergence-base FILE` writes.

    "_logits_", then three int32: n_ctx, n_vocab, n_chunk; then the tokens, int32, n_ctx for each chunk;
    then the rows of each chunk, one for each token of the second half of its context but the last: float32 scale,
    float32 least, and n_vocab numbers of 16 bits (and one more where n_vocab is odd).

The log-probability of class i is scale * q[i] + least. Row k of a chunk predicts token n_ctx // 2 + k + 1. llama.cpp
keeps 16 nats below the largest logit: what lies lower is stored as q = 0, and so are the least of ordinary rows.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Generator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossent._io.format import Content, Format, LogitsOptions, refuse, refuse_table_options
from crossent._io.kinds import ReadKind
from crossent._io.mapped import Mapped
from crossent._io.source import OptionError, Source, identity, open_regular
from crossent.blocks import Block, rows_per_block

_MAGIC = b"_logits_"
_HEADER = struct.Struct("<8s3i")
_SCALES = 4  # numbers of 16 bits before those of the row: two float32
# A row spans 16 nats when it was clamped; scale * 65535 gives the span back but for a rounding.
_FULL_SPAN = 15.999


class LlamaSource(Source):
    """The log-probabilities and the targets of such a file."""

    format = "llama.cpp"
    values = "log-probs"
    axis = 1
    dtype = np.dtype(np.float32)

    def __init__(self, path: str) -> None:
        self.name, self.paths = path, (path,)
        file, size = open_regular(path)
        with file:
            known = identity(file)
            header = file.read(_HEADER.size)
            if len(header) < _HEADER.size:
                raise ValueError(
                    f"{path} is truncated: it has {size} bytes, and the header of llama.cpp's logits takes "
                    f"{_HEADER.size}; write it again"
                )
            _, context, vocabulary, chunks = _HEADER.unpack(header)
            if context < 2 or vocabulary < 1 or chunks < 0:
                raise ValueError(
                    f"{path} is damaged: its header gives a context of {context} tokens, {vocabulary} classes "
                    f"and {chunks} chunks{_likely_order(header)}; write it again"
                )
            each = context - 1 - context // 2
            rows, width = chunks * each, 2 * ((vocabulary + 1) // 2) + _SCALES
            offset = _HEADER.size + 4 * chunks * context
            if size < offset:
                raise ValueError(
                    f"{path} is truncated: its {chunks * context} tokens end at byte {offset}, the file has "
                    f"{size}; write it again"
                )
            tokens = np.frombuffer(file.read(4 * chunks * context), "<i4").reshape(chunks, context)
        end = offset + 2 * rows * width
        if size != end:
            there = max(size - offset, 0) // (2 * width)
            raise ValueError(
                f"{path} is {'truncated' if size < end else 'damaged'}: {chunks} chunks of {each} rows, {vocabulary} "
                f"classes each, take {end} bytes, the file has {size}, which is {there} of {rows} rows; write it "
                "again, and let llama-perplexity finish"
            )
        self.shape = (rows, vocabulary)
        self.targets = self._targets = tokens[:, context // 2 + 1 :].reshape(-1)
        self._stored = Mapped(
            path, path, "llama.cpp", (rows, width), np.dtype("<u2"), offset=offset, file=known
        )

    def row_blocks(self, memory: int | None = None, start: int = 0) -> Generator[Block, None, None]:
        """Yield the rows in blocks, as float32 log-probabilities."""
        width = self._stored.shape[1]
        count = rows_per_block(memory, 2 * width + 4 * self.classes)
        buffers = [np.empty((0, self.classes), np.float32)] * 2
        for turn, (_, stored) in enumerate(self._stored.blocks(1, count * 2 * width, start)):
            rows = len(stored)
            if len(buffers[turn % 2]) < rows:
                buffers[turn % 2] = np.empty((rows, self.classes), np.float32)
            values = buffers[turn % 2][:rows]
            scale, least = stored[:, :_SCALES].view("<f4").T
            steps = stored[:, _SCALES : _SCALES + self.classes]
            np.multiply(steps, scale[:, np.newaxis], out=values)
            values += least[:, np.newaxis]
            index = slice(start, start + rows)
            yield Block((index,), values, clamped=self._clamped(index, steps, scale))
            start += rows

    def _clamped(self, index: slice, steps: NDArray[Any], scale: NDArray[Any]) -> NDArray[np.bool_]:
        """Where the target is among the classes that were raised to 16 nats below the largest logit."""
        target = self._targets[index]
        known = (target >= 0) & (target < self.classes)
        lowest: NDArray[np.bool_] = steps[np.arange(len(steps)), np.where(known, target, 0)] == 0
        return lowest & known & (scale * 65535 >= _FULL_SPAN)


class Llama(Format):
    """Files of `llama-perplexity`."""

    name = "llama.cpp"
    kind = ReadKind("llama.cpp's logits", "give it a name that ends with .kld", (_MAGIC,))
    row = "token"

    def open_logits(self, path: str, key: str | None, options: LogitsOptions) -> LlamaSource:
        """Open the rows of a file, whose class axis is the last."""
        refuse_table_options(path, options)
        refuse(path, key, {"--dtype": options.dtype, "--values": options.values})
        if options.axis not in (-1, 1):
            raise OptionError(
                f"{path} has its classes along the last axis, not --axis {options.axis}; leave --axis out"
            )
        return LlamaSource(path)

    def contents(self, path: str, key: str | None, options: LogitsOptions) -> Sequence[Content]:
        """Open the rows of a file."""
        del options
        refuse(path, key, {})
        return [LlamaSource(path)]


def _likely_order(header: bytes) -> str:
    context, vocabulary, chunks = struct.unpack(">8x3i", header)
    if 2 <= context < 1 << 24 and 1 <= vocabulary < 1 << 24 and 0 <= chunks < 1 << 24:
        return " (it looks written on a machine of the other byte order)"
    return "" if sys.byteorder == "little" else " (llama.cpp writes the byte order of its machine)"
