"""`--head`: hidden states and an output matrix give the figures of the logits that are their product, bit for bit."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

import crossent
from blas import needs_equal_rows
from crossent import _cli as cli
from crossent._io import Head, open_hidden
from steps import before_block, blocks_of
from test_cli import Array, error, interrupt, posix
from test_cli_memory import run as run_watched
from test_cli_memory import sparse
from test_cli_resume import stop_after

Capture = pytest.CaptureFixture[str]

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
ROWS, WIDTH, CLASSES = 1000, 40, 333


class Model:
    """Hidden states, an output matrix, its bias and targets, as arrays and as files."""

    def __init__(self, folder: Path) -> None:
        rng = np.random.default_rng(11)
        self.folder = folder
        self.hidden = rng.normal(size=(ROWS, WIDTH)).astype(np.float32)
        self.weight = (rng.normal(size=(CLASSES, WIDTH)) / 3).astype(np.float32)
        self.bias = rng.normal(size=CLASSES).astype(np.float32)
        logits = self.hidden @ self.weight.T + self.bias
        self.target = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
        self.target[::9] = -100
        names = ("hidden", "weight", "bias", "target")
        self.files = {name: self.save(name, getattr(self, name)) for name in names}

    def save(self, name: str, array: Array) -> str:
        path = self.folder / f"{name}.npy"
        np.save(path, array)
        return str(path)

    def logits(self, **options: Any) -> Array:
        """The product, which the library makes."""
        return np.asarray(crossent.LinearLogits(self.hidden, self.weight, self.bias, **options))

    def score(self, *more: str, hidden: str | None = None, head: str | None = None, code: int = 0) -> None:
        files = self.files
        arguments = [hidden or files["hidden"], files["target"], "--head", head or files["weight"]]
        assert cli.main(["score", *arguments, "--head-bias", files["bias"], *more]) == code


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return Model(tmp_path)


def shown(capsys: Capture) -> dict[str, Any]:
    content = json.loads(capsys.readouterr().out)
    assert isinstance(content, dict)
    return content


def figures(content: dict[str, Any]) -> dict[str, Any]:
    """What a run found out, without where it is from."""
    own = {
        "logits", "hidden", "targets", "inputs", "format", "dtype", "files", "reference", "other", "reference_head",
        "other_head", "hidden_size", "hidden_dtype", "head", "head_dtype", "head_bias", "softcap", "scale",
    }  # fmt: skip
    return {name: value for name, value in content.items() if name not in own}


def of_logits(capsys: Capture, folder: Path, logits: Array, target: Array) -> dict[str, Any]:
    """The figures of the logits in a file of their own."""
    files = [str(folder / f"plain-{name}.npy") for name in ("logits", "targets")]
    for file, array in zip(files, (logits, target), strict=True):
        np.save(file, array)
    assert cli.main(["score", *files, "--json"]) == 0
    return figures(shown(capsys))


# ---- score ----------------------------------------------------------------------------------------------------


@needs_equal_rows
@pytest.mark.parametrize("memory", ["64M", "300K", "1", "2G"])
def test_the_figures_of_the_logits(model: Model, capsys: Capture, memory: str) -> None:
    expected = of_logits(capsys, model.folder, model.logits(), model.target)
    model.score("--json", "--memory", memory)
    content = shown(capsys)
    assert figures(content) == expected
    assert content["count"] == 888
    files = model.files
    told = {
        "hidden": files["hidden"], "targets": files["target"], "format": "npy", "dtype": "float32",
        "shape": [ROWS, CLASSES], "axis": 1, "values": "logits", "hidden_size": WIDTH, "hidden_dtype": "float32",
        "head": files["weight"], "head_dtype": "float32", "head_bias": files["bias"], "softcap": None, "scale": 1.0,
    }  # fmt: skip
    assert {name: content[name] for name in told} == told
    assert "logits" not in content
    inputs = [(told["argument"], told["name"]) for told in content["inputs"]]
    assert inputs == [
        ("hidden", files["hidden"]),
        ("--head", files["weight"]),
        ("--head-bias", files["bias"]),
        ("targets", files["target"]),
    ]


@needs_equal_rows
def test_softcap_and_scale(model: Model, capsys: Capture) -> None:
    logits = model.logits(softcap=5.0, scale=0.25)
    assert np.abs(logits).max() < 5
    expected = of_logits(capsys, model.folder, logits, model.target)
    model.score("--json", "--softcap", "5", "--scale", ".25")
    content = shown(capsys)
    assert figures(content) == expected
    assert (content["softcap"], content["scale"]) == (5.0, 0.25)


Writer = Callable[[Path, Array], list[str]]


def npy(folder: Path, array: Array) -> list[str]:
    np.save(folder / "w.npy", array)
    typed = ["--dtype", "bf16"] if array.dtype == BFLOAT16 else []
    return [str(folder / "w.npy"), *typed]


def fortran(folder: Path, array: Array) -> list[str]:
    return npy(folder, np.asfortranarray(array))


def swapped(folder: Path, array: Array) -> list[str]:
    return npy(folder, array.astype(array.dtype.newbyteorder(">")))


def npz(folder: Path, array: Array) -> list[str]:
    np.savez(folder / "w.npz", names=np.zeros(3, "S1"), w=array)
    typed = ["--dtype", "bf16"] if array.dtype == BFLOAT16 else []
    return [str(folder / "w.npz"), *typed]


def compressed(folder: Path, array: Array) -> list[str]:
    np.savez_compressed(folder / "w.npz", w=array, other=array[:2], ids=np.arange(4))
    typed = ["--dtype", "bf16"] if array.dtype == BFLOAT16 else []
    return [f"{folder / 'w.npz'}:w", *typed]


def tensors(folder: Path, array: Array) -> list[str]:
    whole = {"a": array[:3].copy(), "lm_head.weight": np.ascontiguousarray(array)}
    safetensors.numpy.save_file(whole, folder / "w.safetensors")
    return [f"{folder / 'w.safetensors'}:lm_head.weight"]


WRITERS: list[Writer] = [npy, fortran, swapped, npz, compressed, tensors]
KINDS = [
    pytest.param(write, dtype, id=f"{write.__name__}-{dtype}")
    for write in WRITERS
    for dtype in ("float16", "bfloat16", "float32", "float64")
    if write is not swapped or dtype != "bfloat16"  # NumPy has no bfloat16 of the other byte order
]


@needs_equal_rows
@pytest.mark.parametrize(("write", "dtype"), KINDS)
def test_an_output_matrix_of_any_kind(model: Model, capsys: Capture, write: Writer, dtype: str) -> None:
    weight = model.weight.astype(BFLOAT16 if dtype == "bfloat16" else dtype)
    logits = np.asarray(crossent.LinearLogits(model.hidden, weight, model.bias))
    assert logits.dtype == ("float64" if dtype == "float64" else "float32")
    expected = of_logits(capsys, model.folder, logits, model.target)
    head, *typed = write(model.folder, weight)
    for memory in ("64M", "300K"):
        if memory == "300K" and write is compressed:
            continue
        model.score("--json", "--memory", memory, *typed, head=head)
        content = shown(capsys)
        assert figures(content) == expected
        assert content["head_dtype"] == (f">f{weight.dtype.itemsize}" if write is swapped else dtype)


@needs_equal_rows
@pytest.mark.parametrize(("write", "dtype"), KINDS)
def test_hidden_states_of_any_kind(model: Model, capsys: Capture, write: Writer, dtype: str) -> None:
    hidden = model.hidden.astype(BFLOAT16 if dtype == "bfloat16" else dtype)
    logits = np.asarray(crossent.LinearLogits(hidden, model.weight, model.bias))
    expected = of_logits(capsys, model.folder, logits, model.target)
    file, *typed = write(model.folder, hidden)
    for memory in ("64M", "300K"):
        model.score("--json", "--memory", memory, *typed, hidden=file)
        assert figures(shown(capsys)) == expected


def test_raw_hidden_states_have_the_width_of_the_output_matrix(model: Model, capsys: Capture) -> None:
    model.score("--json")
    expected = figures(shown(capsys))
    for name, typed in (("x.bin", ["--dtype", "f32"]), ("x.f32", [])):
        model.hidden.tofile(model.folder / name)
        model.score("--json", *typed, "--classes", str(CLASSES), hidden=str(model.folder / name))
        assert figures(shown(capsys)) == expected
    model.score(hidden=str(model.folder / "x.bin"), code=2)
    assert "if it holds raw hidden states, row after row, pass --dtype (such as f16)" in error(capsys)
    (model.folder / "x.f32").write_bytes(b"\1\2\3\4" * 41)
    model.score(hidden=str(model.folder / "x.f32"), code=1)
    assert "1 rows of 40 float32, 160 bytes each, and 4 bytes more; it is truncated" in error(capsys)


@needs_equal_rows
def test_hidden_states_in_several_files_and_axes(model: Model, capsys: Capture) -> None:
    model.score("--json")
    expected = figures(shown(capsys))
    for number, at in enumerate(range(0, ROWS, 90)):
        np.save(model.folder / f"part-{number}.npy", model.hidden[at : at + 90])
    for memory in ("64M", "300K"):
        model.score("--json", "--memory", memory, hidden=str(model.folder / "part-*.npy"))
        assert figures(shown(capsys)) == expected
    np.save(model.folder / "part-3.npy", model.hidden[:90].astype(np.float64))
    model.score(hidden=str(model.folder / "part-*.npy"), code=1)
    assert "files that are read as one array have one dtype" in error(capsys)

    files = (
        model.save("texts", model.hidden.reshape(8, 125, WIDTH)),
        model.save("t", model.target.reshape(8, 125)),
    )
    heads = ["--head", model.files["weight"], "--head-bias", model.files["bias"]]
    for memory in ("64M", "300K"):
        assert cli.main(["score", *files, *heads, "--json", "--memory", memory]) == 0
        content = shown(capsys)
        assert content.pop("shape") == [8, 125, CLASSES]
        assert {**figures(content), "shape": expected["shape"], "axis": 1} == expected


def test_no_hidden_states(model: Model, capsys: Capture) -> None:
    files = model.save("none", model.hidden[:0]), model.save("t", model.target[:0])
    assert cli.main(["score", *files, "--head", model.files["weight"]]) == 1
    assert f"no row was counted: {files[0]} has no rows" in capsys.readouterr().err
    np.savez(model.folder / "empty.npz")
    model.score(head=str(model.folder / "empty.npz"), code=2)
    assert "empty.npz: no array is in the file" in error(capsys)


def test_one_hidden_state(model: Model, capsys: Capture) -> None:
    files = model.save("one", model.hidden[7]), model.save("t", np.array(5))
    assert cli.main(["score", *files, "--head", model.files["weight"], "--json"]) == 0
    logits = np.asarray(crossent.LinearLogits(model.hidden[7], model.weight))
    assert shown(capsys)["mean"] == pytest.approx(float(crossent.cross_entropy(logits, 5)), rel=1e-6)


def test_the_targets_may_lie_beside_the_hidden_states(model: Model, capsys: Capture) -> None:
    np.savez(model.folder / "run.npz", states=model.hidden, labels=model.target)
    command = ["score", str(model.folder / "run.npz"), "--head", model.files["weight"], "--json"]
    assert cli.main(command) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["count"] == 888
    assert captured.err == f"crossent: note: the targets are {model.folder / 'run.npz'}:labels\n"


@needs_equal_rows
def test_single_rows(model: Model, tmp_path: Path) -> None:
    out = tmp_path / "rows.npy"
    for memory in ("64M", "300K"):
        model.score("--per-row", str(out), "--per-row-columns", "nll,rank", "--memory", memory)
        scores = crossent.score(model.logits(), model.target)
        rows = np.load(out)
        np.testing.assert_array_equal(rows["nll"], scores.nll)
        np.testing.assert_array_equal(rows["rank"][scores.counted], scores.rank[scores.counted])


def test_the_output_matrix_of_a_sharded_model_is_in_one_of_its_files(model: Model, capsys: Capture) -> None:
    for number, content in enumerate(({"a": model.bias}, {"b": model.bias, "lm_head.weight": model.weight})):
        safetensors.numpy.save_file(content, model.folder / f"model-{number}-of-2.safetensors")
    pattern = str(model.folder / "model-*.safetensors")
    model.score("--json", head=f"{pattern}:lm_head.weight")
    second = model.folder / "model-1-of-2.safetensors"
    assert shown(capsys)["head"] == f"{second}:lm_head.weight"
    model.score(head=f"{pattern}:lm_head.wieght", code=2)
    assert "no array of that name is in any of the 2 files" in error(capsys)


def test_the_only_matrix_and_the_only_vector_of_a_file_need_no_key(model: Model, capsys: Capture) -> None:
    model.score("--json")
    expected = figures(shown(capsys))
    file = str(model.folder / "head.safetensors")
    safetensors.numpy.save_file({"bias": model.bias, "weight": model.weight}, file)
    command = [
        "score",
        model.files["hidden"],
        model.files["target"],
        "--json",
        "--head",
        file,
        "--head-bias",
        file,
    ]
    assert cli.main(command) == 0
    content = shown(capsys)
    assert figures(content) == expected
    assert (content["head"], content["head_bias"]) == (f"{file}:weight", f"{file}:bias")


# ---- errors ---------------------------------------------------------------------------------------------------


def test_what_does_not_fit(model: Model, capsys: Capture) -> None:
    weight, hidden = model.files["weight"], model.files["hidden"]
    told = f"{hidden} has hidden states of 40 numbers, shape (1000, 40); expected an output matrix of shape "
    told += "(classes, 40)"
    other = model.save("other", model.weight[:, :39])
    model.score(head=other, code=1)
    assert f"{other} has shape (333, 39), and {told}; check that both come from the same model" in error(
        capsys
    )
    transposed = model.save("other", model.weight.T)
    model.score(head=transposed, code=1)
    text = error(capsys)
    assert (
        f"{told}; if {hidden} holds logits already, leave --head out for it; if it holds hidden states, "
        in text
    )
    assert f"{transposed} looks transposed: save its transpose, which has a row for each class" in text
    for array, text in (
        (
            model.weight[np.newaxis],
            "has shape (1, 333, 40); expected an output matrix, with a row for each class",
        ),
        (
            model.weight.astype(np.int8),
            "holds int8; expected an output matrix of float16, float32, float64 or bfloat16",
        ),
        (np.empty((0, 40), np.float32), "has shape (0, 40), with no numbers in it"),
        (model.weight.astype(BFLOAT16), "pass --dtype bf16"),
    ):
        model.score(head=model.save("other", array), code=1)
        assert text in error(capsys)
    bias = model.save("other", model.bias[:-1])
    model.score("--head-bias", bias, code=1)
    assert f"{bias} has shape (332,); expected (333,), a number for each of the classes of {weight}" in error(
        capsys
    )
    model.score(hidden=model.files["target"], code=1)
    assert "holds int64; expected hidden states of float16, float32, float64 or bfloat16" in error(capsys)
    model.target[3] = CLASSES
    model.save("target", model.target)
    model.score(code=1)
    assert "target[3] is 333, but the logits have 333 classes" in error(capsys)
    short = model.save("target", model.target[:-1])
    model.score(code=1)
    text = f"{short} has shape (999,); expected (1000,), the shape (1000, 333) of the logits of {hidden} less the class"
    assert text in error(capsys)


def test_an_array_of_many_has_to_be_named(model: Model, capsys: Capture) -> None:
    file = str(model.folder / "model.safetensors")
    whole = {
        "embed.position.weight": np.zeros((512, WIDTH), np.float32),
        "layer.up.weight": np.zeros((900, WIDTH + 1), np.float32),
        "model.embed_tokens.weight": model.weight,
        "norm.bias": np.zeros(WIDTH, np.float32),
        "norm.weight": np.zeros(WIDTH, np.float32),
    }
    safetensors.numpy.save_file(whole, file)
    model.score(head=file, code=2)
    assert error(capsys) == (
        f"crossent: error: {file} has 5 arrays, of which 2 may be the output matrix (model.embed_tokens.weight 333 x "
        f"40, embed.position.weight 512 x 40); name it, as in --head {file}:model.embed_tokens.weight\n"
    )
    model.score(hidden=model.save("hidden", np.zeros((9, 3), np.float32)), head=file, code=2)
    assert (
        "has 5 arrays, and none is a matrix of floating numbers of 3 columns, as the hidden states"
        in error(capsys)
    )
    model.save("hidden", model.hidden)
    model.score("--head-bias", file, code=2)
    assert f"{file} has 5 arrays" in error(capsys)
    model.score(head=f"{file}:lm_head", code=2)
    assert f"{file} has no array 'lm_head'; it has embed.position.weight" in error(capsys)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--softcap", "0"], "0 is not a positive, finite number"),
        (["--softcap", "nan"], "nan is not a positive, finite number"),
        (["--softcap", "-3"], "-3 is not a positive, finite number"),
        (["--scale", "inf"], "inf is not a positive, finite number"),
        (["--scale", "x"], "'x' is not a number"),
        (["--head", "-"], "- (standard input) cannot be read"),
        (["--values", "probs"], "--values does not apply to hidden states, which --head makes logits of"),
        (["--label", "x"], "--label does not apply to hidden states"),
        (["--axis", "0"], "--axis 0 does not apply to hidden states, whose numbers lie along the last axis"),
        (["--classes", "7"], "weight.npy has 333 classes, not 7; leave --classes out"),
        (["--dtype", "bf16"], "--dtype does not apply to"),
        (
            ["--other-head", "x.npy"],
            "crossent score has no option --other-head; crossent compare has --other-head",
        ),
    ],
)
def test_bad_usage(model: Model, capsys: Capture, arguments: list[str], text: str) -> None:
    with contextlib.suppress(SystemExit):  # of the parser, whose code other tests check
        model.score(*arguments, code=2)
    assert text in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--head-bias", "x.npy"], "--head-bias goes with --head FILE, the output matrix; give both"),
        (["--softcap", "3"], "--softcap goes with --head FILE, which makes logits of hidden states"),
        (["--scale", "3"], "--scale goes with --head FILE"),
    ],
)
@pytest.mark.parametrize("command", ["score", "calibrate"])
def test_without_a_head(model: Model, capsys: Capture, command: str, arguments: list[str], text: str) -> None:
    assert cli.main([command, model.files["hidden"], model.files["target"], *arguments]) == 2
    assert text in error(capsys)


def test_files_that_hold_no_hidden_states(model: Model, capsys: Capture) -> None:
    table = model.folder / "x.csv"
    table.write_text("a,b\n1,2\n")
    model.score(hidden=str(table), code=2)
    assert f"{table} is a CSV file, which holds no hidden states" in error(capsys)
    model.score(head=str(table), code=2)
    assert (
        f"--head {table} is a CSV file; expected an array in .npy, .npz, .safetensors, HDF5, Zarr or"
        in error(capsys)
    )
    model.score(head=str(model.folder / "none.npy"), code=1)
    assert "none.npy: No such file or directory" in error(capsys)


def test_a_compressed_output_matrix_has_to_fit(model: Model, capsys: Capture) -> None:
    head, *_ = compressed(model.folder, model.weight)
    model.score("--memory", "100K", head=head, code=2)
    assert f"{head} is compressed, and would have to be decompressed again for each block of rows" in error(
        capsys
    )
    model.score("--memory", "1M", head=head)


# ---- files that change ----------------------------------------------------------------------------------------


def test_an_output_matrix_that_is_cut_short(
    model: Model, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = model.files["weight"]
    whole = Path(head).read_bytes()
    before_block(1, lambda: os.truncate(head, 128 + 160 * 200 + 5), monkeypatch.setattr)
    model.score("--memory", "50K", code=1)
    assert f"{head} became shorter while it was read: it ends at byte 32133, in row 200 of 333" in error(
        capsys
    )
    model.score(code=1)
    assert f"{head} is truncated" in error(capsys)
    # One that fits the memory has been read by then.
    Path(head).write_bytes(whole)
    before_block(1, lambda: os.truncate(head, 128), monkeypatch.setattr)
    model.score()


@needs_equal_rows
def test_an_output_matrix_that_is_replaced(
    model: Model, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.score("--json")
    expected = shown(capsys)
    head, other = model.files["weight"], model.save("other", model.weight + 1)
    before_block(2, lambda: Path(other).replace(head), monkeypatch.setattr)
    model.score("--memory", "50K", "--json")
    assert shown(capsys) == expected


# ---- long runs ------------------------------------------------------------------------------------------------


SMALL = ("--memory", "500K")


@needs_equal_rows
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("blocks", [0, 1, 3])
def test_a_resumed_run_has_the_same_bits(
    model: Model, capsys: Capture, monkeypatch: pytest.MonkeyPatch, blocks: int, dtype: str
) -> None:
    head, *typed = npy(model.folder, model.weight.astype(BFLOAT16 if dtype == "bfloat16" else dtype))
    model.score("--json", *typed, head=head)
    whole = capsys.readouterr().out
    state = str(model.folder / "state.json")
    arguments = ("--json", "--resume", state, *typed)
    stop_after(monkeypatch, blocks)
    model.score(*arguments, *SMALL, head=head, code=130)
    rows = json.loads(Path(state).read_text())["rows"]
    assert (0 < rows < ROWS) == (blocks > 0)
    capsys.readouterr()
    model.score(*arguments, "--memory", "600K", head=head)
    assert capsys.readouterr().out == whole
    model.score(*arguments, head=head)
    assert capsys.readouterr().out == whole


def test_a_run_that_is_resumed_in_the_same_way_has_the_same_bits(
    model: Model, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.score("--json", *SMALL)
    whole = capsys.readouterr().out
    state = str(model.folder / "state.json")
    stop_after(monkeypatch, 2)
    model.score("--json", "--resume", state, *SMALL, code=130)
    capsys.readouterr()
    model.score("--json", "--resume", state, *SMALL)
    assert capsys.readouterr().out == whole


def test_what_is_no_output_matrix_is_named(model: Model, capsys: Capture) -> None:
    files = model.files
    assert cli.main(["score", files["hidden"], files["target"], "--head", files["hidden"]]) == 2
    assert "is given as hidden states and as their output matrix" in error(capsys)
    logits = model.save("plain", model.logits())
    assert cli.main(["score", logits, files["target"], "--head", files["weight"]]) == 1
    assert "holds logits already, leave --head out for it" in error(capsys)


def test_bfloat16_without_a_type_beside_raw_hidden_states(model: Model, capsys: Capture) -> None:
    raw = str(model.folder / "hidden.f16")
    np.load(model.files["hidden"]).astype(np.float16).tofile(raw)
    head, *typed = npy(model.folder, model.weight.astype(BFLOAT16))
    model.score("--json", hidden=raw, head=head, code=1)
    assert "--dtype bf16" in error(capsys)
    model.score("--json", *typed, hidden=raw, head=head)
    content = shown(capsys)
    assert (content["hidden_dtype"], content["head_dtype"]) == ("float16", "bfloat16")
    stored = model.save("stored", np.fromfile(raw, np.float16).reshape(ROWS, -1))
    model.score("--json", *typed, hidden=stored, head=head)
    assert shown(capsys)["mean"] == content["mean"]
    model.score("--json", "--dtype", "f32", hidden=raw, head=model.files["weight"], code=2)
    assert "--dtype f32 contradicts the suffix of" in error(capsys)


def test_another_output_matrix_is_refused(
    model: Model, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = str(model.folder / "state.json")
    stop_after(monkeypatch, 2)
    arguments = ("--resume", state, *SMALL)
    model.score(*arguments, code=130)
    capsys.readouterr()
    other = model.save("other", model.weight + 1)
    model.score(*arguments, head=other, code=1)
    assert f"{state} cannot be resumed: --head was {model.files['weight']}, and is {other}" in error(capsys)
    model.score(*arguments, "--softcap", "9", code=1)
    assert f"{state} cannot be resumed: --softcap was not given, and is 9.0" in error(capsys)
    model.score(*arguments, "--scale", "2", code=1)
    assert f"{state} cannot be resumed: --scale was not given, and is 2.0" in error(capsys)
    Path(other).replace(model.files["weight"])
    model.score(*arguments, code=1)
    text = f"{model.files['weight']} was a file of 53408 bytes, and is one of other content"
    assert text in error(capsys)
    np.save(model.files["weight"], model.weight)
    model.score(*arguments)


def test_no_input_is_overwritten(model: Model, capsys: Capture) -> None:
    for option, name in (("--resume", "weight"), ("--per-row", "bias")):
        model.score(option, model.files[name], code=2)
        assert f"is the input {model.files[name]}, and would overwrite it" in error(capsys)


@needs_equal_rows
@posix
def test_ctrl_c(model: Model, capsys: Capture) -> None:
    model.score("--json")
    whole = capsys.readouterr().out
    state, files = str(model.folder / "state.json"), model.files
    more = ["--json", "--resume", state, *SMALL]
    heads = ["--head", files["weight"], "--head-bias", files["bias"]]
    code, err = interrupt(["score", files["hidden"], files["target"], *heads, *more], signal.SIGINT, block=3)
    assert code == 130
    assert "of 1000 rows scored; the result so far" in err
    assert 0 < json.loads(Path(state).read_text())["rows"] < ROWS
    model.score(*more)
    assert capsys.readouterr().out == whole


@needs_equal_rows
def test_merged_states(model: Model, capsys: Capture) -> None:
    model.score("--json")
    whole = shown(capsys)
    states = []
    for number, rows in enumerate((slice(0, 300), slice(300, ROWS))):
        files = model.save(f"h{number}", model.hidden[rows]), model.save(f"t{number}", model.target[rows])
        states.append(str(model.folder / f"{number}.json"))
        heads = ["--head", model.files["weight"], "--head-bias", model.files["bias"], "--softcap", "50"]
        assert cli.main(["score", *files, *heads, "--resume", states[-1]]) == 0
    capsys.readouterr()
    assert cli.main(["merge", *states, "--json", "--save-state", str(model.folder / "all.json")]) == 0
    merged = shown(capsys)
    model.score("--json", "--softcap", "50")
    one = shown(capsys)
    assert {name: merged[name] for name in merged if name in figures(one)} == {
        name: value for name, value in figures(one).items() if name in merged
    }
    assert one["mean"] != whole["mean"]

    third = str(model.folder / "2.json")
    files = model.save("h2", model.hidden[::2]), model.save("t2", model.target[::2])
    assert cli.main(["score", *files, *heads[:-1], "51", "--resume", third]) == 0
    capsys.readouterr()
    for first in (states[0], str(model.folder / "all.json")):
        assert cli.main(["merge", first, third]) == 1
        assert "merge runs of one model" in error(capsys)


# ---- compare, calibrate, plot ---------------------------------------------------------------------------------


def quantised(model: Model) -> Array:
    """The output matrix with sixteen levels in each row."""
    step = np.abs(model.weight).max(axis=1, keepdims=True) / 7
    return (np.rint(model.weight / step) * step).astype(np.float32)


@needs_equal_rows
@pytest.mark.parametrize("memory", ["64M", "300K"])
def test_compare(model: Model, capsys: Capture, memory: str) -> None:
    files, other = model.files, model.save("other", quantised(model))
    p, q = (
        crossent.LinearLogits(model.hidden, weight, model.bias) for weight in (model.weight, quantised(model))
    )
    expected = crossent.compare(np.asarray(p), np.asarray(q), model.target).to_dict()
    plain = [model.save(name, np.asarray(logits)) for name, logits in (("p", p), ("q", q))]
    first = ["--head", files["weight"], "--head-bias", files["bias"]]
    second = ["--other-head", other, "--other-head-bias", files["bias"]]
    for names, heads in (
        ([files["hidden"], files["hidden"]], [*first, *second]),
        ([files["hidden"], plain[1]], first),
        ([plain[0], files["hidden"]], second),
    ):
        command = ["compare", *names, files["target"], *heads, "--json", "--memory", memory]
        assert cli.main(command) == 0
        content = shown(capsys)
        assert {name: content[name] for name in expected} == json.loads(json.dumps(expected))
        told = {name: content[name]["head"] for name in ("reference_head", "other_head") if name in content}
        assert list(told.values()) == [head for head in (files["weight"], other) if head in heads]
        arguments = [
            "reference",
            "--head",
            "--head-bias",
            "other",
            "--other-head",
            "--other-head-bias",
            "targets",
        ]
        given = {"reference", "other", "targets", *heads}
        assert [each["argument"] for each in content["inputs"]] == [
            each for each in arguments if each in given
        ]


@needs_equal_rows
def test_a_comparison_goes_on(model: Model, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    files, other = model.files, model.save("other", quantised(model))
    command = ["compare", files["hidden"], files["hidden"], files["target"], "--json"]
    command += ["--head", files["weight"], "--other-head", other, "--softcap", "20"]
    assert cli.main(command) == 0
    whole = capsys.readouterr().out
    command += ["--memory", "1M", "--resume", str(model.folder / "state.json")]
    assert blocks_of(*command[:-2]) > 4
    capsys.readouterr()
    stop_after(monkeypatch, 4)
    assert cli.main(command) == 130
    capsys.readouterr()
    assert cli.main(command) == 0
    assert capsys.readouterr().out == whole


def test_comparisons_that_do_not_fit(model: Model, capsys: Capture) -> None:
    files = model.files
    names = ["compare", files["hidden"], files["hidden"], files["target"]]
    assert cli.main([*names, "--head", files["weight"]]) == 1
    assert error(capsys) == (
        f"crossent: error: {files['hidden']} has 40 classes, and {files['hidden']} has 333; both need the same "
        f"vocabulary; if {files['hidden']} holds hidden states too, pass --other-head with their output matrix\n"
    )
    assert cli.main([*names, "--other-head", files["weight"]]) == 1
    assert "holds hidden states too, pass --head with their output matrix" in error(capsys)
    short = model.save("other", model.weight[:-1])
    assert cli.main([*names, "--head", files["weight"], "--other-head", short]) == 1
    assert "has 332 classes, and" in error(capsys)
    assert cli.main([*names, "--head", files["weight"], "--other-head-bias", short]) == 2
    assert "--other-head-bias goes with --other-head FILE" in error(capsys)
    both = ["--head", files["weight"], "--other-head", files["weight"]]
    assert cli.main([*names, *both, "--values", "probs"]) == 2
    assert "--values does not apply to hidden states" in error(capsys)


def test_compare_with_stored_probabilities(model: Model, capsys: Capture) -> None:
    files = model.files
    logits = np.asarray(crossent.LinearLogits(model.hidden, model.weight))
    probs = model.save("probs", crossent.softmax(logits.astype(np.float64)))
    command = ["compare", files["hidden"], probs, files["target"], "--head", files["weight"], "--json"]
    assert cli.main([*command, "--values", "probs"]) == 0
    assert abs(shown(capsys)["kl_mean"]) < 1e-9


@needs_equal_rows
def test_calibrate(model: Model, capsys: Capture) -> None:
    files = model.files
    heads = ["--head", files["weight"], "--head-bias", files["bias"], "--scale", "2.5"]
    logits = model.logits(scale=2.5)
    found = crossent.fit_temperature(logits, model.target)
    assert 2.2 < found.temperature < 2.8
    plain = model.save("logits", logits)
    assert cli.main(["calibrate", plain, files["target"], "--json"]) == 0
    expected = figures(shown(capsys))
    assert expected["temperature"] == found.temperature
    for memory in ("64M", "500K"):
        command = ["calibrate", files["hidden"], files["target"], *heads, "--json", "--memory", memory]
        assert cli.main(command) == 0
        content = shown(capsys)
        assert figures(content) == expected
        assert (content["hidden"], content["scale"]) == (files["hidden"], 2.5)


@needs_equal_rows
def test_pictures(model: Model, capsys: Capture) -> None:
    pytest.importorskip("matplotlib")
    files, out = model.files, str(model.folder / "x.svg")
    heads = ["--head", files["weight"], "--head-bias", files["bias"]]
    plain = model.save("logits", model.logits())
    for kind, more, own in (
        ("reliability", [], []),
        ("comparison", ["--other", files["hidden"]], ["--other-head", model.save("other", quantised(model))]),
    ):
        pictures = []
        for name, head in ((files["hidden"], heads), (plain, [])):
            command = ["plot", name, files["target"], "--kind", kind, "-o", out, *more, *own, *head]
            assert cli.main(command) == 0
            pictures.append(re.sub(r"(hidden|logits)\.npy|#?[mp][0-9a-f]{10}", "", Path(out).read_text()))
        assert len(pictures[0]) > 1000
        if kind == "reliability":
            assert pictures[0] == pictures[1]
    capsys.readouterr()
    usual = ["plot", files["hidden"], files["target"], "--kind", "histogram", "-o", out, *heads]
    assert cli.main([*usual, "--other-head", files["weight"]]) == 2
    assert "--other-head goes with --kind comparison, and this is --kind histogram" in error(capsys)
    model.score("--resume", str(model.folder / "run.json"))
    capsys.readouterr()
    assert cli.main(["plot", str(model.folder / "run.json"), "--kind", "histogram", "-o", out, *heads]) == 2
    assert "holds its scores already; leave out --head" in error(capsys)


# ---- what is read ---------------------------------------------------------------------------------------------


def test_what_the_bar_says(model: Model) -> None:
    source = open_hidden(model.files["hidden"], Head(model.files["weight"]))
    told = "1,000 rows of 40 numbers, float32, 0.2 MB; 333 classes, float32, 0.1 MB"
    assert source.in_words(1 << 20) == told
    again = "; the matrix is read for each block of rows, and once with --memory 1M"
    assert source.in_words(1 << 17) == told + again
    assert source.in_words(200_000) == told
    assert source.in_words(200_000, 2) == told + again


@posix
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
@pytest.mark.parametrize("dtype", ["<f4", "<f2"])
def test_a_large_output_matrix_is_not_copied_whole(tmp_path: Path, dtype: str) -> None:
    rows, width, classes = 100, 2048, 128_000 if dtype == "<f2" else 64_000
    head = sparse(tmp_path / "w.npy", dtype, (classes, width))  # 524 megabytes
    hidden = sparse(tmp_path / "x.npy", "<f2", (rows, width))
    targets = sparse(tmp_path / "t.npy", "<i8", (rows,))
    command = ["score", hidden, targets, "--head", head, "--json", "--memory", "64M"]
    told = json.loads(run_watched(*command))
    assert told["mean"] == pytest.approx(np.log(classes), rel=1e-6)
