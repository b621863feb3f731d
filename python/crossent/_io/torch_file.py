"""Files of `torch.save`: tensors by names, in a zip archive that is not compressed.

torch reads which tensors there are, without code that a file may bring and without their numbers. These are read as
those of other arrays: by a memory map, which torch would make, a file that is cut short ends the process.
"""

from __future__ import annotations

import math
import warnings
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from crossent._io.dtypes import bfloat16
from crossent._io.format import HolderFormat
from crossent._io.kinds import ReadKind
from crossent._io.mapped import Mapped
from crossent._io.source import (
    UnreadableError,
    check_shape,
    identity,
    one_line,
    open_regular,
)
from crossent._io.zipped import BROKEN_ARCHIVE, SIGNATURE, data_offset, table_of_contents

_KIND = ReadKind(
    "a file of torch.save",
    "give it a name that ends with .pt",
    write="write it with torch.save or safetensors.torch.save_file",
)
_AGAIN = "write or copy it again"
_CLONE = "save it with .clone(), or with safetensors.torch.save_file"
_DTYPES = {
    "float16": "<f2", "float32": "<f4", "float64": "<f8", "int8": "i1", "uint8": "u1", "int16": "<i2",
    "uint16": "<u2", "int32": "<i4", "uint32": "<u4", "int64": "<i8", "uint64": "<u8", "bool": "?",
}  # fmt: skip


class Strided(Mapped):
    """An array in a file whose axes lie in any order."""

    def __init__(self, *arguments: Any, order: list[int], **options: Any) -> None:
        """Take what `Mapped` does, and the axes, that along which neighbours lie farthest from each other first."""
        super().__init__(*arguments, **options)
        self._order = order

    def slowest_first(self) -> list[int]:
        """List the axes, that along which neighbours lie farthest from each other first."""
        return list(self._order)


@dataclass(frozen=True, slots=True)
class _Record:
    """The numbers of one storage: where they lie in the file."""

    offset: int
    length: int


class Tensors:
    """The tensors of a file, which are known and not read."""

    def __init__(self, path: str) -> None:
        self.path = path
        file, size = open_regular(path)
        with file:
            self._identity = identity(file)
            members = table_of_contents(file, path, size, _KIND)
            if any("/code/" in info.filename for info in members):
                raise ValueError(
                    f"{path} was written by torch.jit.save, and holds a model and no logits; run the model, and save "
                    "its logits with torch.save"
                )
            records = [info for info in members if "/data/" in info.filename and info.file_size]
            self._records = sorted(
                (
                    _Record(data_offset(file, info, f"{path}:{info.filename}"), info.file_size)
                    for info in records
                ),
                key=lambda record: record.offset,
            )
            for info in members:
                _check_member(path, info)
                if info.filename.endswith("/byteorder"):
                    file.seek(data_offset(file, info, path))
                    _check_order(path, file.read(info.file_size))
        content, storages = _load(path)
        open_regular(path, self._identity)[0].close()
        self._base = _base(path, storages, self._records)
        self._known = frozenset(self._records)
        self._found: dict[str, Any] = {}
        self._twice: set[str] = set()
        for key, tensor in _walk("", content):
            if key in self._found:
                self._twice.add(key)
            self._found[key] = tensor

    @property
    def names(self) -> list[str]:
        """The names of the tensors, with a dot after those of dicts around them; the empty one for a tensor alone."""
        return list(self._found)

    def find(self, key: str, /) -> Mapped:
        """Find a tensor, which is checked but not read."""
        name, tensor = f"{self.path}:{key}" if key else self.path, self._found[key]
        if tensor.is_nested:  # which has no shape
            raise UnreadableError(
                name, "is a nested tensor; save it as one of a single shape, by .to_padded_tensor()"
            )
        told: dict[str, Any] = {
            "dtype": str(tensor.dtype).removeprefix("torch."),
            "shape": tuple(map(int, tensor.shape)),
        }
        if key in self._twice:
            raise UnreadableError(
                name, "is in the file more than once, and either may be meant; save it anew", **told
            )
        if tensor.is_meta:
            raise UnreadableError(
                name, "is on the device 'meta', where tensors have no numbers; save one that has them", **told
            )
        layout = str(tensor.layout).removeprefix("torch.")
        if layout != "strided" or tensor.is_quantized:
            what = "quantized" if tensor.is_quantized else layout
            raise UnreadableError(
                name,
                f"is a tensor of the kind {what}; save it as plain numbers, by .to_dense() or .dequantize()",
                **told,
            )
        if tensor.is_conj() or tensor.is_neg():
            raise UnreadableError(name, f"is a view that stands for other numbers; {_CLONE}", **told)
        dtype, shape = _dtype(name, told), told["shape"]
        check_shape(name, shape, dtype)
        order = _order(name, tensor, told)
        storage = tensor.untyped_storage()
        record = _Record(storage.data_ptr() - self._base, storage.nbytes())
        start = tensor.storage_offset() * dtype.itemsize
        nbytes = math.prod(shape) * dtype.itemsize
        if nbytes and (start + nbytes > record.length or record not in self._known):
            raise UnreadableError(
                name,
                f"is damaged: it takes {nbytes} bytes, and its data have {record.length}; {_AGAIN}",
                **told,
            )
        return Strided(
            name, self.path, "torch", shape, dtype, offset=record.offset + start if nbytes else 0,
            file=self._identity, fortran=False, order=order,
        )  # fmt: skip


