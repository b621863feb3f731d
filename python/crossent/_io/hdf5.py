"""The format HDF5: named datasets in groups, in one piece or in chunks; by h5py."""

from __future__ import annotations

import contextlib
import math
import os
import posixpath
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossent._io.chunked import Chunked, Reader
from crossent._io.format import HolderFormat
from crossent._io.kinds import HDF5_MAGIC, ReadKind
from crossent._io.mapped import Mapped, check_length
from crossent._io.source import (
    FileIdentity,
    Stored,
    UnreadableError,
    became_shorter,
    check_not_packed,
    check_shape,
    identity,
    missing_package,
    one_line,
    open_regular,
    replaced,
)
from crossent.blocks import Index

_KIND = ReadKind(
    "an HDF5 file",
    "give it a name that ends with .h5",
    (HDF5_MAGIC,),
    write="write it with h5py",
)
_AGAIN = "write or copy it again"
# Links may lead to links, and in circles.
_MOST_LINKS = 16


class Hdf5Array(Chunked):
    """A dataset that is read by the library: in chunks, or of elements that NumPy has in another form."""

    def __init__(
        self,
        name: str,
        path: str,
        key: str,
        dataset: Any,
        *,
        file: FileIdentity,
    ) -> None:
        compressed = dataset.id.get_create_plist().get_nfilters() > 0
        kind = "hdf5, compressed" if compressed else "hdf5"
        chunks = dataset.chunks or (1,) * len(dataset.shape)
        super().__init__(
            name, path, kind, dataset.shape, dataset.dtype, chunks=chunks, whole_chunks=compressed
        )
        self._key, self._identity, self._stored_dtype = key, file, dataset.dtype

    def open(self) -> Reader:
        """Open the file, which must be the one that was found."""
        return _Reader(self, self._key, self._identity, self._stored_dtype)


class _Reader:
    """A dataset of a file that is open."""

    def __init__(self, stored: Stored, key: str, known: FileIdentity, dtype: np.dtype[Any]) -> None:
        self._name, self.dtype = stored.name, dtype
        self._file = _File(stored.path, known)
        try:
            self._dataset = self._file.content[key]
            if (self._dataset.shape, self._dataset.dtype) != (stored.shape, dtype):
                raise replaced(stored.path)
        except KeyError:
            self._file.close()
            raise replaced(stored.path) from None
        except BaseException:
            self._file.close()
            raise

    def read(self, index: Index, out: NDArray[Any], /) -> None:
        """Read a part."""
        at = f"row {index[0].start}" if index else "its number"
        try:
            if out.ndim == 0:
                out[()] = self._dataset[()]
            elif out.size:
                self._dataset.read_direct(out, source_sel=index)
        except (OSError, RuntimeError, ValueError) as error:
            self._file.check_length()
            raise ValueError(
                f"{self._name} is damaged: it cannot be read from {at} on ({one_line(error)}); {_AGAIN}"
            ) from error
        self._file.check_length()  # of what lies after the end the library makes zeros

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class _File:
    """A file that is open."""

    def __init__(self, path: str, known: FileIdentity | None = None) -> None:
        try:
            import h5py
        except ImportError as error:
            raise missing_package(f"reading {path}", "h5py") from error
        file, self.size = open_regular(path, known)
        with file:
            self.identity = identity(file)
        self._path = path
        try:
            self.content = h5py.File(path, "r")
        except (OSError, RuntimeError, ValueError) as error:
            raise ValueError(_cannot_open(path, self.size, error)) from error
        self._number = _descriptor(self.content)
        status = self._status()
        if (status.st_dev, status.st_ino) != self.identity:
            self.close()
            raise replaced(path)

    def check_length(self) -> None:
        """Raise where the file has become shorter since it was opened."""
        size = self._status().st_size
        if size < self.size:
            raise became_shorter(self._path, self.size, size)

    def _status(self) -> os.stat_result:
        return os.stat(self._path) if self._number is None else os.fstat(self._number)  # noqa: PTH116

    def close(self) -> None:
        """Close it."""
        self.content.close()


