"""`crossent plot`: pictures of files, which are those of the library; and what it refuses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import crossent
from arrays import Array
from crossent import _cli as cli
from test_cli import error
from test_files import write_llama

pytest.importorskip("matplotlib")
from matplotlib import pyplot
from matplotlib.axes import Axes

from crossent import plot

Capture = pytest.CaptureFixture[str]
SIGNATURES = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}


class Data:
    """Logits of texts by two models, and their tokens, in files."""

    def __init__(self, folder: Path) -> None:
        rng = np.random.default_rng(2)
        self.folder = folder
        self.target = rng.integers(0, 12, (20, 40))
        self.x = rng.standard_normal((20, 40, 12)).astype(np.float32)
        self.x[np.arange(20)[:, np.newaxis], np.arange(40), self.target] += np.log1p(np.arange(40)) / 2
        self.y = (self.x + rng.normal(scale=0.4, size=self.x.shape)).astype(np.float16)
        self.target[rng.random(self.target.shape) < 0.1] = -100
        self.logits, self.other, self.targets = (
            self.save(name, array) for name, array in (("x", self.x), ("y", self.y), ("t", self.target))
        )
        self.out = str(folder / "out.png")

    def save(self, name: str, array: Array) -> str:
        path = self.folder / f"{name}.npy"
        np.save(path, array)
        return str(path)

    def report(self, **options: Any) -> crossent.Report:
        scorer = crossent.Scorer(**options)
        scorer.update(self.x, self.target)
        return scorer.result()


@pytest.fixture
def data(tmp_path: Path) -> Data:
    return Data(tmp_path)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What the pictures were drawn from."""
    found: list[tuple[Any, ...]] = []

    def record(name: str) -> None:
        draw = getattr(plot, name)

        def recording(*arguments: Any, **options: Any) -> Axes:
            found.append(arguments)
            ax: Axes = draw(*arguments, **options)
            return ax

        monkeypatch.setattr(plot, name, recording)

    for name in plot.__all__:
        record(name)
    return found


def _draw(data: Data, kind: str, *more: str, out: str | None = None, logits: str | None = None) -> int:
    names = [logits or data.logits, data.targets]
    return cli.main(["plot", *names, "--kind", kind, "-o", out or data.out, "--no-progress", *more])


# ---- pictures -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", SIGNATURES)
@pytest.mark.parametrize("kind", plot.__all__)
def test_every_kind_in_every_format(data: Data, capsys: Capture, kind: str, ending: str) -> None:
    out = str(data.folder / f"Picture{ending.upper() if kind == 'histogram' else ending}")
    more = ["--other", data.other] if kind == "comparison" else []
    assert _draw(data, kind, *more, out=out) == 0
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == (out + "\n", "")
    assert Path(out).read_bytes().startswith(SIGNATURES[ending])
    assert not list(data.folder.glob("*.tmp"))
    assert pyplot.get_fignums() == []
    again = str(data.folder / f"again{ending}")
    if ending != ".svg":  # whose names of elements are drawn by chance
        assert _draw(data, kind, *more, out=again) == 0
        assert Path(again).read_bytes() == Path(out).read_bytes()


@pytest.mark.parametrize("memory", ["64M", "3K"])
def test_what_is_drawn_is_the_report(data: Data, drawn: list[Any], memory: str) -> None:
    for kind, more, options in (
        ("reliability", ("--bins", "7"), {"bins": 7}),
        ("histogram", (), {}),
        ("position", (), {"by_position": True}),
    ):
        assert _draw(data, kind, *more, "--memory", memory) == 0
        ((report,),) = drawn
        drawn.clear()
        expected = data.report(**options)
        assert report.calibration_bins == expected.calibration_bins
        assert report.loss_histogram == expected.loss_histogram
        assert report.position_groups == expected.position_groups


@pytest.mark.parametrize("axis", [0, 1])
def test_positions_of_any_axis_and_order_of_rows(data: Data, drawn: list[Any], axis: int) -> None:
    turned = np.moveaxis(data.x, -1, axis)
    for order in ("C", "F"):
        logits = data.save("turned", np.asarray(turned, order=order))
        assert _draw(data, "position", "--axis", str(axis), "--memory", "5K", logits=logits) == 0
        assert drawn.pop()[0].position_groups == data.report(by_position=True).position_groups


