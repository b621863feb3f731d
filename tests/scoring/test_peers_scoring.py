"""Peers agree: the figures of lm-evaluation-harness and llama.cpp, by their formulas, from the logits that are kept.

`test_report.py` has their formulas over rows, `test_compare.py` llama.cpp's table of two models and `test_log_loss.py`
scikit-learn's own cases. Here are whole evaluations: documents of several lengths, multiple-choice questions, windows.
"""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest

import crossent
from arrays import Array

DATA = Path(__file__).parents[2] / "examples" / "data"


def _kept(name: str) -> tuple[Array, Array]:
    return np.load(DATA / f"{name}_logits.npy"), np.load(DATA / f"{name}_targets.npy").astype(np.int64)


def _log_probs(logits: Array) -> Array:
    """As both peers have them: float32 logits less their log-sum-exp, which is summed in float64."""
    x = logits.astype(np.float64)
    shifted = x - x.max(axis=-1, keepdims=True)
    result: Array = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result


def _own(log_probs: Array, target: Array) -> Array:
    result: Array = np.take_along_axis(log_probs, target[..., np.newaxis], axis=-1)[..., 0]
    return result


# ---- lm-evaluation-harness (lm_eval/api/metrics.py) -----------------------------------------------------


def test_documents_have_the_figures_of_loglikelihood_rolling() -> None:
    logits, target = _kept("docs")
    ends = [0, *(np.flatnonzero(target == 0) + 1).tolist(), len(target)]
    log_probs, greedy = _own(_log_probs(logits), target), logits.argmax(axis=1) == target
    documents = [slice(a, b) for a, b in itertools.pairwise(ends)]
    assert len(documents) > 10
    likelihoods = [sum(log_probs[d].tolist()) for d in documents]
    n_bytes = [d.stop - d.start for d in documents]
    n_words = [int(np.count_nonzero(target[d] <= 1)) for d in documents]

    found = crossent.score(logits, target).by_sequence(cu_seqlens=ends)
    assert found.log_likelihood == pytest.approx(likelihoods, rel=1e-6)
    assert found.is_greedy.tolist() == [bool(greedy[d].all()) for d in documents]

    by_byte, by_word = crossent.Scorer(), crossent.Scorer()
    for d, b, w in zip(documents, n_bytes, n_words, strict=True):
        by_byte.update(logits[d], target[d], units=b)
        by_word.update(logits[d], target[d], units=w)
    # weighted_mean of (log-likelihood, units): bits_per_byte is minus it over ln 2, weighted_perplexity the exp.
    bits = by_byte.result().bits_per_unit
    words = by_word.result().bits_per_unit
    assert bits is not None
    assert words is not None
    assert bits == pytest.approx(-sum(likelihoods) / sum(n_bytes) / math.log(2), rel=1e-8)
    assert 2.0**bits == pytest.approx(math.exp(-sum(likelihoods) / sum(n_bytes)), rel=1e-8)
    assert 2.0**words == pytest.approx(math.exp(-sum(likelihoods) / sum(n_words)), rel=1e-8)


def test_the_perplexity_of_last_words_and_its_error() -> None:
    logits, target = _kept("docs")
    # LAMBADA scores the last token of each passage: perplexity is exp(-mean), its values have mean_stderr.
    windows = logits[:1488].reshape(-1, 12, 97), target[:1488].reshape(-1, 12)
    last = np.broadcast_to(np.arange(12) == 11, windows[1].shape)
    scorer = crossent.Scorer()
    scorer.update(*windows, where=last)
    report = scorer.result()
    items = _own(_log_probs(windows[0]), windows[1])[:, -1].tolist()
    mean = sum(items) / len(items)
    sample_stddev = math.sqrt(sum((v - mean) ** 2 for v in items) / (len(items) - 1))
    assert report.count == len(items) == 124
    assert report.perplexity == pytest.approx(math.exp(-mean), rel=1e-8)
    assert report.standard_error == pytest.approx(sample_stddev / math.sqrt(len(items)), rel=1e-8)
    assert report.accuracy == np.mean(windows[0][:, -1].argmax(-1) == windows[1][:, -1])


