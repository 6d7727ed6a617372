# The handbook's commands. They need make and a Python 3.11 or newer with its venv module; the rest goes into .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

SOURCES := $(wildcard notebooks/*.py)
TWINS := $(wildcard $(SOURCES:.py=.ipynb))

START := $(shell date +%s)
ELAPSED = seconds=$$(($$(date +%s) - $(START))); echo "Took $$((seconds / 60)) min $$((seconds % 60)) s."

.DEFAULT_GOAL := help
.NOTPARALLEL:  # two installations into one .venv must not meet
.PHONY: help handbook test lab sync bench bench-gpu lint clean

help:  ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

handbook: $(VENV)/.installed  ## install, then execute every notebook in the smoke profile
	@$(BIN)/mmkd notebooks --profile smoke
	@$(ELAPSED)
	@echo "To read them in JupyterLab: make lab"

# loadscope keeps the cells of one notebook in one process, where they need each other.
test: $(VENV)/.installed-test  ## install the test tools, then lint, run all tests and all notebooks
	$(BIN)/ruff check .
	$(BIN)/python -m pytest -n 2 --dist loadscope \
	    --nbval-lax --nbval-current-env --nbval-cell-timeout=600 tests $(TWINS)
	@$(ELAPSED)

lab: $(VENV)/.installed  ## open JupyterLab on the notebooks
	$(BIN)/jupyter-lab --LabApp.default_url=/lab/tree/notebooks

# The first step leaves only the cells and their ids, the second fills in the source:
# so nothing of an execution or of an editor survives, and ids do not change with every call.
sync: $(VENV)/.installed  ## make the notebooks' .ipynb twins anew from their .py sources
	$(if $(TWINS),$(BIN)/jupyter-nbconvert --log-level=WARN --inplace --clear-output \
	    --ClearMetadataPreprocessor.enabled=True --ClearMetadataPreprocessor.preserve_nb_metadata_mask=[] $(TWINS))
	$(BIN)/jupytext --quiet --to ipynb --update $(SOURCES)

bench: $(VENV)/.installed  ## measure speed as ratios against limits, and write the README's table
	@$(BIN)/mmkd bench --write
	@$(ELAPSED)

bench-gpu: $(VENV)/.installed  ## measure ten stacked seeds against ten in a row on a GPU
	@$(BIN)/mmkd bench --device cuda --write
	@$(ELAPSED)

lint: $(VENV)/.installed-test  ## check the code with ruff
	$(BIN)/ruff check .

clean:  ## remove caches and build leftovers; .venv and runs/ stay
	rm -rf build dist *.egg-info .hypothesis .pytest_cache .ruff_cache
	find mmkd_lib notebooks tests -depth \( -name __pycache__ -o -name .ipynb_checkpoints \) -exec rm -rf {} \;

# A stamp older than pyproject.toml means that there is something to install; otherwise pip is not called.

$(BIN)/pip:  # made last by venv: it is missing when an earlier creation was cut short
	@$(PYTHON) -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	    echo "'$(PYTHON)' must be Python 3.11 or newer with its venv module (Debian, Ubuntu: package python3-venv);" \
	         "name another one like this: make handbook PYTHON=python3.12"; exit 1; } >&2
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(BIN)/pip
	@echo "Installing the handbook into $(VENV)."
	@ls -d $(VENV)/lib/python3*/site-packages/torch >/dev/null 2>&1 || { \
	    echo "On Linux this downloads about 3 GB (6 GB on disk), most of it torch with CUDA, in silence for minutes."; \
	    echo "For torch's small CPU build stop here (Ctrl-C), install that into $(VENV) first, and call make again."; }
	@$(PIP) --editable .
	@touch $@

$(VENV)/.installed-test: pyproject.toml $(VENV)/.installed
	@echo "Installing the test tools into $(VENV): about 120 MB to download, 0.5 GB on disk."
	@$(PIP) --editable '.[test,cluster,bert]'
	@touch $@
