"""The format Zarr, versions 2 and 3: arrays whose chunks are files of a folder or members of a zip archive; by zarr."""

from __future__ import annotations

import itertools
import json
import logging
import math
import os
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from crossent._io.chunked import Chunked, Reader
from crossent._io.format import HolderFormat
from crossent._io.kinds import ZARR_METADATA, ReadKind
from crossent._io.source import (
    FileIdentity,
    Stored,
    UnreadableError,
    became_shorter,
    check_not_packed,
    check_shape,
    files_of,
    missing_package,
    one_line,
    replaced,
)
from crossent._io.zipped import BROKEN_ARCHIVE, SIGNATURE
from crossent.blocks import Index

_KIND = ReadKind("a Zarr store", "give the folder, or a zip archive of it", write="write it with zarr")
_AGAIN = "write or copy it again"
_INNER_ENTRY = np.dtype("<u8")
_EMPTY = 2**64 - 1


class ZarrArray(Chunked):
    """An array of a store."""

    def __init__(self, name: str, store: Store, key: str, array: Any) -> None:
        kind = "zarr, compressed" if array.compressors else "zarr"
        super().__init__(
            name, store.path, kind, array.shape, array.dtype, chunks=array.chunks, whole_chunks=True
        )
        self._store, self._key, self._stored_dtype = store, key, array.dtype

    def open(self) -> Reader:
        """Open the array, which must be the one that was found."""
        return _Reader(self, self._store, self._key, self._stored_dtype)


class _Reader:
    """An array of a store that is open."""

    def __init__(self, stored: Stored, store: Store, key: str, dtype: np.dtype[Any]) -> None:
        self._name, self._store, self._key, self.dtype = stored.name, store, key, dtype
        store.check_same(key)
        self._content = store.opened()
        try:
            self._array = _array(self._content, key, stored.name)
        except UnreadableError:
            store.check_same(key)
            raise
        if (self._array.shape, self._array.dtype) != (stored.shape, dtype):
            self.close()
            raise replaced(store.path)

    def read(self, index: Index, out: NDArray[Any], /) -> None:
        """Read a part."""
        at = f"row {index[0].start}" if index else "its number"
        try:
            out[...] = self._array[index]
        except MemoryError:
            raise
        except Exception as error:  # codecs have errors of their own
            # The other chunks that zarr was at are of no use any more; asyncio would print that at the end.
            logging.getLogger("asyncio").setLevel(logging.CRITICAL)
            self._store.check_same(self._key)
            if isinstance(error, _MissingChunkError):
                raise ValueError(
                    f"{self._name} lost the chunk {error} while it was read; {_AGAIN}"
                ) from error
            raise ValueError(
                f"{self._name} is damaged: it cannot be read from {at} on ({one_line(error)}); {_AGAIN}"
            ) from error
        self._store.check_same(self._key)

    def close(self) -> None:
        """Close the archive."""
        self._content.close()


class _MissingChunkError(Exception):
    """A chunk that is not there."""


