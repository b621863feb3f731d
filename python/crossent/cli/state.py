"""The state of a run in a file: what `--resume` goes on from, and what `crossent merge` puts together."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from crossent import __version__, _core
from crossent.cli.files import replace
from crossent.cli.output import DataError
from crossent.io import open_regular

# What a state begins with; a later layout gets a later number.
_FORMAT = "crossent.run 1"
# Far more than the sums of any run take.
_MOST_BYTES = 256 << 20


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
    """The file of single rows, and its columns."""

    complete: bool = False
    source: dict[str, Any] = field(default_factory=dict)
    """What is known of the logits, in the end their number of rows too."""

    clamped: int | None = None
    first_nonfinite_row: list[int] | None = None
    rows: int = 0
    """How many rows the sums hold, from the first on: where to go on."""

    sums: dict[str, Any] = field(default_factory=dict)
    """A `Scorer` or a `Comparer`, as its `to_json` writes it."""

    runs: list[list[dict[str, Any]]] = field(default_factory=list)
    """The inputs of each run that it was merged of."""

    def write(self, path: str) -> None:
        """Write the state, so that there is a whole one at any time."""
        temporary = Path(f"{path}.tmp")
        temporary.write_text(json.dumps({"format": _FORMAT, **asdict(self)}, indent=1), encoding="utf-8")
        replace(temporary, path)

    @classmethod
    def read(cls, path: str) -> State:
        """Read what `write` wrote."""
        text = _content(path)
        try:
            content = json.loads(text)
            if content.pop("format") != _FORMAT:
                raise ValueError
            state = cls(**content)
            if not all(isinstance(getattr(state, f.name), dict) for f in fields(cls) if f.name in _OBJECTS):
                raise ValueError
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise DataError(
                f"{path} is not the state of a run, as `crossent score --resume` writes it; name another file"
            ) from None
        return state

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
        if self.per_row != now.per_row:
            found.append(("--per-row", _told(self.per_row), _told(now.per_row)))
        return found


def _content(path: str) -> bytes:
    """Read what may be a state, and nothing of other files: they can be larger than memory."""
    file, size = open_regular(path)
    with file:
        return file.read() if size <= _MOST_BYTES else b""


_OBJECTS = ("options", "source", "sums")


def _changed(old: dict[str, Any], new: dict[str, Any]) -> str:
    if old["bytes"] != new["bytes"]:
        return f"one of {new['bytes']}"
    return "one of other content"


def _told(value: Any) -> str:
    if value is None:
        return "not given"
    if isinstance(value, dict):
        return f"{value['path']} with {','.join(value['columns'])}"
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