def _check_member(path: str, info: zipfile.ZipInfo) -> None:
    if info.compress_type != zipfile.ZIP_STORED:
        raise ValueError(
            f"{path} is a compressed archive, which torch.save does not write and torch.load does not map; load it "
            "with torch.load, and save it anew with torch.save"
        )


def _check_order(path: str, order: bytes) -> None:
    if order != b"little":
        raise ValueError(
            f"{path} was written in the byte order {order.decode(errors='replace')!r}; expected 'little'; save it "
            "anew on such a machine with safetensors.torch.save_file"
        )


def _load(path: str) -> tuple[Any, dict[int, int]]:
    """Let torch say what is in a file; returns that, and the addresses and lengths of the storages that it maps."""
    try:
        import torch
    except ImportError as error:
        raise ValueError(
            f"{path} was written by torch.save, and reading it needs the package torch; pip install torch, or save the "
            "tensor with safetensors.torch.save_file, which needs no torch to be read"
        ) from error
    if tuple(map(int, torch.__version__.split(".")[:2])) < (2, 6):
        raise ValueError(
            f"{path} was written by torch.save, and torch {torch.__version__} can run code of such a file even with "
            "weights_only=True (CVE-2025-32434); expected torch 2.6 or newer: pip install 'torch>=2.6'"
        )
    storages: dict[int, int] = {}

    def note(storage: Any, _: str) -> Any:
        if storage.nbytes():
            storages[storage.data_ptr()] = storage.nbytes()
        return storage

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on storages without a dtype, which torch makes itself
        try:
            return torch.load(path, map_location=note, weights_only=True, mmap=True), storages
        except MemoryError:
            raise
        except Exception as error:  # of torch and its unpickler, by the damage
            raise ValueError(_cannot_load(path, one_line(error))) from error


def _cannot_load(path: str, reason: str) -> str:
    if "weights_only" in reason or "weights only" in reason.lower() or "Unsupported" in reason:
        at = reason.find("WeightsUnpickler error:")
        shown = (reason[at:] if at >= 0 else reason)[:200]
        return (
            f"{path} holds more than tensors ({shown}), which can run code when it is loaded, and is never loaded "
            "here; if you trust it, load it in Python, and save its tensors alone with torch.save or "
            "safetensors.torch.save_file"
        )
    return f"{path} is truncated or damaged: torch cannot load it ({reason[:200]}); {_AGAIN}"


def _base(path: str, storages: dict[int, int], records: list[_Record]) -> int:
    """Return the address at which torch had mapped the file.

    Every storage is a record of the archive and the other way round, so both lie in the same distances.
    """
    if not storages:
        return 0
    base = min(storages) - (records[0].offset if records else 0)
    found = [_Record(address - base, length) for address, length in sorted(storages.items())]
    if found != records:
        raise ValueError(
            f"{path} is damaged: its table of contents has {len(records)} arrays of data, and its tensors have "
            f"{len(found)} others; {_AGAIN}"
        )
    return base


def _walk(prefix: str, content: Any) -> Iterator[tuple[str, Any]]:
    """Yield the tensors in a tensor, or in dicts and lists in each other, by their names."""
    import torch

    if isinstance(content, torch.Tensor):
        yield prefix, content
        return
    pairs = (
        content.items()
        if isinstance(content, dict)
        else enumerate(content)
        if isinstance(content, (list, tuple))
        else ()
    )
    for key, value in pairs:
        yield from _walk(f"{prefix}.{key}" if prefix else str(key), value)


def _dtype(name: str, told: dict[str, Any]) -> np.dtype[Any]:
    if told["dtype"] == "bfloat16":
        try:
            return bfloat16(f"{name} holds bfloat16, which")
        except ValueError as error:
            raise UnreadableError(name, str(error).removeprefix(f"{name} "), **told) from error
    if told["dtype"] not in _DTYPES:
        raise UnreadableError(
            name,
            f"holds {told['dtype']}; expected float16, bfloat16, float32 or float64 for logits, integers for targets; "
            "save it as one of those",
            **told,
        )
    return np.dtype(_DTYPES[told["dtype"]])


def _order(name: str, tensor: Any, told: dict[str, Any]) -> list[int]:
    """List the axes of a tensor, the slowest first; its elements must lie without gaps in any order of them."""
    shape, strides = told["shape"], tensor.stride()
    order = sorted(range(len(shape)), key=lambda a: (-strides[a], a) if shape[a] != 1 else (-math.inf, a))
    step = 1
    for axis in reversed(order):
        if 0 not in shape and shape[axis] != 1 and strides[axis] != step:
            raise UnreadableError(
                name,
                f"is a view of a larger tensor, of shape {shape} with the strides {strides}; {_CLONE}",
                **told,
            )
        step *= shape[axis]
    return order


class Torch(HolderFormat[Tensors]):
    """Files of `torch.save`, as it writes them since version 1.6."""

    name = "torch"
    kind = _KIND
    tells_dtypes = True

    def begins(self, path: str, start: bytes) -> bool:
        """Return whether a zip archive is of torch, under a name that does not say that it is another one."""
        if not start.startswith(SIGNATURE):
            return False
        try:
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
        except BROKEN_ARCHIVE:
            return path.lower().endswith((".pt", ".pth"))
        return any(name.endswith("/data.pkl") for name in names)

    def holder(self, path: str) -> Tensors:
        """Let torch say which tensors there are."""
        return Tensors(path)
