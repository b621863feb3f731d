"""Names of columns: which go together, which are hardly classes, and how to write them for `--columns`."""

from __future__ import annotations

import difflib
import fnmatch
import functools
import itertools
import re
import shlex
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from string import ascii_lowercase, ascii_uppercase

from crossent._io.labels import SEPARATORS, USUAL, counts_up, listed, numbers_of_classes, short_names

LABELS = ("label", "labels", "target", "targets", "y_true", "y", "class")
"""The names of a column of labels that are known without `--label`."""

_UNNAMED = re.compile(
    r"|unnamed(?:: ?\d+)?(?:_level_\d+)?|\.\.\.\d+|__index_level_\d+__|level_0|#", re.IGNORECASE
)
_IDS = frozenset(
    ["id", "ids", "idx", "index", "indices", "uid", "uuid", "guid", "rowid", "rownum", "rowname", "rownames"]
)
_ODD = frozenset({
    "key", "row", "rows", "row_number", "row_names", "weight", "weights", "sample_weight", "sample_weights",
    "class_weight", "age", "gender", "sex", "latitude", "longitude", "fold", "folds", "split", "partition",
    "subset", "epoch", "step", "iteration", "batch", "seed", "time", "timestamp", "duration", "latency",
    "loss", "nll", "log_loss", "logloss", "ce", "cross_entropy", "xent", "error", "acc", "accuracy",
    "correct", "is_correct", "confidence", "conf", "prob", "proba", "probability", "score", "logit",
    "max_prob", "maxprob", "max_proba", "top_prob", "top1_prob", "entropy", "margin", "uncertainty",
    "variance", "temperature", "pred", "preds", "predicted", "prediction", "predictions", "predicted_class",
    "predicted_label", "pred_label", "pred_class", "prediction_label", "y_pred", "y_hat", "yhat", "argmax",
    "top1", "top_1", "rank", "length", "len", "n_tokens", "num_tokens", "size", "count", "counts", "freq",
    "frequency", "group", "groups", "cluster", "truth", "gold", "gt", "ground_truth", "actual", "observed",
    "expected", "annotation",
})  # fmt: skip
_CAPITAL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_LONG = 1000  # characters; a longer list of names is no help
_SEPARATED = re.compile(r"[_.:\- ]+")


def odd_name(name: str) -> str | None:
    """Explain why a column is hardly a class by its name, if it is not."""
    lower = name.strip().lower()
    if _UNNAMED.fullmatch(lower):
        return "has no name, as an index" if not lower or "unnamed" in lower else "is named as an index"
    plain = _plain(name)
    if _IDS.intersection(plain.split("_")):
        return "is named as an index"
    if plain in _ODD or lower in LABELS or plain in LABELS:
        return "is not named as a class"
    return None


def _plain(name: str) -> str:
    """Return the words of a name in lower case, with _ between them."""
    return _SEPARATED.sub("_", _CAPITAL.sub("_", name.strip()).lower()).strip("_")


def is_token_list(name: str) -> bool:
    """Return whether a column of lists is named as one of tokens: a number for each token, and none for a class."""
    words = _plain(name).split("_")
    if any(USUAL.fullmatch(word) for word in words):  # next_token_logits
        return False
    return not (_IDS | {"mask", "masks", "token", "tokens", "position", "positions"}).isdisjoint(words)


@dataclass(frozen=True)
class Family:
    """Columns whose names go together: what they begin or end with, and whether they are counted up."""

    members: tuple[str, ...] = ()
    prefix: str = ""
    suffix: str = ""
    enumerated: bool = False
    is_certain: bool = False
    """Whether all of them are classes: they are counted up from 0 or 1, or have a usual beginning."""

    def __contains__(self, name: str) -> bool:
        return name in self._known

    @functools.cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(self.members)

    def odd(self, name: str) -> str | None:
        """Explain why a member is hardly a class by the part of its name that is its own; a number says nothing."""
        return None if self.enumerated else odd_name(self._tail(name))

    def _tail(self, name: str) -> str:
        return name[len(self.prefix) : len(name) - len(self.suffix)]

    def admits(self, name: str) -> bool:
        """Return whether a name would belong to the family."""
        if not self.members or not (self.prefix or self.suffix or self.enumerated):
            return False
        if not (name.startswith(self.prefix) and name.endswith(self.suffix)):
            return False
        ends = [name[len(self.prefix) :], self.members[0][len(self.prefix) :]]
        return not self.enumerated or all(end.isdecimal() and end.isascii() for end in ends)

    def is_enumerated(self, name: str) -> bool:
        """Return whether a column has its name by its place: p_0, p_1 or A, B."""
        return self.enumerated and name in self


