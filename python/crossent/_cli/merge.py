"""`crossent merge`: runs over parts of the data as one."""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crossent._cli.files import check_clash, check_writable, names_taken, remedy
from crossent._cli.locking import Lock
from crossent._cli.options import Subparsers, add_command, add_json, add_no_progress, input_file, output_file
from crossent._cli.output import DataError, print_result, reason, say, table, to_json
from crossent._cli.score import UNITS, report_content, report_lines
from crossent._cli.state import State, clamped_counts
from crossent._cli.stopping import stopping
from crossent._io.labels import listed
from crossent._scoring.comparer import Comparer
from crossent._scoring.scorer import Scorer

_EXAMPLE = """\
examples, on two machines and then on one:
  crossent score logits-0.npy targets-0.npy --resume 0.json
  crossent score logits-1.npy targets-1.npy --resume 1.json

  crossent merge 0.json 1.json

The result has the bits of one run over all of the rows, in the order of the
states.
exit codes: 0 a result, 1 bad data, 2 bad usage
"""


def add(commands: Subparsers) -> None:
    """Add the command to those of the parser."""
    parser = add_command(
        commands,
        "merge",
        run,
        help="merge the states of several runs",
        description="Merge the states that runs over parts of the data wrote with --resume.",
        epilog=_EXAMPLE,
    )
    parser.add_argument(
        "states",
        type=input_file,
        metavar="STATE",
        nargs="+",
        help="states, all of `score` or all of `compare`",
    )
    parser.add_argument(
        "--save-state", type=output_file, metavar="OUT", help="write the merged state, to be merged again"
    )
    parser.add_argument(
        "--allow-repeats",
        action="store_true",
        help="also count runs over the same content, for different data that are equal by chance",
    )
    add_no_progress(parser)
    add_json(parser, "")


def run(options: argparse.Namespace) -> int:
    """Merge the states and print the result."""
    states = [State.read(path) for path in options.states]
    totals = [state.total(path) for path, state in zip(options.states, states, strict=True)]
    _check(states, options.states)
    _check_repeats(states, options.states, allowed=options.allow_repeats)
    first = states[0]
    merged = totals[0]
    for path, total in zip(options.states[1:], totals[1:], strict=True):
        try:
            merged.merge(total)  # type: ignore[arg-type]
        except ValueError as error:
            raise DataError(f"{path}: {error}") from None
    unfinished = [path for path, state in zip(options.states, states, strict=True) if not state.complete]
    if unfinished:
        say(
            f"note: {', '.join(unfinished)} of a run that is not complete; the result lacks the rest of its rows"
        )
    whole = State(
        first.command,
        [told for state in states for told in state.inputs],
        first.options,
        version=first.version,
        isa=first.isa,
        complete=not unfinished,
        clamped=_sum([state.clamped for state in states]),
        other_clamped=_sum([state.other_clamped for state in states]),
        source=_common([state.source for state in states]),
        rows=merged.rows,
        sums=json.loads(merged.to_json()),
        runs=[run for state in states for run in _runs(state)],
    )
    with stopping() as stop:
        stop.finish()
        try:
            failure = None if options.save_state is None else _save(whole, options)
            code = print_result(_result(merged, whole, as_json=options.json))
        except KeyboardInterrupt:
            say(f"ended at once by {stop.name}; merge again")
            return stop.code
    if failure is not None:
        say(f"error: {failure}")
        return 1
    if merged.result().count == 0:
        say("error: no row was counted in any of the runs")
        return 1
    return code


def _save(whole: State, options: argparse.Namespace) -> str | None:
    """Write the merged state; returns why it could not be written, so that the result is printed all the same."""
    output, option = options.save_state, "--save-state"
    names = names_taken(output)
    inputs = [*whole.inputs, {"name": "of a state", "files": [{"path": path} for path in options.states]}]
    check_clash(output, option, inputs, names)
    try:
        check_writable(output, option, names)
        with contextlib.closing(Lock(output, option, options.argv)) as lock:
            lock.clear(names)
            whole.write(output)
    except DataError as error:
        return f"{error}; the result is complete, but its state is not kept"
    except Exception as error:  # noqa: BLE001  the result is worth more than any of them
        return (
            f"{option} {output} could not be written: {reason(error)}; the result is complete, but its state is not "
            f"kept: {remedy(error)}, and merge again"
        )
    return None