class Store:
    """The arrays of a store, whose metadata are read and checked."""

    def __init__(self, path: str) -> None:
        try:
            import zarr  # noqa: F401  what is read here is read without it
        except ImportError as error:
            raise missing_package(f"reading {path}", "zarr") from error
        self.path = path
        self._is_folder = os.path.isdir(path)  # noqa: PTH112  the name is the user's text
        self._identity, self._size = _status(path)
        self._keys = frozenset(self._listed())
        self._metadata = {
            key: self._read(key) for key in self._keys if key.rpartition("/")[2] in ZARR_METADATA
        }
        self._arrays = sorted(_arrays(path, self._metadata))
        self._found: dict[str, Stored | UnreadableError] = {}

    @property
    def names(self) -> list[str]:
        """The names of the arrays, with those of their groups; the empty one for a store that is an array."""
        return self._arrays

    def find(self, key: str, /) -> Stored:
        """Find an array, which is checked but not read."""
        name = f"{self.path}:{key}" if key else self.path
        content = self.opened()
        try:
            array = _array(content, key, name)
            self._check(name, key, array)
        finally:
            content.close()
        return ZarrArray(name, self, key, array)

    def opened(self) -> Any:
        """Open the store, so that a chunk that is missing is an error in place of the fill value."""
        import zarr

        try:
            inner = (
                zarr.storage.LocalStore(self.path, read_only=True)
                if self._is_folder
                else zarr.storage.ZipStore(self.path, mode="r", read_only=True)
            )
            return _whole_store(inner)
        except BROKEN_ARCHIVE as error:
            raise ValueError(f"{self.path} cannot be opened ({one_line(error)}); {_AGAIN}") from error

    def check_same(self, key: str) -> None:
        """Raise where another store or another array has taken the place of the one that was found."""
        now, size = _status(self.path)
        if now != self._identity:
            raise replaced(self.path)
        if not self._is_folder:
            if size < self._size:
                raise became_shorter(self.path, self._size, size)
            return
        prefix = f"{key}/" if key else ""
        for each in (f"{prefix}zarr.json", f"{prefix}.zarray"):
            if each in self._metadata and self._now(each) != self._metadata[each]:
                raise replaced(self.path)

    def _now(self, key: str) -> bytes | None:
        """Return what is stored by a key now; None where it cannot be read, as while a store is written anew."""
        try:
            return self._read(key)
        except ValueError:
            return None

    def _listed(self) -> Iterator[str]:
        if self._is_folder:
            return iter(files_of(self.path))
        try:
            with zipfile.ZipFile(self.path) as archive:
                return iter(archive.namelist())
        except BROKEN_ARCHIVE as error:
            raise ValueError(f"{self.path} is truncated or damaged ({one_line(error)}); {_AGAIN}") from error

    def _read(self, key: str, where: tuple[int, int] | None = None) -> bytes:
        """Return what is stored by a key: all of it, or some bytes from a place on, which may be one from the end."""
        try:
            if self._is_folder:
                with (Path(self.path) / key).open("rb") as file:
                    return _part(file, where)
            with zipfile.ZipFile(self.path) as archive, archive.open(key) as member:
                return _part(member, where)  # type: ignore[arg-type]
        except (KeyError, *BROKEN_ARCHIVE) as error:
            raise ValueError(f"{self.path}: {key} cannot be read ({one_line(error)}); {_AGAIN}") from error

    def _check(self, name: str, key: str, array: Any) -> None:
        """Raise unless the array holds plain numbers, and all of them are there."""
        shape, dtype = array.shape, array.dtype
        told: dict[str, Any] = {"dtype": str(dtype), "shape": shape}
        if dtype.hasobject or dtype.kind == "T":
            raise UnreadableError(
                name, "holds text or objects, and no plain numbers; name another array", **told
            )
        if any("pickle" in repr(codec).lower() for codec in (*array.filters, *array.compressors)):
            raise UnreadableError(
                name, "is stored as pickles, which can run code and are never loaded; write it anew", **told
            )
        check_shape(name, shape, dtype)
        check_not_packed(name, array.attrs.asdict(), **told)
        if 0 in shape:
            return
        outer = array.shards or array.chunks
        grid = [range(-(-length // chunk)) for length, chunk in zip(shape, outer, strict=True)]
        prefix = f"{key}/" if key else ""
        expected = [prefix + array.metadata.encode_chunk_key(place) for place in itertools.product(*grid)]
        missing = [each for each in expected if each not in self._keys]
        if missing:
            raise UnreadableError(
                name,
                f"lacks {len(missing)} of its {len(expected)} chunks, the first of them {missing[0]}: they were lost, "
                f"or never written, or hold the fill value {array.fill_value} alone, which zarr leaves out; write it "
                "with zarr.config.set({'array.write_empty_chunks': True})",
                **told,
            )
        if array.shards:
            self._check_shards(name, array, expected, told)

    def _check_shards(self, name: str, array: Any, shards: list[str], told: dict[str, Any]) -> None:
        """Raise where a shard lacks any of the chunks inside it: their places stand in its index."""
        (codec,) = [each for each in array.metadata.codecs if hasattr(each, "index_location")]
        kinds = [type(each).__name__ for each in codec.index_codecs]
        if kinds not in (["BytesCodec"], ["BytesCodec", "Crc32cCodec"]):
            raise UnreadableError(
                name,
                f"has shards whose index is stored by {', '.join(kinds)}; write it anew with zarr",
                **told,
            )
        inside = [outer // chunk for outer, chunk in zip(array.shards, array.chunks, strict=True)]
        size = 16 * math.prod(inside)
        length = size + 4 * (len(kinds) - 1)
        location = codec.index_location  # an enumeration before zarr 3.4, then its value
        at_end = getattr(location, "value", location) == "end"
        grid = [range(-(-length // outer)) for length, outer in zip(array.shape, array.shards, strict=True)]
        for key, place in zip(shards, itertools.product(*grid), strict=True):
            index = self._read(key, (-length if at_end else 0, size))
            if len(index) < size:
                raise UnreadableError(name, f"is damaged: its shard {key} is cut short; {_AGAIN}", **told)
            entries = np.frombuffer(index, _INNER_ENTRY).reshape(*inside, 2)[..., 0]
            needed = tuple(
                slice(0, -(-min(outer, whole - at * outer) // chunk))
                for at, whole, outer, chunk in zip(
                    place, array.shape, array.shards, array.chunks, strict=True
                )
            )
            if (entries[needed] == _EMPTY).any():
                raise UnreadableError(
                    name,
                    f"lacks chunks in its shard {key}: they were never written, or hold the fill value "
                    f"{array.fill_value} alone, which zarr leaves out; write it with "
                    "zarr.config.set({'array.write_empty_chunks': True})",
                    **told,
                )


def _part(file: BinaryIO, where: tuple[int, int] | None) -> bytes:
    if where is None:
        return file.read()
    start, count = where
    length = file.seek(0, os.SEEK_END)
    file.seek(max(length + start, 0) if start < 0 else start)
    return file.read(count)


def _status(path: str) -> tuple[FileIdentity, int]:
    """Return what identifies a store, and the length of an archive."""
    try:
        status = os.stat(path)  # noqa: PTH116  the name is the user's text
    except OSError:  # it is gone, which is as if another had taken its place
        return (-1, -1), 0
    return (status.st_dev, status.st_ino), status.st_size


def _arrays(path: str, metadata: Mapping[str, bytes]) -> Iterator[str]:
    """Yield the names of the arrays by the metadata of a store."""
    for key, content in metadata.items():
        folder, _, name = key.rpartition("/")
        if name == ".zarray":
            yield folder
        elif name == "zarr.json":
            try:
                kind = json.loads(content)["node_type"]
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise ValueError(
                    f"{path} is damaged: its {key} cannot be read ({one_line(error)}); {_AGAIN}"
                ) from error
            if kind == "array":
                yield folder


def _array(store: Any, key: str, name: str) -> Any:
    import zarr

    try:
        return zarr.open_array(store=store, path=key, mode="r")
    except Exception as error:  # of the metadata, by the damage or what they name
        raise UnreadableError(
            name, f"has metadata that zarr cannot read ({one_line(error)}); {_AGAIN}"
        ) from error


def _whole_store(inner: Any) -> Any:
    """Return a store in which a chunk that is not there is an error."""
    from zarr.storage import WrapperStore

    async def get(store: Any, key: str, prototype: Any, byte_range: Any = None) -> Any:
        found = await store._store.get(key, prototype, byte_range)
        if found is None and key.rpartition("/")[2] not in ZARR_METADATA:
            raise _MissingChunkError(key)
        return found

    return type("WholeStore", (WrapperStore,), {"get": get})(inner)


class Zarr(HolderFormat[Store]):
    """Stores of Zarr: folders, or zip archives of them."""

    name = "zarr"
    kind = _KIND
    tells_dtypes = False

    def begins(self, path: str, start: bytes) -> bool:
        """Return whether a zip archive is a store."""
        return start.startswith(SIGNATURE) and _is_zipped_store(path)

    def is_folder(self, path: str) -> bool:
        """Return whether a folder is a store; one that is named so may have metadata in its arrays alone."""
        folder = Path(path)
        if any((folder / name).is_file() for name in ZARR_METADATA):
            return True
        is_named = folder.suffix.lower() == ".zarr"
        return is_named and any(any(folder.glob(f"*/{name}")) for name in ZARR_METADATA)

    def holder(self, path: str) -> Store:
        """Read the metadata of the arrays."""
        return Store(path)


def _is_zipped_store(path: str) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.rpartition("/")[2] in ZARR_METADATA for name in archive.namelist())
    except BROKEN_ARCHIVE:
        return False
