# Each target works from a fresh clone as the only command; the first one installs everything into $(VENV).
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
# The checkout's place counts too: an editable install in a shared environment points to one checkout.
STAMP := $(VENV)/.installed-$(shell { cat constraints.txt pyproject.toml; pwd; } | sha256sum | cut -c1-16)

.PHONY: demo test test-slow check bench format docs install

demo: $(STAMP)
	$(BIN)/hs-data build --source demo --output demo
	$(BIN)/hs-data verify demo --decode 4

test: $(STAMP)
	# A file stays with one process, so that what its tests share is made once.
	$(BIN)/python -m pytest -q -n $$(nproc) --dist loadfile -m "not slow"

test-slow: $(STAMP)
	$(BIN)/python -m pytest -q -n $$(nproc) --dist loadfile -m slow

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/pyright --pythonpath $(abspath $(BIN))/python

bench: $(STAMP)
	$(BIN)/python benchmarks/run.py

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(STAMP)
	# The tables of settings and metrics, made from the code.
	$(BIN)/python docs/settings.py

install: $(STAMP)

$(STAMP): constraints.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e '.[dev]'
	# Three OpenCV distributions share one folder; the last one stays, and the headless one needs no libGL.
	$(BIN)/python -m pip install --disable-pip-version-check -q --force-reinstall --no-deps -c constraints.txt opencv-python-headless
	rm -f $(VENV)/.installed-*
	touch $@