def _check(states: Sequence[State], paths: Sequence[str]) -> None:
    """Raise unless the states are of one kind."""
    first = states[0]
    for path, state in zip(paths, states, strict=True):
        if state.command != first.command:
            raise DataError(
                f"{path} is a state of `crossent {state.command}`, and {paths[0]} of `crossent {first.command}`; merge "
                "those of one command"
            )
        if (state.version, state.isa) != (first.version, first.isa):
            say(
                f"note: {path} was written by crossent {state.version} on {state.isa}, and {paths[0]} by "
                f"{first.version} on {first.isa}: their last digits may differ"
            )
        for name in ("ignore-index", "top-k", "bins"):
            if state.options.get(name) != first.options.get(name):
                raise DataError(
                    f"{path} was made with --{name} {_told(state.options.get(name))}, and {paths[0]} with "
                    f"{_told(first.options.get(name))}; make both with the same"
                )
        _check_heads(state, path, first, paths[0])
        units = [
            next((unit for unit in UNITS if of.options.get(unit) is not None), None) for of in (state, first)
        ]
        if units[0] != units[1]:
            raise DataError(
                f"{path} counts {units[0] or 'no units'}, and {paths[0]} {units[1] or 'no units'}; make both with the "
                "same"
            )
        _check_classes(state, path, first, paths[0])


def _check_heads(state: State, path: str, other: State, other_path: str) -> None:
    """Raise where the logits of two runs were made of hidden states in different ways: by different models."""
    ways, others = (
        [[*_heads_in(run), of.options.get("softcap"), of.options.get("scale")] for run in _runs(of)]
        for of in (state, other)
    )
    if any(way != others[0] for way in ways):
        raise DataError(
            f"{path} has logits that were made with another --head, --head-bias, --softcap or --scale than those of "
            f"{other_path}; merge runs of one model"
        )


def _heads_in(inputs: list[dict[str, Any]]) -> list[Any]:
    """List the output matrices and biases among the inputs of a run, by their content."""
    return [
        [told["argument"], _key_of(told), [[file["bytes"], file["fingerprint"]] for file in told["files"]]]
        for told in inputs
        if "head" in told["argument"]
    ]


def _check_classes(state: State, path: str, other: State, other_path: str) -> None:
    """Raise where two runs are over other classes, as one run over both of their files would."""
    names, other_names = (of.inputs[0].get("columns") for of in (state, other))
    if names and other_names and sorted(names) != sorted(other_names):
        lacking, more = (
            [name for name in some if name not in others]
            for some, others in ((other_names, names), (names, other_names))
        )
        parts = [f"lacks {listed(lacking)}"] if lacking else []
        parts += [f"has {listed(more)} besides"] if more else []
        raise DataError(
            f"{path} is of other columns than {other_path}: it {' and '.join(parts)}; make both with the same --columns"
        )
    classes, other_classes = _number_of_classes(state), _number_of_classes(other)
    if None not in (classes, other_classes) and classes != other_classes:
        raise DataError(
            f"{path} is of {classes} classes, and {other_path} of {other_classes}; merge runs over the same classes"
        )


def _number_of_classes(state: State) -> int | None:
    """Return the number of classes; None where the state does not hold it."""
    shape, axis = state.source.get("shape"), state.source.get("axis")
    if shape is not None and axis is not None:
        return int(shape[axis])
    return state.sums.get("classes") or None


@dataclass(frozen=True)
class _Run:
    """One of the runs in a state: what it read, identified by content, since one file may have many names."""

    path: str
    name: str
    key: str | None
    rows: frozenset[str]
    """The files of logits, or of the reference."""

    everything: str
    """All files in their order, with the arrays that are taken out of them."""


