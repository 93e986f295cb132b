# `make` alone prints the targets.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
SOURCES := Cargo.toml Cargo.lock pyproject.toml $(shell find rust python -name '*.rs' -o -name '*.py' -o -name '*.pyi')

.PHONY: help demo test test-slow test-gpu bench bench-gpu lint format wheel clean check-tools

help:
	@echo "make demo       build, install and train a small network on real data"
	@echo "make test       lint, types, Rust and Python tests"
	@echo "make test-slow  the same with large counts"
	@echo "make test-gpu   on a machine with a GPU and CuPy: tests on the device, every kernel under compute-sanitizer"
	@echo "make bench      speed against peers, as ratios; writes .bench/*.json"
	@echo "make bench-gpu  the same on a GPU"
	@echo "make lint       formatting, lints and types alone"
	@echo "make format     rewrite the sources in the project's format"
	@echo "make wheel      build the wheel into dist/"
	@echo "make clean      remove everything that was built"

check-tools:
	@command -v cargo >/dev/null || { echo "stepsmith needs Rust to build: cargo was not found (https://rustup.rs)"; exit 1; }
	@command -v $(PYTHON) >/dev/null || { echo "stepsmith needs CPython 3.11 or later: $(PYTHON) was not found"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "stepsmith needs CPython 3.11 or later: $(PYTHON) is $$($(PYTHON) --version 2>&1)"; exit 1; }

$(VENV)/.installed: $(SOURCES) | check-tools
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'maturin>=1.9,<2' 'pip>=24'
	@rm -rf dist
	$(BIN)/maturin build --release --locked --quiet --interpreter $(BIN)/python --out dist
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(echo dist/*.whl)[test]"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps dist/*.whl
	@touch $@

demo: $(VENV)/.installed
	$(BIN)/stepsmith demo

lint: $(VENV)/.installed
	cargo fmt --check
	cargo clippy --quiet --all-targets -- -D warnings
	cargo clippy --quiet --all-targets --no-default-features -- -D warnings
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest stepsmith._core --ignore-missing-stub

test: lint
	cargo test --quiet --no-default-features --lib
	cargo test --quiet --no-default-features --lib -- --ignored
	$(BIN)/python -m pytest -m 'not slow'

test-slow: lint
	cargo test --quiet --no-default-features --lib
	cargo test --quiet --no-default-features --lib -- --ignored
	$(BIN)/python -m pytest

# With $(PYTHON)'s own packages, CuPy among them, and without a network; stepsmith is the installed one, else dist/'s.
test-gpu:
	$(PYTHON) tests/run_gpu.py

bench-gpu:
	$(PYTHON) benches/bench_gpu.py

# Peers join in where they are installed: .venv/bin/pip install '.[bench]' torch bitsandbytes torchao
bench: $(VENV)/.installed
	cargo bench --no-default-features
	$(BIN)/python benches/bench_optim.py
	$(BIN)/python benches/bench_folded.py
	$(BIN)/python benches/bench_norm.py
	$(BIN)/python benches/bench_activation.py
	$(BIN)/python benches/bench_quant.py
	$(BIN)/python benches/bench_train.py
	$(BIN)/python benches/bench_nn.py
	$(BIN)/python benches/import_time.py

format: $(VENV)/.installed
	cargo fmt
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix --quiet .

wheel: $(VENV)/.installed
	@ls dist/*.whl

clean:
	rm -rf target $(VENV) dist .bench .pytest_cache .mypy_cache .ruff_cache .hypothesis
