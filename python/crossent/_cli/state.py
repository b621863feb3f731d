"""The state of a run in a file: what `--resume` goes on from, and what `crossent merge` puts together."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from crossent import __version__, _core
from crossent._cli.files import try_writing, whole
from crossent._cli.output import DataError
from crossent._exact import whole as count_of
from crossent._io import open_regular
from crossent._scoring.comparer import Comparer
from crossent._scoring.scorer import Scorer

# What a state begins with; a later layout gets a later number.
_FORMAT = "crossent.run 1"
_TOTALS: dict[str, type[Scorer] | type[Comparer]] = {"score": Scorer, "compare": Comparer}


@dataclass
class State:
    """A run as it stands after some of its rows."""

    command: str
    inputs: list[dict[str, Any]]
    """The files, with their sizes and fingerprints."""

    options: dict[str, Any]
    """Those that change the result."""

    version: str = __version__
    isa: str = field(default_factory=lambda: str(_core.build_info()["isa"]))
    per_row: dict[str, Any] | None = None
    """The file of single rows and its columns, which run writes it, and what that has written."""

    complete: bool = False
    source: dict[str, Any] = field(default_factory=dict)
    """What is known of the logits, in the end their number of rows too."""

    clamped: int | None = None
    """Counted targets whose loss the file makes smaller than it was; of the reference, where two files are compared."""

    other_clamped: int | None = None
    """The same of the other file."""

    first_nonfinite_row: list[int] | None = None
    rows: int = 0
    """How many rows the sums hold, from the first on: where to go on."""

    sums: dict[str, Any] = field(default_factory=dict)
    """A `Scorer` or a `Comparer`, as its `to_json` writes it."""

    runs: list[list[dict[str, Any]]] = field(default_factory=list)
    """The inputs of each run that it was merged of."""

    def write(self, path: str) -> None:
        """Write the state, so that there is a whole one at any time."""
        with whole(path) as temporary:
            temporary.write_text(self._text(), encoding="utf-8")

    def try_writing(self, path: str) -> None:
        """Raise where the state could not be written, before there is anything to lose."""
        try_writing(path, self._text())

    def _text(self) -> str:
        return json.dumps({"format": _FORMAT, **asdict(self)}, indent=1)

    @classmethod
    def read(cls, path: str) -> State:
        """Read what `write` wrote, and check the fields; the sums are checked by `total`."""
        content = _content(path)
        names = [f.name for f in fields(cls)]
        for name in names:
            if name not in content and name not in _OPTIONAL:
                raise _damaged(path, f"it has no field {name!r}")
        for name, value in content.items():
            if name not in names:
                raise DataError(
                    f"{path} has a field {name!r}, which crossent {__version__} does not write; read it with the "
                    f"version that wrote it, {_short(content.get('version'))}"
                )
            what, is_right = _FIELDS[name]
            if not is_right(value):
                raise _damaged(path, f"its field {name!r} is {_short(value)}, expected {what}")
        return cls(**content)

    def total(self, path: str) -> Scorer | Comparer:
        """Return the sums, which were read from a file; one whose parts disagree is damaged."""
        try:
            total = _TOTALS[self.command].from_json(json.dumps(self.sums))
        except (ValueError, TypeError, AttributeError, OverflowError) as error:
            raise _damaged(path, f"its sums cannot be read: {error}") from error
        if total.rows != self.rows:
            raise _damaged(path, f"its sums are of {total.rows} rows, and its field 'rows' is {self.rows}")
        for name, own in (("ignore-index", "ignore_index"), ("top-k", "top_k")):
            if own in self.sums and name in self.options and self.options[name] != self.sums[own]:
                raise _damaged(
                    path,
                    f"its sums were made with --{name} {_told(self.sums[own])}, and its options give "
                    f"{_told(self.options[name])}",
                )
        if "bins" in self.sums and len(self.sums["bins"]) != self.options.get("bins", len(self.sums["bins"])):
            raise _damaged(
                path,
                f"its sums have {len(self.sums['bins'])} bins, and its options give {self.options['bins']}",
            )
        return total

    def check_same(self, now: State, path: str) -> None:
        """Raise unless a run that begins as `now` would go on where this one stands."""
        if self.runs:
            raise DataError(
                f"{path} was merged of {len(self.runs)} runs, and cannot be resumed; resume one of them"
            )
        for what, then, new in self._differences(now):
            raise DataError(
                f"{path} cannot be resumed: {what} was {then}, and is {new}; run the command that began it, or name "
                "another state to begin anew"
            )

    def _differences(self, now: State) -> list[tuple[str, Any, Any]]:
        found: list[tuple[str, Any, Any]] = [
            (what, then, new)
            for what, then, new in (
                ("the command", self.command, now.command),
                ("crossent's version", self.version, now.version),
                ("the instruction set", self.isa, now.isa),
            )
            if then != new
        ]
        names = [told["argument"] for told in now.inputs]
        if [told["argument"] for told in self.inputs] != names:
            return [*found, ("the list of inputs", [told["argument"] for told in self.inputs], names)]
        for told, new in zip(self.inputs, now.inputs, strict=True):
            if told["name"] != new["name"]:
                found.append((told["argument"], told["name"], new["name"]))
            elif [file["path"] for file in told["files"]] != [file["path"] for file in new["files"]]:
                found.append(
                    (f"the number of files of {told['name']}", len(told["files"]), len(new["files"]))
                )
            else:
                found += [
                    (f"{file['path']}", f"a file of {file['bytes']} bytes", _changed(file, other))
                    for file, other in zip(told["files"], new["files"], strict=True)
                    if file != other
                ]
        for name in {**self.options, **now.options}:
            then, value = self.options.get(name), now.options.get(name)
            if then != value:
                found.append((f"--{name}", _told(then), _told(value)))
        rows, own = _per_row_told(self.per_row), _per_row_told(now.per_row)
        if rows != own:
            found.append(("--per-row", rows, own))
        return found


def _content(path: str) -> dict[str, Any]:
    """Read the JSON object of a state, and tell files that never were one from those that are damaged."""
    stream, _ = open_regular(path)
    with stream:
        begins = stream.read(64)  # Files that are no states may be larger than memory.
        if not begins:
            raise _other(path, "it is empty")
        if not begins.lstrip().startswith(b"{"):
            raise _other(path, "it is not a JSON object")
        text = begins + stream.read()
    ours = f'"format": "{_FORMAT}"'.encode() in begins
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        if ours:
            at = "it ends early" if _ends_early(error, text) else f"it is not JSON: {error}"
            raise _damaged(path, at) from None
        raise _other(path, f"it is not JSON: {error}") from None
    found = content.pop("format", None)
    if found != _FORMAT:
        told = "it has no format" if found is None else f"its format is {_short(found)}, expected {_FORMAT!r}"
        raise _other(path, told)
    return dict(content)


def _ends_early(error: Exception, text: bytes) -> bool:
    return isinstance(error, json.JSONDecodeError) and not text.rstrip().endswith(b"}")


def _other(path: str, why: str) -> DataError:
    return DataError(
        f"{path} is not the state of a run, as `crossent score --resume` writes it: {why}; name another file"
    )


def _damaged(path: str, why: str) -> DataError:
    return DataError(f"{path} is damaged: {why}; restore it, or name another state to begin anew")


def _is_count(value: Any) -> bool:
    try:
        count_of(value)
    except ValueError:
        return False
    return True


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _is_inputs(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(told, dict)
        and _is_text(told.get("argument"))
        and _is_text(told.get("name"))
        and isinstance(told.get("files"), list)
        and all(map(_is_file, told["files"]))
        and (told.get("columns") is None or _is_texts(told["columns"]))
        for told in value
    )


def _is_source(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    shape, axis = value.get("shape"), value.get("axis")
    return shape is None or axis is None or (_is_counts(shape) and _is_count(axis) and axis < len(shape))


def _is_counts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_count, value))


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_file(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and _is_text(value.get("path"))
        and _is_count(value.get("bytes"))
        and _is_text(value.get("fingerprint"))
    )


def _is_per_row(value: Any) -> bool:
    if value is None:
        return True
    return (
        isinstance(value, dict)
        and _is_text(value.get("path"))
        and (value.get("run") is None or _is_text(value["run"]))
        and _is_texts(value.get("columns"))
        and all(value.get(name) is None or _is_file(value[name]) for name in ("written", "partial"))
    )


# What the states of earlier versions may lack.
_OPTIONAL = ("per_row", "source", "clamped", "other_clamped", "first_nonfinite_row", "runs")

# What each field has to be, in words and as a check.
_FIELDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "command": ("score or compare", lambda value: _is_text(value) and value in _TOTALS),
    "inputs": ("a list of inputs with their files", lambda value: bool(value) and _is_inputs(value)),
    "options": ("an object", _is_object),
    "version": ("a text", _is_text),
    "isa": ("a text", _is_text),
    "per_row": ("an object that describes the file of single rows", _is_per_row),
    "complete": ("true or false", lambda value: isinstance(value, bool)),
    "source": ("an object that describes the logits", _is_source),
    "clamped": ("a count", lambda value: value is None or _is_count(value)),
    "other_clamped": ("a count", lambda value: value is None or _is_count(value)),
    "first_nonfinite_row": (
        "a list of positions",
        lambda value: value is None or _is_counts(value),
    ),
    "rows": ("a count", _is_count),
    "sums": ("an object", _is_object),
    "runs": (
        "a list of the inputs of runs",
        lambda value: isinstance(value, list) and all(map(_is_inputs, value)),
    ),
}


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def clamped_counts(state: State) -> dict[str, int]:
    """Return the counts of clamped targets by their names in JSON, of the files that tell them."""
    counts = {"clamped": state.clamped, "other_clamped": state.other_clamped}
    return {name: count for name, count in counts.items() if count is not None}


def _changed(old: dict[str, Any], new: dict[str, Any]) -> str:
    if old["bytes"] != new["bytes"]:
        return f"one of {new['bytes']}"
    return "one of other content"


def _per_row_told(value: dict[str, Any] | None) -> str:
    return "not given" if value is None else f"{value['path']} with {','.join(value['columns'])}"


def _told(value: Any) -> str:
    if value is None:
        return "not given"
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
