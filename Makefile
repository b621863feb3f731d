# The commands of this project. `make help` lists them; they need a Rust tool chain, a C compiler and Python 3.11 or newer,
# and keep what they install inside .venv. pip's and cargo's own environment variables are respected.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# Only `make check` does several things at once, once that all they need is there.
ifndef AT_ONCE
.NOTPARALLEL:
endif
.SUFFIXES:
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-builtin-rules

# The interpreter that makes the environment: the first of these that is new enough.
CANDIDATES := python3.11 python3 python3.14 python3.13 python3.12 python
PYTHON ?= $(shell for p in $(CANDIDATES); do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$p"; break; }; done)
VENV ?= .venv
PY := $(VENV)/bin/python
# Extra arguments for pytest, as in `make test PYTEST_ARGS="-k threads"`.
PYTEST_ARGS ?=
# Processes that share the Python tests, one for each core and four at most; 0 runs them in pytest itself, as --pdb needs it.
WORKERS ?= logical
# `make test PARITY=no` needs no torch, JAX and lm-evaluation-harness, and leaves out the comparisons with them.
PARITY ?= yes
ifeq ($(and $(filter yes no,$(PARITY)),$(filter 1,$(words $(PARITY)))),)
$(error PARITY is yes or no, got '$(PARITY)')
endif

# Tests hand options on as dictionaries, give wrong values on purpose, and call packages without types.
MYPY_TESTS := --disable-error-code=arg-type --disable-error-code=call-overload --no-warn-return-any --allow-untyped-calls

export PIP_DISABLE_PIP_VERSION_CHECK := 1
# The tests begin a thousand processes: each would compile NumPy's sources, and all others that it imports, by itself.
unexport PYTHONDONTWRITEBYTECODE
# One interpreter for every cargo call, so that none of them makes the binding compile again.
export PYO3_PYTHON := $(abspath $(PY))

RUST_SOURCES := Cargo.toml .cargo/config.toml $(wildcard Cargo.lock) $(shell find src -name '*.rs')
PIP_INSTALL := $(PY) -m pip install --quiet --no-compile
MATURIN := env -u CONDA_PREFIX PIP_QUIET=1 VIRTUAL_ENV="$(abspath $(VENV))" $(VENV)/bin/maturin

.PHONY: help demo test test-rust test-python check check-rust check-python check-layers check-docs check-wheel
.PHONY: check-instructions record-instructions check-bits record-bits arm sanitize bench docs format clean
.PHONY: check-workflows test-lowest test-parallel

help: ## List these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-20s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)/built ## Build and install into .venv, then score the two examples
	@echo
	@echo "A softmax regression on held-out images of handwritten digits:"
	$(VENV)/bin/crossent score examples/data/digits_logits.npy examples/data/digits_targets.npy
	@echo
	@echo "A character model on a held-out part of the documentation, with float16 logits:"
	$(VENV)/bin/crossent score examples/data/docs_logits.npy examples/data/docs_targets.npy

TEST_EXTRAS := $(VENV)/extra-test.txt $(if $(filter yes,$(PARITY)),$(VENV)/extra-parity.txt)

test: test-rust test-python ## Run the Rust and the Python tests (PARITY=no: without torch, JAX and lm-evaluation-harness)
	@[ $(PARITY) = yes ] || echo "All tests passed, but PARITY=no: those that need torch, JAX or lm-evaluation-harness ran only where .venv had them already."

test-rust: $(VENV)/made
	cargo test

SHARED = --numprocesses=$(WORKERS) --maxprocesses=4 --dist=worksteal

test-python: $(VENV)/built $(TEST_EXTRAS)
	$(PY) -m pytest $(SHARED) $(PYTEST_ARGS)

# The longest come first. Each prints its output in one piece when it ends, which make can do from 4.0 on: an older one, as
# macOS has it, runs one after another.
CHECKS := check-docs check-python check-instructions check-rust check-wheel check-layers check-workflows
CORES = $(shell getconf _NPROCESSORS_ONLN)
TOGETHER = $(if $(filter output-sync,$(.FEATURES)),--jobs=$(CORES) --output-sync=target AT_ONCE=yes)

check: $(VENV)/built $(VENV)/extra-check.txt $(VENV)/extra-docs.txt $(TEST_EXTRAS) ## Lints, types, layers, instructions, workflows, docs, wheel
	@$(MAKE) --no-print-directory $(TOGETHER) $(CHECKS)
	@echo "All checks passed."

check-rust: $(VENV)/made
	cargo metadata --locked --format-version 1 >/dev/null
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	cargo clippy --all-targets --all-features -- -D warnings

check-python: $(VENV)/built $(VENV)/extra-check.txt $(TEST_EXTRAS)
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m mypy
	$(PY) -m mypy $(MYPY_TESTS) --exclude typed_calls tests
	$(PY) -m mypy.stubtest crossent._core --mypy-config-file pyproject.toml
	PATH="$(abspath $(VENV))/bin:$$PATH" $(PY) -m pyright
	PATH="$(abspath $(VENV))/bin:$$PATH" $(PY) -m pyright --verifytypes crossent --ignoreexternal  # NumPy's and Matplotlib's own types have gaps

check-layers: $(VENV)/made
	$(PY) tools/check_layers.py

# What GitHub would refuse, and what others could misuse. actionlint comes from no registry as a program: it runs where it
# is installed, and in CI.
check-workflows: $(VENV)/extra-check.txt
	$(VENV)/bin/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(VENV)/bin/zizmor --offline --no-progress --quiet --persona pedantic .github
	@if command -v actionlint >/dev/null; then actionlint; else echo "actionlint is not installed: it did not run."; fi

# Instructions an element of the main kernels, which noise cannot change, and spills in their innermost loops.
check-instructions: $(VENV)/built $(VENV)/extra-test.txt
	$(PY) tools/count_instructions.py

record-instructions: $(VENV)/built $(VENV)/extra-test.txt ## Record the kernels' instruction counts, after an intended change
	$(PY) tools/count_instructions.py --record

# `make test-rust` compares the hashes too: here those of the optimised code, which takes minutes to compile.
check-bits: $(VENV)/made ## Compare the hashes of all results with tests/bits.txt, at every instruction set here
	cargo test --release --test api -- bits_ --nocapture

record-bits: $(VENV)/made ## Record the hashes of all results, after an intended change (x86-64 with AVX2)
	CROSSENT_RECORD_BITS=1 cargo test --release --test api -- bits_

arm: ## Run the Rust tests and compare the hashes on aarch64, under emulation where this is no Arm machine
	tools/arm.sh

# The extension under AddressSanitizer, in a copy of the package that .venv does not know: its own target folder too. What is
# unstable in rustc is asked for by name; assertions are on, of the standard library's unsafe functions too.
SANITIZED := build/sanitize
HOST = $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')

sanitize: $(VENV)/built $(TEST_EXTRAS) ## Run the Python tests on an extension under AddressSanitizer (PYTEST_ARGS)
	RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=address -C force-frame-pointers=yes" \
		CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_DEBUG=line-tables-only \
		CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS=true \
		cargo build --release --lib --features python --target $(HOST) --target-dir $(SANITIZED)/target
	rm -rf $(SANITIZED)/python
	mkdir -p $(SANITIZED)/python
	cp -r python/crossent $(SANITIZED)/python/
	rm -f $(SANITIZED)/python/crossent/_core*.so
	cp $(SANITIZED)/target/$(HOST)/release/libcrossent.so $(SANITIZED)/python/crossent/_core.abi3.so
	$(PY) tools/sanitize.py $(SANITIZED)/python $(PYTEST_ARGS)

# An environment of its own, with the oldest versions that pyproject.toml allows of what it names.
test-lowest: $(VENV)/made ## Run the Python tests with the oldest versions of all dependencies (PYTEST_ARGS)
	rm -rf build/lowest
	$(PIP_INSTALL) 'uv>=0.5'
	$(VENV)/bin/uv venv --quiet --python $(PY) build/lowest
	$(VENV)/bin/uv pip install --quiet --python build/lowest --resolution lowest-direct '.[test]'
	build/lowest/bin/python -m pytest $(SHARED) $(PYTEST_ARGS)

# Each of these tests on several threads at once, for interpreters without the global lock. Those with mpmath and with
# tracemalloc run alone: there is one number of digits, and one peak of memory, for all threads.
ON_THREADS := $(addprefix tests/,$(addprefix losses/,test_linear.py test_row_axes.py test_semantics.py test_sharded.py \
	test_specials.py test_target_losses.py test_z_loss.py) numerics/test_layouts.py numerics/test_same_bits.py)

test-parallel: $(VENV)/built $(VENV)/extra-test.txt ## Run tests of the losses on several threads at once (PYTEST_ARGS)
	$(PIP_INSTALL) 'pytest-run-parallel>=0.10'
	$(PY) -m pytest --parallel-threads=4 -o thread_unsafe_functions=$$'mpmath.workdps\ntracemalloc.start' $(ON_THREADS) $(PYTEST_ARGS)

check-docs: docs

# What users get: the wheel, in an environment that holds nothing but its dependencies.
check-wheel: $(VENV)/made
	rm -rf build/dist build/wheel-env
	$(MATURIN) sdist --out build/dist
	$(MATURIN) build --release --compression-level 9 --interpreter "$(PYO3_PYTHON)" --out build/dist
	$(PY) tools/check_dist.py build/dist
	$(PY) -m venv build/wheel-env
	build/wheel-env/bin/python -m pip install --quiet build/dist/*.whl
	build/wheel-env/bin/python -I tools/smoke.py

bench: $(VENV)/built $(VENV)/extra-bench.txt ## Time the kernels, and the functions beside their peers
	cargo bench --bench kernels
	$(PY) benches/compare.py

docs: $(VENV)/built $(VENV)/extra-docs.txt ## Build the documentation into docs/_build/html
	rm -rf docs/api
	$(PY) -m sphinx -W --keep-going --quiet -b html docs docs/_build/html
	rm -rf target/doc docs/_build/html/rust
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps
	cp -r target/doc docs/_build/html/rust

format: $(VENV)/extra-check.txt ## Format the Rust and the Python code
	cargo fmt
	$(PY) -m ruff check --fix
	$(PY) -m ruff format

clean: ## Remove everything that these commands made
	rm -rf $(VENV) target build dist docs/_build docs/_pictures docs/api .mypy_cache .pytest_cache .ruff_cache .hypothesis
	rm -f python/crossent/_core*.so
	find python tests tools benches examples docs -name __pycache__ -type d -prune -exec rm -rf {} +

# The environment, the extension in it, and each list of extra requirements are made once, and again when their sources change.

$(VENV)/made:
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or newer was found. Name one: make PYTHON=/path/to/python" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) 'maturin>=1.9,<2'
	touch $@

$(VENV)/built: $(VENV)/made pyproject.toml $(RUST_SOURCES)
	$(MATURIN) develop --release
	touch $@

$(VENV)/extra-%.txt: pyproject.toml | $(VENV)/made
	$(PY) tools/install_extras.py $*
	touch $@
