"""Tables in Arrow's files and streams: the figures of the same table in Parquet, and no more memory than a block."""

from __future__ import annotations

import decimal
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crossent import _cli as cli
from crossent._io import open_logits
from steps import before_block
from test_cli import error, figures, made, posix
from test_cli_memory import run as run_watched
from test_files import Array, Capture, probabilities, score

pa: Any = pytest.importorskip("pyarrow")
feather: Any = pytest.importorskip("pyarrow.feather")
pq: Any = pytest.importorskip("pyarrow.parquet")

ROWS, CLASSES = 300, 7


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Array, Array]:
    """The current folder, and probabilities and their targets."""
    monkeypatch.chdir(tmp_path)
    logits, target = made((ROWS, CLASSES))
    return probabilities(logits), target


def save(table: Any, name: str, rows: int = 130, **options: Any) -> str:
    """Write a table in batches, as a file or, by its name, as a stream."""
    make = pa.ipc.new_stream if name.endswith(".arrows") else pa.ipc.new_file
    with (
        pa.OSFile(name, "wb") as sink,
        make(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as out,
    ):
        for batch in table.to_batches(max_chunksize=rows):
            out.write_batch(batch)
    return name


def columns(p: Array, kind: Any = None) -> dict[str, Any]:
    values = (
        [[decimal.Decimal(int(value)) for value in column] for column in p.T] if kind is not None else p.T
    )
    return {f"p_{i}": pa.array(column, kind) for i, column in enumerate(values)}


def lists(p: Array, make: Callable[[Any], Any]) -> Any:
    return make(pa.array(np.ascontiguousarray(p).reshape(-1)))


TABLES: dict[str, Callable[[Array, Array], dict[str, Any]]] = {
    "float64": lambda p, t: {"label": t, **columns(p)},
    "float32": lambda p, t: {**columns(p.astype("f4")), "label": t.astype("i2")},
    "float16": lambda p, t: {**columns(np.eye(CLASSES)[t].astype("f2")), "label": t},
    "decimal": lambda p, t: {**columns(np.eye(CLASSES, dtype=int)[t], pa.decimal128(19, 2)), "label": t},
    "names": lambda p, t: {"label": [f"p_{i}" for i in t], **columns(p), "name": [f"row {i}" for i in range(len(t))]},
    "categories": lambda p, t: {"label": pa.array([f"p_{i}" for i in t]).dictionary_encode(), **columns(p)},
    "fixed lists": lambda p, t: {
        "id": [f"row {i}" for i in range(len(t))],
        "probs": lists(p, lambda values: pa.FixedSizeListArray.from_arrays(values, CLASSES)),
        "label": t,
    },
    "lists": lambda p, t: {
        "probs": lists(p.astype("f4"), lambda values: pa.ListArray.from_arrays(np.arange(ROWS + 1) * CLASSES, values)),
        "label": t,
    },
    "large lists": lambda p, t: {
        "probs": lists(p, lambda values: pa.LargeListArray.from_arrays(np.arange(ROWS + 1) * CLASSES, values)),
        "label": t,
    },
    "tensors": lambda p, t: {
        "probs": pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(p)),
        "label": t,
    },
    "others beside": lambda p, t: {
        "record": pa.array([{"a": 1, "b": "x"}] * len(t)),
        "flag": pa.array([True, None] * (len(t) // 2)),
        "when": pa.array([None] * len(t), pa.timestamp("us")),
        "none": pa.nulls(len(t)),
        "bytes": pa.array([b"abc"] * len(t)),
        **columns(p),
        "label": t,
    },
}  # fmt: skip
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "file": ("x.arrow", {}),
    "stream": ("x.arrows", {}),
    "zstd": ("x.arrow", {"compression": "zstd"}),
    "lz4 stream": ("x.arrows", {"compression": "lz4"}),
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("kind", TABLES)
def test_the_figures_of_parquet_to_the_bit(
    data: tuple[Array, Array], capsys: Capture, kind: str, variant: str
) -> None:
    table = pa.table(TABLES[kind](*data))
    pq.write_table(table, "x.parquet", store_schema=True)
    assert score("x.parquet") == 0
    expected = figures(capsys)
    name, options = VARIANTS[variant]
    save(table, name, **options)
    for memory in ("64M", "50K"):
        assert score(name, "--memory", memory) == 0
        own = figures(capsys)
        for each in (
            "count",
            "mean",
            "accuracy",
            "brier",
            "mean_entropy",
            "shape",
            "columns",
            "label",
            "values",
        ):
            assert own.get(each) == expected.get(each), each
        assert own["format"] == "arrow"
    rows = np.concatenate([block.values.copy() for block in open_logits(name).row_blocks(1 << 20)])
    for start in (1, 129, 130, 300):
        at = start
        for block in open_logits(name).row_blocks(20_000, start):
            assert np.array_equal(block.values, rows[at : at + block.rows])
            at += block.rows
        assert at == ROWS


def test_files_of_other_libraries(data: tuple[Array, Array], capsys: Capture) -> None:
    p, target = data
    pd, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    frame = pd.DataFrame(p, columns=[f"p_{i}" for i in range(CLASSES)]).assign(label=target, name="a")
    frame.to_parquet("x.parquet")
    frame.to_feather("pandas.feather")
    polars.from_pandas(frame).write_ipc("polars.arrow")
    polars.from_pandas(frame).write_ipc("packed.arrow", compression="zstd")
    polars.from_pandas(frame).write_ipc_stream("polars.arrows")
    assert score("x.parquet") == 0
    expected = figures(capsys)["mean"]
    for name in ("pandas.feather", "polars.arrow", "packed.arrow", "polars.arrows"):
        assert score(name) == 0
        assert figures(capsys)["mean"] == expected
    assert cli.main(["info", "pandas.feather", "--json"]) == 0
    (told,) = figures(capsys)["arrays"]
    assert (told["format"], told["shape"], told["label"]) == ("arrow", [ROWS, CLASSES], "label")


def test_patterns_resume_and_compare(
    data: tuple[Array, Array], capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    p, target = data
    table = pa.table({"label": target, **columns(p)})
    pq.write_table(table, "x.parquet")
    save(table.slice(0, 200), "part-2.arrow")
    save(table.slice(200), "part-10.arrow", compression="zstd")
    for command in (["score"], ["compare", "x.parquet"]):
        assert cli.main([*command, "part-*.arrow", "--json"]) == 0
        own = figures(capsys)
        assert cli.main([*command, "x.parquet", "--json"]) == 0
        expected = figures(capsys)
        for each in ("count", "mean", "accuracy", "kl_mean", "reference_mean", "other_mean"):
            assert own.get(each) == expected.get(each)
    save(table, "x.arrow")
    assert score("x.arrow") == 0
    expected = figures(capsys)
    arguments = ("x.arrow", "--memory", "20K", "--resume", "s.json")
    with monkeypatch.context() as patch:
        before_block(4, lambda: (_ for _ in ()).throw(KeyboardInterrupt()), patch.setattr)
        assert score(*arguments) == 130
    capsys.readouterr()
    assert score(*arguments) == 0
    assert figures(capsys)["mean"] == expected["mean"]


def test_missing_values_and_wrong_lengths(data: tuple[Array, Array], capsys: Capture) -> None:
    p, target = data
    rows = [list(row) for row in p]
    rows[221] = rows[221][:-1]
    save(pa.table({"probs": rows, "label": target}), "lists.arrow")
    assert score("lists.arrow") == 1
    assert "lists.arrow: row 221 has a list of 6 in the column 'probs', expected 7 as in row 0" in error(
        capsys
    )
    for name in ("p_3", "label"):
        values = columns(p) | {"label": pa.array(target)}
        cells = values[name].to_pylist()
        cells[210] = None
        values[name] = pa.array(cells, values[name].type)
        save(pa.table(values), "gap.arrow")
        assert score("gap.arrow") == 1
        assert f"gap.arrow: row 210 has no value in the column '{name}'" in error(capsys)
    inside = [None if i == 3 else value for i, value in enumerate(p.reshape(-1))]
    flat = pa.FixedSizeListArray.from_arrays(pa.array(inside), CLASSES)
    save(pa.table({"probs": flat, "label": target}), "inside.arrow")
    assert score("inside.arrow") == 1
    assert "inside.arrow: row 0 has a list with a missing value" in error(capsys)


def test_files_that_end_too_early(data: tuple[Array, Array], capsys: Capture) -> None:
    """A stream without the mark of its end may lack rows, though the library takes it for whole."""
    table = pa.table({"label": data[1], **columns(data[0])})
    for name in ("x.arrow", "x.arrows"):
        save(table, name)
        whole = Path(name).read_bytes()
        ends = [len(whole) - 8] if name.endswith("s") else [len(whole) - 10]
        for length in (9, 200, len(whole) // 3, len(whole) // 2, len(whole) - 1, *ends):
            Path(name).write_bytes(whole[:length])
            assert score(name) == 1
            message = error(capsys)
            assert f"{name} is truncated" in message
            assert f"the file has {length}" in message
    marked = Path("x.arrows")
    assert pa.ipc.open_stream(marked.read_bytes() + bytes(0)).schema == table.schema
    save(table, "x.arrows")
    cut = marked.read_bytes()[:-8]
    assert pa.ipc.open_stream(cut).read_all().num_rows == ROWS
    marked.write_bytes(cut)
    assert score("x.arrows") == 1
    assert "x.arrows is truncated: it has no mark of its end" in error(capsys)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_file_that_is_cut_while_it_is_read(
    data: tuple[Array, Array], capsys: Capture, monkeypatch: pytest.MonkeyPatch, variant: str
) -> None:
    name, options = VARIANTS[variant]
    p = np.tile(data[0], (40, 1))
    table = pa.table({"label": np.tile(data[1], 40), **columns(p)})
    save(table, name, rows=4000, **options)
    length = Path(name).stat().st_size
    before_block(1, lambda: os.truncate(name, length // 2), monkeypatch.setattr)
    assert score(name, "--memory", "200K") == 1
    assert f"{name} is damaged: it cannot be read after row" in error(capsys)


def test_other_files_of_arrow(data: tuple[Array, Array], capsys: Capture) -> None:
    feather.write_feather(pa.table({"label": data[1], **columns(data[0])}), "x.feather")
    with pa.OSFile("t.arrow", "wb") as sink:
        pa.ipc.write_tensor(pa.Tensor.from_numpy(data[0]), sink)
    assert score("t.arrow") == 1
    message = error(capsys)
    assert "t.arrow" in message
    assert "it holds a tensor and no table; save it with numpy.save" in message
    assert score("x.feather", "--dtype", "f32") == 2
    assert "--dtype does not apply to x.feather" in error(capsys)
    assert score("x.feather:a") == 2
    assert (
        "x.feather is a table, and --columns names its columns of classes; pass that, and leave :a out"
        in error(capsys)
    )
    save(pa.table({"label": data[1], **columns(data[0])}).slice(0, 0), "none.arrow")
    assert score("none.arrow") == 1
    assert "no row was counted" in capsys.readouterr().err


def test_pandas_is_not_imported(data: tuple[Array, Array], capsys: Capture) -> None:
    """PyArrow imports it for its own `to_numpy`: a second, and 60 megabytes."""
    pytest.importorskip("pandas")
    p, target = data
    lists_of = pa.ListArray.from_arrays(np.arange(ROWS + 1) * CLASSES, pa.array(p.reshape(-1)))
    save(pa.table({"label": target, **columns(p)}), "x.arrow")
    save(pa.table({"label": target, "p": lists_of}), "lists.arrow")
    pq.write_table(pa.table({"label": target, **columns(p)}), "x.parquet")
    np.save("logits.npy", np.log(p))
    script = (
        "import sys; from crossent import _cli as cli; "
        "done = [cli.main(['score', *each.split()]) for each in sys.argv[1:]]; "
        "sys.exit(any(done) or 'pandas' in sys.modules)"
    )
    names = ["x.arrow", "lists.arrow", "x.parquet", "logits.npy x.arrow:label"]
    done = subprocess.run(
        [sys.executable, "-c", script, *names], capture_output=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr


def test_missing_pyarrow(data: tuple[Array, Array], capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    save(pa.table({"label": data[1], **columns(data[0])}), "x.arrow")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert score("x.arrow") == 1
    assert "reading x.arrow needs the package pyarrow; pip install 'crossent[io]'" in error(capsys)


def test_a_compressed_batch_that_is_larger_than_the_memory(
    data: tuple[Array, Array], capsys: Capture
) -> None:
    p = np.tile(data[0], (500, 1)).astype(np.float32)
    flat = pa.FixedSizeListArray.from_arrays(pa.array(p.reshape(-1)), CLASSES)
    table = pa.table({"probs": flat, "label": np.tile(data[1], 500)})
    save(table, "x.arrow", rows=len(p), compression="zstd")
    assert score("x.arrow", "--memory", "1M") == 2
    message = error(capsys)
    assert "x.arrow has batches of 150000 rows, of which one takes 5400000 bytes" in message
    memory = message.partition("--memory ")[2].strip()
    assert score("x.arrow", "--memory", memory) == 0
    capsys.readouterr()
    rows = int(message.partition("chunksize=")[2].partition(")")[0])
    feather.write_feather(table, "y.feather", chunksize=rows)
    assert score("y.feather", "--memory", "1M") == 0


@posix
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
@pytest.mark.parametrize("stream", [False, True])
def test_one_batch_that_is_larger_than_the_memory(data: tuple[Array, Array], stream: bool) -> None:
    """Of a batch that is not compressed, as most libraries write one for all rows, a block is read at a time."""
    rows, classes = 1500, 20_000  # 120 megabytes
    values = pa.array(np.full(rows * classes, 1 / classes, np.float32))
    table = pa.table({"p": pa.FixedSizeListArray.from_arrays(values, classes), "label": np.zeros(rows, int)})
    name = save(table, "x.arrows" if stream else "x.arrow", rows=rows)
    told = run_watched("score", name, "--memory", "16M", limit=100 << 20)
    assert "rows counted          1,500" in told
