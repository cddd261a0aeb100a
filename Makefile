PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test install clean

install: $(READY)

# Made once; made again when what is installed changes.
$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $(READY)

demo: $(READY)
	$(BIN)/yolo-slim demo

test: $(READY)
	$(BIN)/ruff check .
	$(BIN)/mypy
	if [ -x $(BIN)/lint-imports ]; then $(BIN)/lint-imports --no-logo; fi  # needs Python 3.11
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist worksteal

clean:
	rm -rf $(VENV) build *.egg-info