def family_of(names: Sequence[str]) -> Family:
    """Find the columns whose names go together, where that tells them from others.

    Numbers from 0 or 1 on, letters from A on or a known beginning tell enough for any two. Else most must go together;
    or there are two sets of columns with the same endings, such as those of two models.
    """
    found = [*_enumerated(names), *_alike(names)]
    strong = [(known, len(family.members), family) for known, strong, family in found if strong]
    if strong:
        return max(strong, key=lambda each: (each[0], each[1], len(each[2].prefix)))[2]
    most = [family for _, _, family in found if 2 * len(family.members) > len(names)]
    return max(most, key=lambda family: (len(family.members), len(family.prefix)), default=Family())


def _enumerated(names: Sequence[str]) -> Iterable[tuple[bool, bool, Family]]:
    """Find the families that are counted up: whether their beginning is known, and whether that is evidence enough."""
    groups: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for name in names:
        numbered = re.fullmatch(r"(.*?)([0-9]+)", name)
        if numbered:
            groups[numbered[1]].append((int(numbered[2][:18]), name))
    for prefix, members in groups.items():
        if len(members) > 1:
            numbers = sorted(number for number, _ in members)
            complete = counts_up(numbers)
            known = bool(USUAL.fullmatch(prefix))
            yield (
                known,
                complete or known,
                Family(
                    tuple(name for _, name in members),
                    prefix,
                    enumerated=True,
                    is_certain=complete or known,
                ),
            )
    run = letters_of(names)
    if len(run) > 1:
        in_order = tuple(name for name in names if name in run)
        yield False, True, Family(in_order, enumerated=True, is_certain=True)


def letters_of(names: Sequence[str]) -> frozenset[str]:
    """Return the names that are letters counted up, from A on."""
    letters = {name for name in names if len(name) == 1}
    runs = [itertools.takewhile(letters.__contains__, each) for each in (ascii_uppercase, ascii_lowercase)]
    return max(map(frozenset, runs), key=len)


def _alike(names: Sequence[str]) -> Iterable[tuple[bool, bool, Family]]:
    """Find the families that begin or end alike."""
    prefixes: dict[str, list[str]] = defaultdict(list)
    suffixes: dict[str, list[str]] = defaultdict(list)
    for name in names:
        for at in range(1, len(name) - 1):
            if name[at] in SEPARATORS:
                prefixes[name[: at + 1]].append(name)
                suffixes[name[at:]].append(name)
    tails = {
        prefix: frozenset(name[len(prefix) :] for name in members)
        for prefix, members in prefixes.items()
        if len(members) > 1
    }
    times = Counter(tails.values())
    for prefix, tail in tails.items():
        known = bool(USUAL.fullmatch(prefix))
        yield known, known or times[tail] > 1, Family(tuple(prefixes[prefix]), prefix, is_certain=known)
    for suffix, members in suffixes.items():
        if len(members) > 1:
            known = bool(USUAL.fullmatch(suffix[1:]))
            yield known, known, Family(tuple(members), "", suffix)


class Patterns:
    """The value of `--columns`: names of columns and patterns for them."""

    def __init__(self, parts: Sequence[str]) -> None:
        self.parts = parts
        self.exact = frozenset(parts)
        self._wild = [part for part in parts if any(sign in part for sign in "*?[")]

    def __contains__(self, name: str) -> bool:
        return name in self.exact or any(fnmatch.fnmatchcase(name, part) for part in self._wild)

    def idle(self, names: Sequence[str]) -> str | None:
        """Return the first part that takes none of the columns."""
        known = frozenset(names)
        return next(
            (part for part in self.parts if part not in known and not fnmatch.filter(names, part)), None
        )