def test_positions_of_texts_that_stand_one_after_the_other(data: Data, drawn: list[Any]) -> None:
    logits = data.save("flat", data.x.reshape(-1, 12))
    data.targets = data.save("flat_t", data.target.reshape(-1))
    assert _draw(data, "position", "--length", "40", "--memory", "2K", logits=logits) == 0
    assert drawn.pop()[0].position_groups == data.report(by_position=True).position_groups


@pytest.mark.parametrize("memory", ["64M", "3K"])
def test_a_comparison_has_every_row(data: Data, drawn: list[Any], memory: str) -> None:
    assert _draw(data, "comparison", "--other", data.other, "--memory", memory) == 0
    ((one, other),) = drawn
    for found, logits in ((one, data.x), (other, data.y)):
        expected = crossent.score(logits, data.target)
        np.testing.assert_array_equal(found.nll, expected.nll.reshape(-1))
        np.testing.assert_array_equal(found.counted, expected.counted.reshape(-1))


def test_a_file_of_llama_cpp_holds_its_targets(tmp_path: Path, drawn: list[Any]) -> None:
    rng = np.random.default_rng(0)
    names = write_llama(tmp_path, rng.standard_normal((30, 9)).astype(np.float32), rng.integers(0, 9, 30))
    assert cli.main(["plot", *names, "--kind", "histogram", "-o", str(tmp_path / "a.svg")]) == 0
    assert drawn[0][0].count == drawn[0][0].loss_histogram.total == 30


@pytest.mark.parametrize("kind", ["reliability", "histogram"])
def test_the_state_of_a_run(data: Data, drawn: list[Any], capsys: Capture, kind: str) -> None:
    state = str(data.folder / "run.json")
    assert cli.main(["score", data.logits, data.targets, "--resume", state, "--bins", "6"]) == 0
    assert cli.main(["plot", state, "--kind", kind, "-o", data.out]) == 0
    expected = data.report(bins=6)
    assert drawn[0][0].calibration_bins == expected.calibration_bins
    assert drawn[0][0].loss_histogram == expected.loss_histogram
    text = Path(state).read_text().replace('"complete": true', '"complete": false')
    Path(state).write_text(text)
    capsys.readouterr()
    assert cli.main(["plot", state, "--kind", kind, "-o", data.out]) == 0
    assert "not complete" in capsys.readouterr().err


# ---- errors ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["--kind", "histogram", "-o", "{folder}/a.jpg"], 2, "does not end with a format"),
        (["--kind", "histogram", "-o", "{folder}/a"], 2, ".png, .svg, .pdf"),
        (["--kind", "histogram", "-o", "{folder}/none/a.png"], 1, "is not a folder"),
        (["--kind", "comparison", "-o", "{folder}/a.png"], 2, "needs --other FILE"),
        (["--kind", "histogram", "-o", "{folder}/a.png", "--other", "b"], 2, "--other goes with"),
        (["--kind", "histogram", "-o", "{folder}/a.png", "--length", "3"], 2, "--length goes with"),
        (["--kind", "position", "-o", "{folder}/a.png", "--bins", "3"], 2, "--bins goes with"),
        (["--kind", "histogram", "-o", "{folder}/a.png", "--ignore-index", "3"], 1, "target["),
        (["--kind", "comparison", "-o", "{folder}/a.png", "--other", "{folder}/t.npy"], 1, ""),
        (["--kind", "comparison", "-o", "{folder}/a.png", "--other", "{folder}/none.npy"], 1, "none.npy"),
    ],
)
def test_what_cannot_be_drawn(
    data: Data, capsys: Capture, arguments: list[str], code: int, text: str
) -> None:
    given = [argument.format(folder=data.folder) for argument in arguments]
    assert cli.main(["plot", data.logits, data.targets, *given]) == code
    assert text in error(capsys)
    assert not list(data.folder.glob("a*"))


