# Two commands for a fresh Debian or Ubuntu machine with Python 3.10 to 3.13, g++ and make:
#
#   make demo                  everything from rendered photos of a part to verdicts, in ./demo
#   make demo DATA=FOLDER      the same on your own photos
#   make test                  lint, types, C++ format and every test
#
# And for releases, on a machine that can fetch from PyPI (CONTRIBUTING.md says more):
#
#   make wheels                x86-64 and 64-bit Arm, CPython 3.10 to 3.13, tested; into dist
#   make wheels-check          builds them twice from nothing and compares the bytes
#   make test-arm              the runtime on an emulated 64-bit Arm processor (MODEL=FILE DATA=FOLDER: your own)
#
# PYTHON=python3.12 picks another interpreter; PIP_FLAGS='--extra-index-url https://download.pytorch.org/whl/cpu'
# takes the CPU build of torch, which is a tenth of the size.

PYTHON ?= python3
PIP_FLAGS ?=
PYTEST_FLAGS ?= -n 2
WHEELS_FLAGS ?=
BIN := .venv/bin
CXX_FILES := $(wildcard csrc/*.h csrc/*.hpp csrc/*.cpp csrc/*.inl)

.PHONY: demo test install lint types format-check format pytest build wheels wheels-check test-arm clean

demo: install
	$(BIN)/rstpm-edge demo $(if $(DATA),--data '$(DATA)')

test: install lint types format-check pytest

install: .venv/.installed

.venv/.installed: pyproject.toml setup.py $(CXX_FILES)
	@$(PYTHON) tools/check_python.py
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet $(PIP_FLAGS) --editable '.[dev]'
	touch $@

build: install
	$(BIN)/python setup.py --quiet build_ext --inplace

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

format-check: install
	$(BIN)/clang-format --dry-run -Werror $(CXX_FILES)

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CXX_FILES)

pytest: install
	$(BIN)/python -m pytest $(PYTEST_FLAGS)

wheels:
	@$(PYTHON) tools/check_python.py
	$(PYTHON) tools/build_wheels.py $(WHEELS_FLAGS)

wheels-check:
	@$(PYTHON) tools/check_python.py
	$(PYTHON) tools/build_wheels.py --twice --no-tests $(WHEELS_FLAGS)

test-arm: install
	$(BIN)/python tools/check_arm.py $(if $(MODEL),--model '$(MODEL)') $(if $(DATA),--images '$(DATA)')

clean:
	rm -rf .venv build dist demo *.egg-info rstpm_edge/*.so
