"""Use an installed crossent as its users would, in an environment that holds only what it requires."""

import importlib.metadata
import importlib.util
import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

before = set(sys.modules)

import crossent  # noqa: E402
from crossent import _core  # noqa: E402

loaded = {name.partition(".")[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)
assert loaded <= {"crossent", "numpy"}, f"import crossent loads {sorted(loaded)}"
assert "site-packages" in Path(crossent.__file__).parts, f"{crossent.__file__} is not the installed package"
assert crossent.__version__ == importlib.metadata.version("crossent")
for absent in ("torch", "scipy", "ml_dtypes"):
    assert importlib.util.find_spec(absent) is None, (
        f"{absent} is here: this proves nothing about the requirements"
    )

logits, target = np.zeros((3, 4), np.float32), np.array([0, 3, -100])
loss = crossent.cross_entropy(logits, target)
assert type(loss) is np.float32, type(loss)
assert math.isclose(loss, math.log(4), rel_tol=1e-6), loss
assert np.allclose(crossent.softmax(logits), 0.25, rtol=1e-6)

with tempfile.TemporaryDirectory() as folder:
    np.save(f"{folder}/logits.npy", logits)
    np.save(f"{folder}/targets.npy", target)
    script = Path(sys.executable).with_name("crossent")
    for command in ([script], [sys.executable, "-I", "-m", "crossent"]):
        done = subprocess.run(
            [*command, "score", "logits.npy", "targets.npy", "--json"],
            cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        result = json.loads(done.stdout)
        assert (result["count"], result["ignored"]) == (2, 1), result
        assert math.isclose(result["perplexity"], 4.0, rel_tol=1e-6), result

extension = Path(_core.__file__ or "").name
python = f"Python {sys.version.partition(' ')[0]}{sys.abiflags if hasattr(sys, 'abiflags') else ''}"
print(
    f"crossent {crossent.__version__} works as installed, with numpy {np.__version__} on {python}: {extension}"
)
