# Two commands for a fresh Debian or Ubuntu machine with Python 3.10 to 3.13, g++ and make:
#
#   make demo                  everything from rendered photos of a part to verdicts, in ./demo
#   make demo DATA=FOLDER      the same on your own photos
#   make test                  lint, types, C++ format and every test
#   make test-mqtt             the tests that need a real MQTT broker (apt install mosquitto)
#   make test-aravis           the tests that need Aravis' fake camera (apt install aravis-tools)
#   make test-systemd          the test that has systemd check the example of a service
#   make test-slow             tests that train and export a model of every data set's layout and of the paper; minutes
#   make docs                  the documentation as a site that needs no network, in build/site
#   make fuzz MINUTES=10       hostile input for whatever reads any (docs/reliability.md)
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
# Each process takes half of the tests in their order, so that what a file or folder shares is made once, and then steals.
PYTEST_FLAGS ?= -n 2 --dist worksteal
WHEELS_FLAGS ?=
BIN := .venv/bin
CXX_FILES := $(wildcard csrc/*.h csrc/*.hpp csrc/*.cpp csrc/*.inl csrc/python/*.hpp csrc/python/*.cpp)
FORMATTED := $(CXX_FILES) $(wildcard csrc/tests/*.[ch] csrc/tests/*.cpp examples/*/*.c examples/*/*.[ch]pp)

.PHONY: demo test install lint types format-check format pytest build clean
.PHONY: test-slow test-browser test-fused test-mqtt test-aravis test-systemd sanitize sanitize-python fuzz
.PHONY: wheels wheels-check test-arm docs

demo: install
	$(BIN)/rstpm-edge demo $(if $(DATA),--data '$(DATA)')

test: install lint types format-check pytest

test-slow: install
	$(BIN)/python -m pytest -m slow

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
	$(BIN)/lint-imports --no-logo --no-cache

types: install
	$(BIN)/mypy

format-check: install
	$(BIN)/clang-format --dry-run -Werror $(FORMATTED)

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(FORMATTED)

pytest: install
	$(BIN)/python -m pytest $(PYTEST_FLAGS)

# The fused model in ONNX Runtime's C++ interface, too, whose headers come from no Python package.
test-fused: install
	@test -n '$(ONNXRUNTIME_ROOT)' || { echo 'name the folder that has include/ and lib/ of ONNX Runtime:' \
	  'make test-fused ONNXRUNTIME_ROOT=/usr, after apt install libonnxruntime-dev' >&2; exit 2; }
	ONNXRUNTIME_ROOT='$(abspath $(ONNXRUNTIME_ROOT))' $(BIN)/python -m pytest tests/examples/test_fused.py

# The C library's tests with AddressSanitizer and UndefinedBehaviorSanitizer, or with ThreadSanitizer. With all
# optimisations, what these add takes the compiler three times as long.
SANITIZE ?= address,undefined
comma := ,
SANITIZED := build/sanitize/$(firstword $(subst $(comma), ,$(SANITIZE)))
sanitize: install
	$(BIN)/cmake -S csrc -B $(SANITIZED) -DRSTPM_EDGE_WERROR=ON -DRSTPM_EDGE_SHARED=OFF \
	  -DRSTPM_EDGE_SANITIZE=$(SANITIZE) -DCMAKE_CXX_FLAGS_RELEASE=-O1
	$(BIN)/cmake --build $(SANITIZED) --parallel 2
	$(BIN)/ctest --test-dir $(SANITIZED) --output-on-failure

# The tests that call the extension, on one that is built with the same sanitizers. Python has none of them, so that
# their libraries come first, and leaks are not looked for: Python itself leaves much behind.
SANITIZED_TESTS ?= tests/fuzz tests/postprocess tests/image/test_damaged_images.py tests/image/test_resize.py
sanitize-python: install
	RSTPM_EDGE_SANITIZE=address,undefined RSTPM_EDGE_JOBS=2 $(BIN)/python setup.py --quiet build \
	  --build-base build/sanitize-python --build-lib build/sanitize-python/lib
	PYTHONPATH=$(CURDIR)/build/sanitize-python/lib ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 \
	  LD_PRELOAD="$$(for name in libasan.so libubsan.so libstdc++.so.6; do $(CXX) -print-file-name=$$name; done | xargs)" \
	  $(BIN)/pytest $(PYTEST_FLAGS) -m 'not training and not checkout' $(SANITIZED_TESTS)

MINUTES ?= 10
fuzz: install
	$(BIN)/python tools/fuzz.py --minutes $(MINUTES) $(FUZZ_FLAGS)

# The HTML report and the pages of `rstpm-edge roi` and `serve` in a headless Chromium, which not every machine has.
test-browser: install
	@command -v chromedriver >/dev/null || { echo 'No chromedriver here: apt install chromium chromium-driver'; exit 1; }
	RSTPM_EDGE_NO_SKIPS=1 $(BIN)/python -m pytest -m browser $(BROWSER_FLAGS) tests/training/report/test_browser.py tests/outputs/test_roi_page.py \
	  tests/station/page tests/tools/test_soak.py

test-mqtt: install
	$(BIN)/python -m pytest -m mosquitto tests/outputs/test_mosquitto.py

test-aravis: install
	$(BIN)/python -m pytest -m aravis tests/sources/aravis

test-systemd: install
	$(BIN)/python -m pytest -m systemd tests/examples

# The documentation as a site, in build/site: warnings are errors, links and anchors are checked.
docs: install
	NO_MKDOCS_2_WARNING=1 PYTHONPATH=$(CURDIR) $(BIN)/mkdocs build --quiet

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
