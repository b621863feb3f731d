"""Run lm-evaluation-harness on logits that were stored: `StoredLogits` is a model of its kind, without a network.

    python examples/lm_eval_stored_logits.py [--out FOLDER]

Logits are kept by a job that has the model, often on another machine; here they are those of a character model for
lines of this project's documentation, `data/docs_logits.npy`. Three tasks are made of the same lines: their bits per
byte, their last words, and multiple-choice questions for the first letter of a word. With `--out` the harness' figures
of each document are written to `samples.json` there.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import tempfile
from pathlib import Path
from typing import Any

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", HF_DATASETS_DISABLE_PROGRESS_BARS="1")

import lm_eval
import numpy as np
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.tasks import TaskManager
from numpy.typing import NDArray

import crossent

DATA = Path(__file__).parent / "data"
ALPHABET = "\n" + "".join(map(chr, range(32, 127)))
CHOICES = "etaoin"


class StoredLogits(LM):  # type: ignore[misc, unused-ignore]
    """A language model that answers requests from a folder of logits.

    `logits.npy` (R, V) and `tokens.npy` (R,) hold the rows of all
    continuations, `ends.npy` where each ends, and `requests.json` the requests.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        logits = np.load(folder / "logits.npy", mmap_mode="r")
        scores = crossent.score(logits, np.load(folder / "tokens.npy"))
        ends = np.load(folder / "ends.npy")
        found = scores.by_sequence(cu_seqlens=[0, *ends])
        requests = json.loads((folder / "requests.json").read_bytes())
        sums, greedy = found.log_likelihood.tolist(), found.is_greedy.tolist()
        answers = zip(sums, greedy, strict=True)
        self.answers = dict(zip(map(tuple, requests), answers, strict=True))

    def loglikelihood(
        self,
        requests: list[Instance],
    ) -> list[tuple[float, bool]]:
        return [self.answers[each.args] for each in requests]

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        return [self.answers["", *request.args][0] for request in requests]

    def generate_until(self, requests: list[Instance]) -> list[str]:
        raise NotImplementedError("stored logits generate no continuation")


class Storage:
    """What the job with the model keeps of each request."""

    def __init__(self) -> None:
        self.logits: list[NDArray[np.float16]] = []
        self.tokens: list[int] = []
        self.ends: list[int] = []
        self.requests: list[tuple[str, str]] = []

    def add(self, context: str, continuation: str, logits: NDArray[np.float16]) -> None:
        """Keep the logits of a continuation, one row for each of its characters."""
        self.logits.append(logits)
        self.tokens += [ALPHABET.index(character) for character in continuation]
        self.ends.append(len(self.tokens))
        self.requests.append((context, continuation))

    def save(self, folder: Path) -> None:
        """Write the files that `StoredLogits` reads."""
        np.save(folder / "logits.npy", np.concatenate(self.logits))
        np.save(folder / "tokens.npy", np.array(self.tokens))
        np.save(folder / "ends.npy", np.array(self.ends))
        (folder / "requests.json").write_text(json.dumps(self.requests), encoding="utf-8")


def store(folder: Path) -> None:
    """Write the documents of the tasks, and the logits of their requests."""
    logits, tokens = np.load(DATA / "docs_logits.npy"), np.load(DATA / "docs_targets.npy")
    text = "".join(ALPHABET[token] for token in tokens)
    storage = Storage()
    documents: dict[str, list[dict[str, Any]]] = {"lines": [], "last_words": [], "letters": []}
    start = 0
    for line in text.splitlines(keepends=True):
        rows, start = logits[start : start + len(line)], start + len(line)
        if len(line) < 20 or ("", line) in storage.requests:
            continue
        documents["lines"].append({"text": line})
        storage.add("", line, rows)
        words = line.rstrip("\n")
        at = words.rindex(" ")  # a continuation begins with its space
        documents["last_words"].append({"context": words[:at], "word": words[at:]})
        storage.add(words[:at], words[at:], rows[at : len(words)])
        for at in range(10, len(words)):
            if line[at - 1] == " " and line[at] in CHOICES:
                documents["letters"].append({"context": line[:at], "answer": CHOICES.index(line[at])})
                for letter in CHOICES:
                    storage.add(line[:at], letter, rows[at : at + 1])
    storage.save(folder)
    for name, lines in documents.items():
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")


def tasks(folder: Path) -> list[dict[str, Any]]:
    """Describe the tasks, as a YAML file of the harness would."""
    described: list[dict[str, Any]] = [
        {"task": "lines", "output_type": "loglikelihood_rolling", "doc_to_text": "", "doc_to_target": "text"},
        {
            "task": "last_words",
            "output_type": "loglikelihood",
            "doc_to_text": "context",
            "doc_to_target": "word",
        },
        {
            "task": "letters",
            "output_type": "multiple_choice",
            "doc_to_text": "context",
            "doc_to_target": "answer",
            "doc_to_choice": list(CHOICES),
        },
    ]
    for task in described:
        files = {"test": str(folder / f"{task['task']}.jsonl")}
        options = {"data_files": files, "cache_dir": str(folder / "cache")}
        task |= {
            "dataset_path": "json",
            "dataset_kwargs": options,
            "test_split": "test",
            "target_delimiter": "",
        }
    return described


def evaluate(folder: Path) -> dict[str, Any]:
    """Have the harness run the tasks on the stored logits."""
    results: dict[str, Any] = lm_eval.simple_evaluate(
        model=StoredLogits(folder),
        tasks=tasks(folder),
        task_manager=TaskManager(include_defaults=False),
        bootstrap_iters=0,
    )
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, help="the folder to write the figures of documents to")
    out = parser.parse_args().out
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        store(Path(folder))
        results = evaluate(Path(folder))
    for task, figures in results["results"].items():
        for name, value in figures.items():
            metric, _, _filter = name.partition(",")
            if isinstance(value, float):
                print(f"{task:11} {metric:16} {value:.6g}")
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "samples.json").write_text(json.dumps(results["samples"]), encoding="utf-8")


if __name__ == "__main__":
    main()