def test_multiple_choice_questions_are_answered_the_same() -> None:
    rng = np.random.default_rng(0)
    logits, target = _kept("docs")
    length, context, choices = 16, 6, 4
    passages, tokens = logits[:1488].reshape(-1, length, 97), target[:1488].reshape(-1, length)
    right = rng.integers(choices, size=len(tokens))
    answers = rng.integers(97, size=(len(tokens), choices, length - context))
    answers[np.arange(len(tokens)), right] = tokens[:, context:]
    # Wrong answers that are close: the right one with a few letters changed.
    few = rng.random(answers.shape) < 0.8
    answers = np.where(few, tokens[:, np.newaxis, context:], answers)
    sizes = rng.integers(2, length - context + 1, (len(tokens), choices))

    asked = np.repeat(passages[:, np.newaxis], choices, axis=1)
    given = np.concatenate([np.repeat(tokens[:, np.newaxis, :context], choices, axis=1), answers], axis=-1)
    at = np.arange(length)
    where = (at >= context) & (at < context + sizes[..., np.newaxis])
    found = crossent.score(asked, given, where=where).by_sequence()

    all_log_probs, greedy = _log_probs(passages), passages.argmax(axis=-1)
    expected, is_greedy = np.zeros(sizes.shape), np.zeros(sizes.shape, dtype=bool)
    for q, c in np.ndindex(*sizes.shape):
        part = slice(context, context + sizes[q, c])
        continuation = answers[q, c, : sizes[q, c]]
        expected[q, c] = all_log_probs[q, part][np.arange(sizes[q, c]), continuation].sum()
        is_greedy[q, c] = (greedy[q, part] == continuation).all()
    np.testing.assert_allclose(found.log_likelihood, expected, rtol=1e-6)
    np.testing.assert_array_equal(found.is_greedy, is_greedy)
    np.testing.assert_array_equal(found.count, sizes)
    assert is_greedy.any()
    # acc takes the largest log-likelihood, acc_norm the largest for each byte.
    acc, acc_norm = expected.argmax(1) == right, (expected / sizes).argmax(1) == right
    np.testing.assert_array_equal(found.log_likelihood.argmax(1) == right, acc)
    np.testing.assert_array_equal((found.log_likelihood / found.count).argmax(1) == right, acc_norm)
    assert 0 < acc.mean() < 1
    assert not np.array_equal(acc, acc_norm)


def test_the_brier_score_of_answers() -> None:
    logits, target = _kept("digits")
    p = np.exp(_log_probs(logits))
    expected = np.mean(np.sum((p - np.eye(10)[target]) ** 2, axis=1))
    scorer = crossent.Scorer()
    scorer.update(logits, target)
    assert scorer.result().brier_score == pytest.approx(expected, rel=1e-8)


# ---- llama.cpp (tools/perplexity) -----------------------------------------------------------------------


@pytest.mark.parametrize("n_ctx", [32, 100, 250])
def test_the_perplexity_of_windows_is_llama_cpps(n_ctx: int) -> None:
    logits, target = _kept("docs")
    tokens = np.concatenate(
        ([0], target)
    )  # the kept logits of a row are for its own target, not for the next
    chunks = len(logits) // n_ctx
    x = logits[: chunks * n_ctx].reshape(chunks, n_ctx, 97).astype(np.float32)
    t = tokens[: chunks * n_ctx].reshape(chunks, n_ctx)
    # Each window: the logits at first = n_ctx / 2 to n_ctx - 2 against the tokens after them.
    first, count, nll, nll2 = n_ctx // 2, 0, 0.0, 0.0
    for chunk in range(chunks):
        for i in range(first, n_ctx - 1):
            row = x[chunk, i].astype(np.float64)
            largest = row.max()
            v = -(row[t[chunk, i + 1]] - largest - math.log(np.exp(row - largest).sum()))
            nll, nll2, count = nll + v, nll2 + v * v, count + 1
    mean, mean2 = nll / count, nll2 / count - (nll / count) ** 2
    perplexity, error = math.exp(mean), math.sqrt(mean2 / (count - 1))

    scorer = crossent.Scorer()
    later = np.broadcast_to(np.arange(n_ctx) > first, t.shape)  # `where` goes with the targets
    for chunk in range(chunks):
        scorer.update(x[chunk], t[chunk], where=later[chunk], shift=1)
    report = scorer.result()
    assert report.count == count == chunks * (n_ctx - 1 - first)
    assert report.perplexity == pytest.approx(perplexity, rel=1e-8)
    # "Final estimate: PPL = ... +/- ...": the perplexity times the error of the mean.
    assert report.perplexity * report.standard_error == pytest.approx(error * perplexity, rel=1e-8)


# ---- transformers ---------------------------------------------------------------------------------------


def test_the_loss_of_a_causal_language_model_is_that_of_transformers() -> None:
    torch = pytest.importorskip("torch")
    logits, target = _kept("docs")
    tokens = np.concatenate(([0], target))
    x, t = logits[:1400].reshape(14, 100, 97).astype(np.float32), tokens[:1400].reshape(14, 100).copy()
    t[3, 60:] = -100
    # ForCausalLMLoss: float32 logits, labels padded by one and shifted, the mean over what is not -100.
    labels = torch.nn.functional.pad(torch.from_numpy(t), (0, 1), value=-100)[..., 1:]
    expected = torch.nn.functional.cross_entropy(
        torch.from_numpy(x).reshape(-1, 97), labels.reshape(-1), ignore_index=-100
    )
    scorer = crossent.Scorer()
    scorer.update(x, t, shift=1)
    assert scorer.result().mean == pytest.approx(float(expected), rel=1e-6)
    assert crossent.score(x, t, shift=1).mean == pytest.approx(float(expected), rel=1e-6)
