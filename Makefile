PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
USER := $(VENV)/.installed
DEV := $(VENV)/.dev
DOCS := $(VENV)/.docs
PIP := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt

.PHONY: install dev demo docs test clean

# For users: what the commands need, into .venv.
install: $(USER)

# For contributors: the test tools, too.
dev: $(DEV)

# Made once; made again when what is installed changes.
$(USER): pyproject.toml constraints.txt
	@echo "Installing into $(VENV). PyTorch alone is some GB on Linux: README.md, Install, has a smaller one."
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -e .
	touch $(USER)

$(DEV): $(USER)
	$(PIP) -e ".[dev]"
	touch $(DEV)

$(DOCS): $(USER)
	$(PIP) -e ".[docs]"
	touch $(DOCS)

demo: $(USER)
	$(BIN)/yolo-slim demo

# The pages as a site, in site/. A link that leads nowhere is an error.
docs: $(DOCS)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet
	@echo "Open site/index.html"

test: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/mypy
	if [ -x $(BIN)/lint-imports ]; then $(BIN)/lint-imports --no-logo; fi  # needs Python 3.11
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist worksteal

clean:
	rm -rf $(VENV) build site *.egg-info
