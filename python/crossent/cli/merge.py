"""`crossent merge`: runs over parts of the data as one."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from crossent.cli.files import check_output
from crossent.cli.options import Subparsers, add_command, add_json, add_no_progress, input_file, output_file
from crossent.cli.output import DataError, say, table, to_json, write
from crossent.cli.score import UNITS, report_content, report_lines
from crossent.cli.state import State
from crossent.comparing import Comparer
from crossent.report import Scorer

_EXAMPLE = """\
examples, on two machines and then on one:
  crossent score logits-0.npy targets-0.npy --resume 0.json
  crossent score logits-1.npy targets-1.npy --resume 1.json

  crossent merge 0.json 1.json

The result has the bits of one run over all of the rows, in the order of the states.
exit codes: 0 a result, 1 bad data, 2 bad usage
"""


def add(commands: Subparsers) -> None:
    """Add the command to those of the parser."""
    parser = add_command(
        commands,
        "merge",
        run,
        help="put the states of several runs together",
        description="Put together the states that runs over parts of the data wrote with --resume.",
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
    add_no_progress(parser)
    add_json(parser, "")


def run(options: argparse.Namespace) -> int:
    """Merge the states and print the result."""
    states = [State.read(path) for path in options.states]
    _check(states, options.states)
    first = states[0]
    kind = Scorer if first.command == "score" else Comparer
    merged = kind.from_json(json.dumps(first.sums))
    for path, state in zip(options.states[1:], states[1:], strict=True):
        try:
            merged.merge(kind.from_json(json.dumps(state.sums)))  # type: ignore[arg-type]
        except ValueError as error:
            raise DataError(f"{path}: {error}") from None
    unfinished = [path for path, state in zip(options.states, states, strict=True) if not state.complete]
    if unfinished:
        say(
            f"note: {', '.join(unfinished)} of a run that is not complete; the result lacks the rest of its rows"
        )
    total = State(
        first.command,
        [told for state in states for told in state.inputs],
        first.options,
        version=first.version,
        isa=first.isa,
        complete=not unfinished,
        clamped=_sum([state.clamped for state in states]),
        rows=merged.rows,
        sums=json.loads(merged.to_json()),
        runs=[run for state in states for run in _runs(state)],
    )
    if options.save_state is not None:
        inputs = [*total.inputs, {"name": "of a state", "files": [{"path": path} for path in options.states]}]
        check_output(options.save_state, "--save-state", inputs)
        total.write(options.save_state)
    write(sys.stdout, _result(merged, total, as_json=options.json))
    if merged.result().count == 0:
        say("error: no row was counted in any of the runs")
        return 1
    return 0


def _check(states: Sequence[State], paths: Sequence[str]) -> None:
    """Raise unless the states are of different data, and of one kind."""
    first = states[0]
    seen: dict[str, str] = {}
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
        units = [
            next((unit for unit in UNITS if of.options.get(unit) is not None), None) for of in (state, first)
        ]
        if units[0] != units[1]:
            raise DataError(
                f"{path} counts {units[0] or 'no units'}, and {paths[0]} {units[1] or 'no units'}; make both with the "
                "same"
            )
        for inputs in _runs(state):
            key = json.dumps([[told["name"], told["files"]] for told in inputs])
            if key in seen:
                raise DataError(
                    f"{path} and {seen[key]} are of the same rows, those of {inputs[0]['name']}; name each run once"
                )
            seen[key] = path


def _runs(state: State) -> list[list[dict[str, Any]]]:
    return state.runs or [state.inputs]


def _told(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _sum(counts: Sequence[int | None]) -> int | None:
    known = [number for number in counts if number is not None]
    return sum(known) if known else None


def _result(merged: Scorer | Comparer, state: State, *, as_json: bool) -> str:
    provenance: dict[str, Any] = {
        "complete": state.complete,
        "version": state.version,
        "isa": state.isa,
        "ignore_index": state.options.get("ignore-index"),
        "inputs": state.inputs,
    }
    if state.clamped is not None:
        provenance["clamped"] = state.clamped
    if isinstance(merged, Comparer):
        comparison = merged.result()
        return to_json(comparison.to_dict() | provenance) if as_json else table(comparison._lines())
    unit = next((unit for unit in UNITS if state.options.get(unit) is not None), None)
    report = merged.result()
    return (
        to_json(report_content(report, unit) | provenance) if as_json else table(report_lines(report, unit))
    )