def shared_prefix(names: Sequence[str]) -> str:
    """Return what `short_names` takes off."""
    short = short_names(names)
    return names[0][: len(names[0]) - len(short[0])]


def one_class(table: str, name: str, names: Sequence[str]) -> str:
    """Return the text for a table with a single class."""
    rest = (
        "" if len(names) == 1 else f", and the others are {listed([each for each in names if each != name])}"
    )
    return (
        f"{table} has a single column {name!r} that can be a class{rest}; a table has one for each class, so for two "
        "classes write 1 - p beside p; or name them with --columns"
    )


def who(names: Sequence[str]) -> str:
    """Name some columns as the subject of a sentence."""
    return f"the column {names[0]!r}" if len(names) == 1 else f"the columns {listed(names)}"


def counted(number: int, what: str) -> str:
    """Return a number with what is counted."""
    return f"a {what}" if number == 1 else f"{number} {what}s"


def pattern_of(name: str) -> str:
    """Return a pattern for a name; commas and the signs of patterns are matched by ?."""
    return re.sub(r"[,*?\[\]]", "?", name)


def columns_option(chosen: Sequence[str], names: Sequence[str]) -> str:
    """Return the option that takes some columns and no others, fit for a shell; a long list of names is shortened."""
    value = _columns(chosen, names)
    if len(value) > _LONG:
        value = f"{pattern_of(chosen[0])},{pattern_of(chosen[1])},...,{pattern_of(chosen[-1])}"
        return f"--columns {shlex.quote(value)} (all {len(chosen)} of them)"
    return f"--columns{'=' if value.startswith('-') else ' '}{shlex.quote(value)}"


def _columns(chosen: Sequence[str], names: Sequence[str]) -> str:
    """Return a pattern that takes some columns and no others, or their names."""
    if len(chosen) > 2:
        short = short_names(chosen)
        prefix = chosen[0][: len(chosen[0]) - len(short[0])]
        suffix = _shared_suffix(chosen)
        for pattern in (f"{pattern_of(prefix)}*", f"{pattern_of(prefix)}[0-9]*", f"*{pattern_of(suffix)}"):
            if [name for name in names if fnmatch.fnmatchcase(name, pattern)] == list(chosen):
                return pattern
    return ",".join(map(pattern_of, chosen))


def _shared_suffix(names: Sequence[str]) -> str:
    """Return what all names end with, from a sign on that begins a word."""
    parts = [[name[at:] for at, sign in enumerate(name) if sign in SEPARATORS] for name in names]
    return next((end for end in parts[0] if all(name.endswith(end) for name in names)), "")


def meant(name: str, names: Sequence[str]) -> str:
    """Ask whether a column or an array was meant that has nearly the name that was given, at the end of an error."""
    near = difflib.get_close_matches(name.casefold(), [each.casefold() for each in names], n=1)
    meant = [each for each in names if near and each.casefold() == near[0]]
    return f"; did you mean {meant[0]!r}?" if meant else ""


def note_on(table: str, chosen: Sequence[str], left: Sequence[str], label: str | None, why: str = "") -> str:
    """Name the columns that are taken for classes, and those that are not."""
    shown = [name or "''" for name in chosen]
    if len(shown) > 8:
        shown = [shown[0], shown[1], "...", shown[-1]]
    gap = _gap(chosen)
    return f"{table}: the classes are the {len(chosen)} columns {', '.join(shown)}{why}{gap}{rest_of(left, label)}"


def _gap(chosen: Sequence[str]) -> str:
    """Name a number that is missing among those that columns are named by."""
    known = sorted(numbers_of_classes(chosen, short_names(chosen)))
    if len(known) != len(chosen):
        return ""
    missing = next((n + 1 for n, after in itertools.pairwise(known) if after > n + 1), None)
    return "" if missing is None else f", none of them {missing}"


def rest_of(left: Sequence[str], label: str | None) -> str:
    """Name what else a table has."""
    told = [] if label is None else [f"labels: {label}"]
    if left:
        shown = [name or "''" for name in left]
        told.append(
            "left out: " + ", ".join(shown[:5]) + (f" and {len(shown) - 5} more" if len(shown) > 5 else "")
        )
    return f" ({'; '.join([*told, '--columns names others'])})"