@pytest.mark.parametrize(
    "arguments", [["-o", "a.png"], ["--kind", "pie", "-o", "a.png"], ["--kind", "histogram"]]
)
def test_bad_usage(data: Data, capsys: Capture, arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.main(["plot", data.logits, data.targets, *arguments])
    assert exit_.value.code == 2
    assert "usage: crossent plot" in capsys.readouterr().err


def test_positions_need_texts(data: Data, capsys: Capture) -> None:
    logits = data.save("flat", data.x.reshape(-1, 12))
    data.targets = data.save("flat_t", data.target.reshape(-1))
    assert _draw(data, "position", logits=logits) == 2
    assert "pass --length N" in error(capsys)


@pytest.mark.parametrize("kind", plot.__all__)
def test_no_input_is_overwritten(data: Data, capsys: Capture, kind: str) -> None:
    more = ["--other", data.other] if kind == "comparison" else []
    named = [data.logits, data.targets] + ([data.other] if more else [])
    for name in named:
        link = data.folder / "link.png"
        link.unlink(missing_ok=True)
        link.symlink_to(name)
        before = Path(name).read_bytes()
        assert _draw(data, kind, *more, out=str(link)) == 2
        assert "would overwrite it" in error(capsys)
        assert Path(name).read_bytes() == before
        assert link.is_symlink()


def test_states_that_cannot_be_drawn(data: Data, capsys: Capture) -> None:
    state, other = str(data.folder / "run.json"), str(data.folder / "other.json")
    assert cli.main(["score", data.logits, data.targets, "--resume", state]) == 0
    assert cli.main(["compare", data.logits, data.other, data.targets, "--resume", other]) == 0
    Path(data.folder / "wrong.json").write_text("{}")
    capsys.readouterr()
    for name, more, code, text in (
        (state, [data.targets, "--kind", "histogram"], 2, "takes no TARGETS"),
        (state, ["--kind", "position"], 2, "no positions"),
        (state, ["--kind", "reliability", "--bins", "3"], 2, "leave out --bins"),
        (other, ["--kind", "histogram"], 1, "state of `crossent compare`"),
        (str(data.folder / "wrong.json"), ["--kind", "histogram"], 1, "not the state of a run"),
        (str(data.folder / "none.json"), ["--kind", "histogram"], 1, "none.json"),
    ):
        assert cli.main(["plot", name, *more, "-o", data.out]) == code
        assert text in error(capsys)
    assert not Path(data.out).exists()


@pytest.mark.parametrize("kind", plot.__all__)
def test_no_row_is_counted(data: Data, capsys: Capture, kind: str) -> None:
    data.targets = data.save("ignored", np.full((20, 40), -100))
    more = ["--other", data.other] if kind == "comparison" else []
    assert _draw(data, kind, *more) == 1
    assert "no row of" in error(capsys)
    assert not Path(data.out).exists()


def test_no_bins_no_reliability_diagram(data: Data, capsys: Capture) -> None:
    state = str(data.folder / "run.json")
    assert cli.main(["score", data.logits, data.targets, "--resume", state, "--bins", "0"]) == 0
    capsys.readouterr()
    assert cli.main(["plot", state, "--kind", "reliability", "-o", data.out]) == 1
    assert "calibration_bins" in error(capsys)


def test_without_matplotlib_the_error_says_what_to_install(data: Data) -> None:
    code = "import sys; sys.modules['matplotlib'] = None; from crossent._cli import main; sys.exit(main())"
    arguments = ["plot", data.logits, data.targets, "--kind", "histogram", "-o", data.out]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "pip install 'crossent[plot]'" in done.stderr


def test_an_error_leaves_the_picture_of_before(
    data: Data, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(data.out).write_bytes(b"before")

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(plot, "histogram", interrupt)
    assert _draw(data, "histogram") == 130
    assert "no picture was written" in capsys.readouterr().err
    assert Path(data.out).read_bytes() == b"before"


def test_matplotlib_is_loaded_by_pictures_alone(data: Data) -> None:
    code = "import sys; from crossent._cli import main; main(); sys.exit('matplotlib' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code, "score", data.logits, data.targets], capture_output=True, check=False
    )
    assert done.returncode == 0
