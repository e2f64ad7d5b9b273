# Two commands for a fresh Debian or Ubuntu machine with Python 3.10 to 3.13, g++ and make:
#
#   make demo                  everything from rendered photos of a part to verdicts, in ./demo
#   make demo DATA=FOLDER      the same on your own photos
#   make test                  lint, types, C++ format and every test
#
# PYTHON=python3.12 picks another interpreter; PIP_FLAGS='--extra-index-url https://download.pytorch.org/whl/cpu'
# takes the CPU build of torch, which is a tenth of the size.

PYTHON ?= python3
PIP_FLAGS ?=
PYTEST_FLAGS ?= -n 2
BIN := .venv/bin
CXX_FILES := $(wildcard csrc/*.h csrc/*.hpp csrc/*.cpp csrc/*.inl)

.PHONY: demo test test-browser install lint types format-check format pytest build clean

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

# The HTML report in a headless Chromium, which not every machine has.
test-browser: install
	@command -v chromedriver >/dev/null || { echo 'No chromedriver here: apt install chromium chromium-driver'; exit 1; }
	RSTPM_EDGE_NO_SKIPS=1 $(BIN)/python -m pytest -m browser tests/test_report_browser.py

clean:
	rm -rf .venv build dist demo *.egg-info rstpm_edge/*.so
