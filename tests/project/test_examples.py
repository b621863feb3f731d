"""The examples run, learn something, and give the same result twice; the data that is kept scores as expected.

Those that use gradients are held to optima that others find: scikit-learn's, SciPy's without a gradient, torch's.
"""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import io
import json
import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import programs
from arrays import Array
from crossent import _cli as cli

EXAMPLES = Path(__file__).parents[2] / "examples"
MAX_FILE_BYTES = 300_000


def run(script: str, *arguments: str | Path) -> str:
    """Run a script as if from the command line, in this process, which has loaded torch and scikit-learn once."""
    path = str(EXAMPLES / script)
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as printed:
        patch.setattr(sys, "argv", [path, *map(str, arguments)])
        runpy.run_path(path, run_name="__main__")
    return printed.getvalue()


def run_alone(script: str, *arguments: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a script in a process of its own."""
    command = [sys.executable, str(EXAMPLES / script), *map(str, arguments)]
    done = subprocess.run(command, text=True, capture_output=True, check=False, timeout=600)
    assert done.returncode == code, done.stderr
    return done


def load(script: str) -> ModuleType:
    """Import an example, without running its `main`."""
    return programs.load(EXAMPLES / script)


def number(printed: str, pattern: str) -> float:
    """Give the number that follows `pattern` in what a script printed."""
    found = re.search(rf"{pattern} (-?[\d.e+-]+\d)", printed)
    assert found is not None, printed
    return float(found[1])


def mean_nll(logits: Array, targets: Array) -> float:
    """The loss by SciPy, in float64."""
    log_p = pytest.importorskip("scipy.special").log_softmax(logits.astype(np.float64), axis=1)
    return -float(log_p[np.arange(len(targets)), targets].mean())


def assert_gradient(objective: Callable[..., tuple[float, Any]], at: Array, *data: object) -> None:
    """Compare the gradient with central differences, along directions drawn by chance."""
    gradient = np.atleast_1d(objective(at, *data)[1])
    rng = np.random.default_rng(0)
    for _ in range(5):
        step = 1e-5 * rng.standard_normal(at.shape)
        difference = (objective(at + step, *data)[0] - objective(at - step, *data)[0]) / 2
        assert gradient @ step == pytest.approx(difference, rel=1e-6)


def score(capsys: pytest.CaptureFixture[str], folder: Path, name: str) -> dict[str, float]:
    files = [folder / f"{name}_{part}.npy" for part in ("logits", "targets")]
    assert all(file.stat().st_size <= MAX_FILE_BYTES for file in files)
    assert cli.main(["score", *map(str, files), "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert isinstance(content, dict)
    return content


def assert_same_files(one: Path, other: Path, names: set[str]) -> None:
    assert {file.name for file in one.iterdir()} == names
    for name in names:
        assert (one / name).read_bytes() == (other / name).read_bytes()


def assert_product_of_the_files(folder: Path) -> None:
    """Hold the logits that are kept to the product of the hidden states and the output matrix that are kept.

    The hidden states, from -1 to 1, are rounded to float16 too: by up to 2^-12 each, and the rounding errors of a row
    are as good as independent.
    """
    logits, hidden, head, bias = (
        np.load(folder / f"docs_{part}.npy") for part in ("logits", "hidden", "head", "head_bias")
    )
    product = hidden.astype(np.float64) @ head.T.astype(np.float64) + bias
    rounding = np.spacing(np.abs(logits)).astype(np.float64) / 2
    from_hidden = 2.0**-12 * np.sqrt((head.astype(np.float64) ** 2).sum(axis=1))
    assert hidden.dtype == np.float16
    assert head.shape == (logits.shape[1], hidden.shape[1])
    assert (np.abs(product - logits) <= 1.01 * rounding + 4 * from_hidden).all()


def test_train_digits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn")
    for folder in ("one", "other"):
        printed = run("train_digits.py", "--steps", "60", "--out", tmp_path / folder)
    content = score(capsys, tmp_path / "one", "digits")
    assert content["count"] == 450
    assert content["accuracy"] > 0.9
    assert f"loss {content['mean']:.4f} nats" in printed
    assert_same_files(tmp_path / "one", tmp_path / "other", {"digits_logits.npy", "digits_targets.npy"})


def test_segment_ink(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn")
    printed = run("segment_ink.py", "--out", tmp_path)
    for name in ("ink_logits.npy", "ink_targets.npy"):
        np.testing.assert_allclose(np.load(tmp_path / name), np.load(EXAMPLES / "data" / name), rtol=1e-6)
    names = [str(tmp_path / f"ink_{part}.npy") for part in ("logits", "targets")]
    assert cli.main(["score", *names, "--axis", "1", "--ignore-index", "255", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert (content["count"], content["ignored"]) == (7200, 5600)
    assert f"pixel {content['mean']:.4f} nats" in printed


def test_train_charlm(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = tmp_path / "text.md"
    text.write_text("The quick brown fox jumps over the lazy dog — again.\n" * 200, encoding="utf-8")
    for folder in ("one", "other"):
        arguments = ("--steps", "30", "--out", tmp_path / folder, "--text", text)
        printed = run_alone("train_charlm.py", *arguments).stdout
    content = score(capsys, tmp_path / "one", "docs")
    assert content["count"] > 500
    assert content["perplexity"] < 3  # one sentence over and over; 97 classes
    assert f"{content['mean']:.4f} nats each" in printed
    names = {f"docs_{part}.npy" for part in ("logits", "targets", "hidden", "head", "head_bias")}
    assert_same_files(tmp_path / "one", tmp_path / "other", names)
    assert_product_of_the_files(tmp_path / "one")


def test_train_charlm_reads_the_documentation(tmp_path: Path) -> None:
    printed = run_alone("train_charlm.py", "--steps", "2", "--out", tmp_path).stdout
    characters = int(printed.split(maxsplit=1)[0])
    assert characters > 10_000


def test_train_charlm_needs_text(tmp_path: Path) -> None:
    (tmp_path / "short.md").write_text("short")
    done = run_alone("train_charlm.py", "--text", tmp_path / "short.md", code=2)
    assert "too few to learn from" in done.stderr


def test_kept_logits_are_the_product_of_the_kept_hidden_states_and_head() -> None:
    assert_product_of_the_files(EXAMPLES / "data")


def test_the_kept_hidden_states_give_the_report_of_the_kept_logits(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The logits are rounded to float16, by up to 0.004, and so are the hidden states: means move by less than 1e-3.

    Two rows in 1500 have their two largest logits within the rounding, and predict another class.
    """
    of_logits = score(capsys, EXAMPLES / "data", "docs")
    files = {
        part: str(EXAMPLES / "data" / f"docs_{part}.npy")
        for part in ("hidden", "targets", "head", "head_bias")
    }
    command = [
        "score",
        files["hidden"],
        files["targets"],
        "--head",
        files["head"],
        "--head-bias",
        files["head_bias"],
    ]
    assert cli.main([*command, "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert (content["count"], content["ignored"]) == (1500, 0)
    assert abs(content["accuracy"] - of_logits["accuracy"]) <= 2 / 1500
    for name in ("mean", "mean_entropy", "brier_score", "mean_reciprocal_rank"):
        assert content[name] == pytest.approx(of_logits[name], abs=1e-3)
    assert content["mean"] == pytest.approx(of_logits["mean"], abs=1e-4)


@pytest.mark.parametrize(
    ("name", "rows", "accuracy", "perplexity"),
    [("digits", 450, (0.95, 0.99), (1.1, 1.3)), ("docs", 1500, (0.25, 0.75), (3, 15))],
)
def test_kept_data(
    capsys: pytest.CaptureFixture[str],
    name: str,
    rows: int,
    accuracy: tuple[float, float],
    perplexity: tuple[float, float],
) -> None:
    content = score(capsys, EXAMPLES / "data", name)
    assert (content["count"], content["ignored"]) == (rows, 0)
    assert accuracy[0] < content["accuracy"] < accuracy[1]
    assert perplexity[0] < content["perplexity"] < perplexity[1]
    logits = np.load(EXAMPLES / "data" / f"{name}_logits.npy")
    targets = np.load(EXAMPLES / "data" / f"{name}_targets.npy")
    rowwise = logits.astype(np.float64)
    nll = np.log(np.exp(rowwise).sum(axis=1)) - rowwise[np.arange(rows), targets]
    assert content["mean"] == pytest.approx(nll.mean(), rel=1e-6)


# ---- examples that use the gradients ---------------------------------------------------------------------


def test_softmax_regression(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("scipy")
    pytest.importorskip("sklearn")
    for folder in ("one", "other"):
        printed = run("softmax_regression.py", "--out", tmp_path / folder)
    content = score(capsys, tmp_path / "one", "digits")
    assert content["count"] == 450
    assert content["accuracy"] > 0.95
    assert f"test set: loss {content['mean']:.4f} nats, accuracy {content['accuracy']:.4f}" in printed
    assert_same_files(tmp_path / "one", tmp_path / "other", {"digits_logits.npy", "digits_targets.npy"})


def test_softmax_regression_keeps_nothing_unasked() -> None:
    pytest.importorskip("scipy")
    pytest.importorskip("sklearn")
    assert "wrote" not in run("softmax_regression.py", "--deviation", "0.1")


def test_the_gradient_of_softmax_regression() -> None:
    pytest.importorskip("scipy")
    pytest.importorskip("sklearn")
    module = load("softmax_regression.py")
    rng = np.random.default_rng(1)
    pixels, labels = rng.random((30, 7)), rng.integers(0, 10, 30)
    at = rng.standard_normal(80)
    assert_gradient(module.objective, at, pixels, labels, 0.5)
    weights, biases = at[:70].reshape(7, 10), at[70:]
    minus_log_prior = np.sum(weights**2) / (2 * 0.5**2)
    value, _ = module.objective(at, pixels, labels, 0.5)
    assert value == pytest.approx(
        mean_nll(pixels @ weights + biases, labels) + minus_log_prior / 30, rel=1e-12
    )


@pytest.mark.parametrize("deviation", [0.3, 1.0, 3.0])
def test_softmax_regression_ends_where_scikit_learn_does(deviation: float) -> None:
    pytest.importorskip("scipy")
    linear_model = pytest.importorskip("sklearn.linear_model")
    threadpoolctl = pytest.importorskip("threadpoolctl")
    module = load("softmax_regression.py")
    train_x, test_x, train_y, test_y = module.load()
    weights, biases = module.fit(train_x, train_y, deviation)
    with threadpoolctl.threadpool_limits(1, user_api="blas"):
        peer = linear_model.LogisticRegression(C=deviation**2, tol=1e-8, max_iter=10_000)
        peer.fit(train_x, train_y)

    def minus_log_posterior(weights: Array, biases: Array) -> float:
        prior = np.sum(weights**2) / (2 * deviation**2 * len(train_y))
        return mean_nll(train_x @ weights + biases, train_y) + float(prior)

    least = minus_log_posterior(peer.coef_.T, peer.intercept_)
    assert minus_log_posterior(weights, biases) == pytest.approx(least, rel=1e-7)
    peer_loss = mean_nll(test_x @ peer.coef_.T + peer.intercept_, test_y)
    assert mean_nll(test_x @ weights + biases, test_y) == pytest.approx(peer_loss, rel=1e-3)


def test_temperature_scaling() -> None:
    optimize = pytest.importorskip("scipy.optimize")
    printed = run("temperature_scaling.py")
    assert run("temperature_scaling.py") == printed
    module = load("temperature_scaling.py")
    logits = np.load(EXAMPLES / "data" / "digits_logits.npy").astype(np.float64)
    targets = np.load(EXAMPLES / "data" / "digits_targets.npy")
    logits, targets, test_logits, test_targets = module.halves(logits, targets)
    assert len(targets) == len(test_targets) == 225

    def loss(temperature: float) -> float:
        return mean_nll(logits / temperature, targets)

    best = optimize.minimize_scalar(loss, bounds=(0.01, 100), method="bounded", options={"xatol": 1e-9}).x
    assert module.fit(logits, targets) == pytest.approx(best, rel=1e-5)
    assert best < 0.9  # the weight decay that the logits were made with left them unsure
    before, after = mean_nll(test_logits, test_targets), mean_nll(test_logits / best, test_targets)
    assert after < before
    assert number(printed, "temperature") == pytest.approx(best, abs=1e-4)
    assert f"loss {before:.4f} nats before, {after:.4f} nats after" in printed


def test_the_gradient_of_temperature_scaling() -> None:
    pytest.importorskip("scipy")
    module = load("temperature_scaling.py")
    rng = np.random.default_rng(2)
    logits, targets = 3 * rng.standard_normal((40, 6)), rng.integers(0, 6, 40)
    for log_temperature in (-0.7, 0.0, 1.2):
        assert_gradient(module.objective, np.array([log_temperature]), logits, targets)
    value, _ = module.objective(np.array([1.2]), logits, targets)
    assert value == pytest.approx(mean_nll(logits / np.exp(1.2), targets), rel=1e-12)


def test_a_fit_with_a_wide_prior_needs_a_high_temperature(tmp_path: Path) -> None:
    pytest.importorskip("scipy")
    pytest.importorskip("sklearn")
    run("softmax_regression.py", "--deviation", "100", "--out", tmp_path)
    printed = run("temperature_scaling.py", "--data", tmp_path)
    assert number(printed, "temperature") > 2
    before, after = re.findall(r"([\d.]+) nats", printed)
    assert float(after) < 0.7 * float(before)


@pytest.mark.parametrize("script", ["torch_training.py", "jax_loss.py"])
def test_training_in_another_library(script: str) -> None:
    library = pytest.importorskip(script.partition("_")[0])
    pytest.importorskip("sklearn")
    if library.__name__ == "torch":
        library.set_num_threads(1)  # threads of torch spin while they wait, and the model is small
    header, *steps, last = run(script, "--steps", "20").splitlines()
    assert header.split() == ["step", "crossent", library.__name__]
    losses = np.array([line.split() for line in steps], dtype=np.float64)
    np.testing.assert_array_equal(losses[:, 0], [0, 4, 8, 12, 16])
    np.testing.assert_allclose(losses[:, 1], losses[:, 2], rtol=1e-5)
    assert (np.diff(losses[:, 1]) < 0).all()
    assert number(last, "largest difference between two parameters:") < 1e-5


def test_training_in_torch_with_bfloat16() -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("sklearn")
    torch.set_num_threads(1)
    module = load("torch_training.py")
    ours, _ = module.train(module.CrossEntropyLoss(), 30, bfloat16=True)
    theirs, _ = module.train(torch.nn.CrossEntropyLoss(), 30, bfloat16=True)
    assert ours[-1] < 0.5 * ours[0]
    np.testing.assert_allclose(ours, theirs, rtol=0.03)  # torch's are rounded to eight bits


def test_the_jax_loss() -> None:
    """Values and gradients are those of JAX: eager, compiled, mapped over any axis, and in half precision."""
    jax = pytest.importorskip("jax")
    pytest.importorskip("sklearn")
    jnp, module = jax.numpy, load("jax_loss.py")
    x = jax.random.normal(jax.random.key(0), (3, 6, 4)) * 3
    target = jax.random.randint(jax.random.key(1), (3, 6), 0, 4)
    upstream = jax.random.normal(jax.random.key(2), (3, 6))

    def close(ours: Any, theirs: Any, rtol: float = 1e-5) -> None:
        np.testing.assert_allclose(np.asarray(ours, np.float32), np.asarray(theirs, np.float32), rtol, rtol)

    for dtype in (jnp.float32, jnp.bfloat16, jnp.float16):
        given = x.astype(dtype)
        assert module.cross_entropy(given, target).dtype == jnp.float32
        found = []
        for loss in (module.cross_entropy, module.reference):
            wide = given if loss is module.cross_entropy else given.astype(jnp.float32)
            gradient = jax.grad(lambda x, t, g, f=loss: (f(x, t) * g).sum())
            # Mapped over the middle axis of the logits, which is the last of the targets.
            mapped = jax.jit(jax.vmap(gradient, in_axes=1, out_axes=1))
            one = jax.vmap(jax.vmap(loss, (0, None)), (0, None))(wide[:, :2], target[0, 0])
            found.append(
                [
                    jax.jit(loss)(wide, target),
                    gradient(wide, target, upstream),
                    mapped(wide, target, upstream),
                    one,
                ]
            )
        assert found[0][1].dtype == found[0][2].dtype == dtype
        for ours, theirs in zip(*found, strict=True):
            close(ours, theirs, 1e-5 if dtype == jnp.float32 else 2.0**-8)

    def with_another_term(x: Any) -> Any:
        return module.cross_entropy(x, target).mean() + (x**3).sum()

    for second in (jax.hessian(with_another_term), jax.jacrev(jax.grad(with_another_term))):
        with pytest.raises(ValueError, match="Pure callbacks do not support JVP"):
            second(x)
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jacfwd(with_another_term)(x)
    with pytest.raises(RuntimeError, match=r"Target 9 is out of bounds"):
        module.cross_entropy(x, target.at[0, 1].set(9)).block_until_ready()


def test_the_guide_shows_the_jax_loss() -> None:
    guide = (EXAMPLES.parent / "docs" / "guides" / "torch_and_jax.md").read_text(encoding="utf-8")
    code = (EXAMPLES / "jax_loss.py").read_text(encoding="utf-8")
    recipe = code[code.index("@jax.custom_vjp") : code.index("def reference(")].strip()
    assert f"\n{recipe}\n```\n" in guide


@pytest.mark.parametrize("processes", [1, 3])
def test_a_vocabulary_on_several_processes_trains_as_a_whole_one(processes: int) -> None:
    printed = run_alone("vocabulary_shards.py", "--processes", str(processes), "--steps", "5").stdout
    assert printed.count("of the whole matrix") == 2
    for ours, whole in re.findall(r"loss ([\d.]+), of the whole matrix ([\d.]+)", printed):
        assert ours == whole
    assert number(printed, "difference of the matrices:") < 1e-12


# ---- lm-evaluation-harness ------------------------------------------------------------------------------


LM_EVAL_DOCUMENTS = {"lines": 14, "last_words": 14, "letters": 105}


def test_the_harness_runs_on_stored_logits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for library in ("lm_eval", "datasets"):
        if importlib.util.find_spec(library) is None:  # an import would take seconds, and much memory
            pytest.skip(f"could not import {library}")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    printed = run_alone("lm_eval_stored_logits.py", "--out", tmp_path).stdout
    samples = json.loads((tmp_path / "samples.json").read_text(encoding="utf-8"))
    assert {name: len(documents) for name, documents in samples.items()} == LM_EVAL_DOCUMENTS

    # Each figure of each document by its definition, in float64, from the logits that are kept.
    logits = np.load(EXAMPLES / "data" / "docs_logits.npy").astype(np.float64)
    alphabet = "\n" + "".join(map(chr, range(32, 127)))
    text = "".join(alphabet[token] for token in np.load(EXAMPLES / "data" / "docs_targets.npy"))
    log_probs = logits - logits.max(axis=1, keepdims=True)
    log_probs -= np.log(np.exp(log_probs).sum(axis=1, keepdims=True))

    def place(line: str) -> int:
        """Find where the text has a line, or the beginning of one."""
        return 0 if text.startswith(line) else text.index(f"\n{line}") + 1

    def answer(context: str, continuation: str) -> tuple[float, bool]:
        at = place(context) + len(context)
        rows, tokens = np.arange(at, at + len(continuation)), [alphabet.index(c) for c in continuation]
        greedy = bool((logits[rows].argmax(axis=1) == tokens).all())
        return float(log_probs[rows, tokens].sum()), greedy

    likelihoods = []
    for sample in samples["lines"]:
        line = sample["doc"]["text"]
        rows, tokens = place(line) + np.arange(len(line)), [alphabet.index(c) for c in line]
        likelihoods.append(float(log_probs[rows, tokens].sum()))
        for metric, units in (
            ("bits_per_byte", len(line.encode())),
            ("byte_perplexity", len(line.encode())),
            ("word_perplexity", len(re.split(r"\s+", line))),
        ):
            assert sample[metric] == [pytest.approx(likelihoods[-1], rel=1e-6), units]
    n_bytes = sum(len(sample["doc"]["text"].encode()) for sample in samples["lines"])
    bits = -sum(likelihoods) / n_bytes / np.log(2)
    assert number(printed, r"lines +bits_per_byte +") == pytest.approx(bits, rel=1e-5)

    words = [answer(sample["doc"]["context"], sample["doc"]["word"]) for sample in samples["last_words"]]
    for sample, (likelihood, greedy) in zip(samples["last_words"], words, strict=True):
        assert sample["perplexity"] == pytest.approx(likelihood, rel=1e-6)
        assert sample["acc"] == greedy
    assert {greedy for _, greedy in words} == {True, False}
    perplexity = np.exp(-np.mean([likelihood for likelihood, _ in words]))
    assert number(printed, r"last_words +perplexity +") == pytest.approx(perplexity, rel=1e-5)

    right = 0
    for sample in samples["letters"]:
        found = [likelihood for ((likelihood, _),) in sample["resps"]]
        expected = [answer(sample["doc"]["context"], letter)[0] for letter in "etaoin"]
        assert found == pytest.approx(expected, rel=1e-6)
        assert sample["acc"] == (int(np.argmax(expected)) == sample["doc"]["answer"])
        right += int(sample["acc"])
    assert 0 < right < len(samples["letters"])
    assert number(printed, r"letters +acc +") == pytest.approx(right / len(samples["letters"]), rel=1e-5)


def test_the_model_of_stored_logits_is_short() -> None:
    tree = ast.parse((EXAMPLES / "lm_eval_stored_logits.py").read_text(encoding="utf-8"))
    (model,) = (node for node in tree.body if getattr(node, "name", "") == "StoredLogits")
    assert model.end_lineno is not None
    assert model.end_lineno - model.lineno + 1 <= 30