def _check_repeats(states: Sequence[State], paths: Sequence[str], *, allowed: bool) -> None:
    """Raise where rows would be counted twice: the same state, or runs over the same content.

    Names do not identify rows: states are made in other folders and on other machines. Content does, but for data that
    are the same by chance, such as two shards of padding; those may be `allowed`.
    """
    files: dict[tuple[int, int], str] = {}
    for path, state in zip(paths, states, strict=True):
        status = Path(path).stat()
        before = files.get((status.st_dev, status.st_ino))
        files[status.st_dev, status.st_ino] = path
        if before is not None:
            raise DataError(
                f"{path} and {before} are of the same rows, those of {state.inputs[0]['name']}: they are one file; "
                "name each run once"
            )
    seen: list[_Run] = []
    for path, state in zip(paths, states, strict=True):
        if state.rows == 0:
            continue
        for inputs in _runs(state):
            run = _described(path, inputs, state.options)
            for earlier in seen:
                _tell_repeat(run, earlier, allowed=allowed)
            seen.append(run)


def _described(path: str, inputs: list[dict[str, Any]], options: dict[str, Any]) -> _Run:
    contents = [
        [told["argument"], _key_of(told), [[file["bytes"], file["fingerprint"]] for file in told["files"]]]
        for told in inputs
    ]
    columns = [options.get(name) for name in ("label", "columns")]
    first = inputs[0]
    rows = frozenset(f"{file['bytes']} {file['fingerprint']}" for file in first["files"])
    return _Run(path, first["name"], _key_of(first), rows, json.dumps([contents, columns]))


def _key_of(told: dict[str, Any]) -> str | None:
    """Return the array that an input names in its files, as FILE:KEY does."""
    name = told["name"]
    if any(file["path"] == name for file in told["files"]) or ":" not in name:
        return None
    for file in told["files"]:
        if name.startswith(f"{file['path']}:"):
            return str(name[len(file["path"]) + 1 :])
    return str(name.rpartition(":")[2])


def _tell_repeat(run: _Run, other: _Run, *, allowed: bool) -> None:
    """Raise for two runs over the same content; note two that have only the logits in common."""
    if not run.rows & other.rows or (run.key != other.key and None not in (run.key, other.key)):
        return
    names = run.name if run.name == other.name else f"{run.name} and {other.name}, which hold the same"
    if run.everything != other.everything:
        say(
            f"note: {run.path} and {other.path} read the same rows of {names}, but with other targets, files or "
            "columns; leave one out unless both are to count"
        )
    elif allowed:
        say(f"note: {run.path} and {other.path} count the same rows, those of {names}")
    else:
        raise DataError(
            f"{run.path} and {other.path} are of the same rows, those of {names}; name each run once, or pass "
            "--allow-repeats if they are different data that are equal by chance"
        )


def _runs(state: State) -> list[list[dict[str, Any]]]:
    return state.runs or [state.inputs]


def _told(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _sum(counts: Sequence[int | None]) -> int | None:
    known = [number for number in counts if number is not None]
    return sum(known) if known else None


def _common(sources: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Keep what is the same of all sources."""
    first = sources[0]
    return {
        name: value for name, value in first.items() if all(source.get(name) == value for source in sources)
    }


# What describes hidden states and their output matrix in a result, where it is the same for all merged runs.
_OF_HEADS = ("hidden_size", "hidden_dtype", "head", "head_dtype", "head_bias", "softcap", "scale")


def _result(merged: Scorer | Comparer, state: State, *, as_json: bool) -> str:
    provenance: dict[str, Any] = {
        "complete": state.complete,
        "version": state.version,
        "isa": state.isa,
        "ignore_index": state.options.get("ignore-index"),
        "inputs": state.inputs,
    }
    provenance |= {name: state.source[name] for name in _OF_HEADS if name in state.source}
    provenance |= clamped_counts(state)
    if isinstance(merged, Comparer):
        comparison = merged.result()
        return to_json(comparison.to_dict() | provenance) if as_json else table(comparison._lines())
    unit = next((unit for unit in UNITS if state.options.get(unit) is not None), None)
    report = merged.result()
    if as_json:
        return to_json(report_content(report, unit) | provenance)
    return table(report_lines(report, unit, state.source.get("format")))