def _descriptor(file: Any) -> int | None:
    """Return the number by which the system knows an open file, where the library tells it."""
    try:
        number = int(file.id.get_vfd_handle())
        os.fstat(number)
    except (OSError, ValueError, TypeError, NotImplementedError, RuntimeError, OverflowError):
        return None
    return number


def _cannot_open(path: str, size: int, error: Exception) -> str:
    reason = one_line(error)
    if isinstance(error, BlockingIOError) or "unable to lock" in reason or "open for write" in reason:
        return (
            f"{path} is open for writing elsewhere, or was not closed by what wrote it ({reason}); wait until it is "
            "written, and start again"
        )
    return f"{path} is truncated or damaged: it has {size} bytes, and cannot be opened ({reason}); {_AGAIN}"


class Datasets:
    """The datasets of a file, of which the headers are read and checked."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._found: dict[str, Stored | UnreadableError] = {}
        with contextlib.closing(_File(path)) as file:
            self._file = file
            try:
                for key, dataset in _walk(file.content):
                    self._found[key] = self._checked(key, dataset)
            except (OSError, RuntimeError, KeyError, ValueError) as error:
                raise ValueError(
                    f"{path} is damaged: its list of datasets cannot be read ({one_line(error)}); {_AGAIN}"
                ) from error

    @property
    def names(self) -> list[str]:
        """The names of the datasets, with those of their groups."""
        return list(self._found)

    def find(self, key: str, /) -> Stored:
        """Find a dataset, which is checked but not read."""
        found = self._found[key]
        if isinstance(found, UnreadableError):
            raise found
        return found

    def _checked(self, key: str, dataset: Any) -> Stored | UnreadableError:
        try:
            return self._array(key, dataset)
        except UnreadableError as error:
            return error

    def _array(self, key: str, dataset: Any) -> Stored:
        name = f"{self.path}:{key}"
        if isinstance(dataset, str):
            raise UnreadableError(name, dataset)
        shape, dtype = dataset.shape, _dtype(name, dataset)
        if shape is None:
            raise UnreadableError(
                name, "is an empty dataset without a shape; write an array", dtype=str(dtype)
            )
        check_shape(name, shape, dtype)
        _check_whole(name, dataset, dtype)
        offset = dataset.id.get_offset()
        if offset is not None and _is_as_stored(dataset):
            known = self._file.identity
            mapped = Mapped(name, self.path, "hdf5", shape, dtype, offset=offset, file=known)
            return check_length(mapped, self._file.size, exact=False)
        return Hdf5Array(name, self.path, key, dataset, file=self._file.identity)


def _walk(root: Any) -> Iterator[tuple[str, Any]]:
    """Yield the datasets below a group by their names; those of other files as texts on why they are not read.

    A group that several links lead to is listed once, by the first of them.
    """
    import h5py

    seen = {h5py.h5o.get_info(root.id).addr}
    groups = [("", root)]
    while groups:
        prefix, group = groups.pop(0)
        for own in group:
            key, link = f"{prefix}{own}", group.get(own, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                yield key, f"is a link to {link.path} in {link.filename}; give that file"
                continue
            if isinstance(link, h5py.SoftLink):
                target = _linked(root, prefix, link.path)
                if target is not None:
                    yield key, target
                continue
            found = group[own]
            if isinstance(found, h5py.Dataset):
                yield key, found
            elif isinstance(found, h5py.Group):
                address = h5py.h5o.get_info(found.id).addr
                if address not in seen:
                    seen.add(address)
                    groups.append((f"{key}/", found))


def _linked(root: Any, prefix: str, path: str) -> Any:
    """Follow a link inside a file, step by step: a dataset, a text on why it cannot be read, or none for a group."""
    import h5py

    steps, found, followed = _steps(prefix, path), root, 0
    while steps:
        step = steps.pop(0)
        link = found.get(step, getlink=True) if isinstance(found, h5py.Group) else None
        if link is None or followed > _MOST_LINKS:
            return f"is a link to {path}, which leads nowhere; name the dataset itself"
        if isinstance(link, h5py.ExternalLink):
            return f"is a link to {link.path} in {link.filename}; give that file"
        if isinstance(link, h5py.SoftLink):
            steps, found, followed = [*_steps(found.name, link.path), *steps], root, followed + 1
        else:
            found = found[step]
    return found if isinstance(found, h5py.Dataset) else None


def _steps(folder: str, path: str) -> list[str]:
    """Cut a path that begins at a group, or with a slash at the root, into names."""
    whole = posixpath.normpath(posixpath.join("/", folder, path))
    return [step for step in whole.split("/") if step]


def _dtype(name: str, dataset: Any) -> np.dtype[Any]:
    import h5py

    try:
        dtype: np.dtype[Any] = dataset.dtype
    except (TypeError, ValueError) as error:
        raise UnreadableError(
            name, f"holds elements that NumPy has no dtype for ({one_line(error)}); save it as float32"
        ) from error
    if dtype.hasobject:
        text = h5py.check_string_dtype(dtype) is not None
        what = "text" if text else "elements of varying length or references"
        raise UnreadableError(
            name,
            f"holds {what}, and no plain numbers; name another dataset",
            dtype="text" if text else "object",
            shape=dataset.shape,
        )
    if dtype.subdtype is not None:
        raise UnreadableError(
            name,
            f"holds elements that are arrays themselves ({dtype}); save it as one array of numbers",
            dtype=str(dtype),
            shape=dataset.shape,
        )
    return dtype


def _check_whole(name: str, dataset: Any, dtype: np.dtype[Any]) -> None:
    """Raise unless all elements are in the file: for others the library makes numbers up."""
    import h5py

    shape = dataset.shape
    told: dict[str, Any] = {"dtype": str(dtype), "shape": shape}
    if dataset.is_virtual:
        raise UnreadableError(
            name,
            "is a virtual dataset, whose numbers are in others; give those by a pattern, or copy it to one dataset",
            **told,
        )
    if dataset.external:
        raise UnreadableError(
            name,
            f"has its numbers in another file, {dataset.external[0][0]}; copy them to one dataset",
            **told,
        )
    check_not_packed(name, dataset.attrs, **told)
    plan = dataset.id.get_create_plist()
    for number in range(plan.get_nfilters()):
        code, _, _, title = plan.get_filter(number)
        if not h5py.h5z.filter_avail(code):
            raise UnreadableError(
                name,
                f"needs the filter {code} of HDF5 ({title.decode(errors='replace')}), which is not installed; set "
                "HDF5_PLUGIN_PATH to the folder of its plugin, or write it with gzip",
                **told,
            )
    if 0 in shape:
        return
    if dataset.chunks is not None:
        expected = math.prod(-(-length // chunk) for length, chunk in zip(shape, dataset.chunks, strict=True))
        stored = dataset.id.get_num_chunks()
        if stored < expected:
            raise UnreadableError(
                name,
                f"is not written as a whole: {expected - stored} of its {expected} chunks are missing; wait until it "
                "is written, or write it again",
                **told,
            )
    elif dataset.id.get_storage_size() == 0:
        raise UnreadableError(name, "was made, and never written; write its numbers", **told)


def _is_as_stored(dataset: Any) -> bool:
    """Return whether the elements lie in the file as NumPy has them."""
    import h5py

    return bool(dataset.id.get_type().equal(h5py.h5t.py_create(dataset.dtype)))


class Hdf5(HolderFormat[Datasets]):
    """Files of HDF5."""

    name = "hdf5"
    kind = _KIND
    tells_dtypes = False

    def holder(self, path: str) -> Datasets:
        """Read the headers of the datasets."""
        return Datasets(path)
