# `make book` and `make test` are the two commands. Both set up what they need: Python 3.11 or newer and make suffice.
#
#   PYTHON=python3.12 make book     another interpreter for the environment
#   NBSVD_BUDGET=full make book     train as long as the long results did (ci: seconds a lab; laptop: the default)

PYTHON ?= python3
VENV   ?= .venv
# "book" at its own pace; a book that is only built because the tests look at it, at theirs.
NBSVD_BUDGET ?= $(if $(filter book records,$(MAKECMDGOALS)),laptop,ci)

SHELL   := /bin/bash
BIN     := $(VENV)/bin
READY   := $(VENV)/.nbsvd-ready
BUILT   := _build/.nbsvd-built
SOURCES := $(shell find nbsvd book benchmarks/results _config.yml _toc.yml -type f ! -name '*.pyc' ! -path '*/.ipynb_checkpoints/*')

ifneq ($(words $(NBSVD_BUDGET)),1)
$(error NBSVD_BUDGET: got "$(NBSVD_BUDGET)"; expected one of ci, laptop, full)
endif
ifeq ($(filter $(NBSVD_BUDGET),ci laptop full),)
$(error NBSVD_BUDGET: got "$(NBSVD_BUDGET)"; expected one of ci, laptop, full)
endif
export NBSVD_BUDGET
# Jupyter's debugger otherwise complains about Python's own frozen modules.
export PYDEVD_DISABLE_FILE_VALIDATION := 1

.PHONY: help setup book test lint lab refresh records clean FORCE
.DELETE_ON_ERROR:

help:
	@echo "make book     set up, build the book, print where it is    (NBSVD_BUDGET=ci|laptop|full, default laptop)"
	@echo "make test     set up, check style, types and floors, run every test and every lab"
	@echo "make lab      open the labs in JupyterLab"
	@echo "make lint     the gates of 'make test' without the tests"
	@echo "make refresh  run the labs at the budget ci and store their outputs again"
	@echo "make records  run the labs at NBSVD_BUDGET and record what came out, for the run ledger"
	@echo "make clean    remove what was built; the environment in $(VENV) stays"

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "nbsvd needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) --version 2>&1). Try PYTHON=python3.12 make ..."; exit 1; }
	@$(PYTHON) -c "import ensurepip" 2>/dev/null || { echo "$(PYTHON) has no ensurepip, which makes virtual environments; on Debian install python3-venv."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --prefer-binary -c constraints.txt -e ".[book,test,dev,sklearn]"
	@touch $@

book: $(BUILT)
	@echo
	@echo "The book is at file://$(CURDIR)/_build/html/index.html"

# The stamp holds the budget. Asked for the book at another budget, build it again.
ifneq ($(filter book,$(MAKECMDGOALS)),)
ifneq ($(shell cat $(BUILT) 2>/dev/null),$(NBSVD_BUDGET))
$(BUILT): FORCE
endif
endif

# The cache of executed notebooks is keyed on their code cells only: it goes when the package, the data, the versions
# or the budget change. The pages are always built from nothing, for a page that Sphinx has seen before does not warn again.
$(BUILT): $(READY) $(SOURCES)
	@rm -rf $(BUILT) _build/html _build/.doctrees _build/jupyter_execute
	@mkdir -p _build
	@$(BIN)/python -c 'import hashlib, os, pathlib, sys; \
	  files = [p for root in ("nbsvd", "book", "benchmarks/results") for p in sorted(pathlib.Path(root).rglob("*")) if p.is_file()]; \
	  files = [p for p in files if p.suffix not in (".pyc", ".md", ".ipynb", ".bib")] + [pathlib.Path("constraints.txt")]; \
	  data = b"".join(str(p).encode() + p.read_bytes() for p in files); \
	  print(hashlib.sha256(data).hexdigest(), sys.version_info[:2], os.environ["NBSVD_BUDGET"])' > _build/.cache-key.new
	@cmp -s _build/.cache-key.new _build/.cache-key || rm -rf _build/.jupyter_cache
	@mv _build/.cache-key.new _build/.cache-key
	@$(BIN)/jupyter-book build . --path-output . -W -n --keep-going --all || { \
	  find _build/html/reports -name '*.err.log' -exec echo "=== {}" \; -exec cat {} \; 2>/dev/null; \
	  echo "The book was not built (NBSVD_BUDGET=$(NBSVD_BUDGET)): the warnings and errors above say why."; exit 1; }
	@echo $(NBSVD_BUDGET) > $@

FORCE:

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell

# One thread a process, two processes. --nbval runs the labs in book/labs and compares what their cells print.
# The notebooks' kernels write their own coverage files, which must agree with ours: hence --cov-config.
# Nothing follows pytest: its summary is the last line.
test: lint $(BUILT)
	@rm -f .coverage .coverage.*
	NBSVD_BUDGET=ci OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadscope \
	  --nbval --nbval-current-env --nbval-cell-timeout=900 \
	  --cov=nbsvd --cov-config=pyproject.toml --cov-report=term

lab: $(READY)
	$(BIN)/jupyter lab book/labs

# What is stored is what `make test` compares with: the same budget, the same threads, no times of execution, and what
# a cell prints in one piece (the kernel sends it in as many as it likes).
refresh: $(READY)
	NBSVD_BUDGET=ci OMP_NUM_THREADS=1 $(BIN)/jupyter nbconvert --to notebook --inplace --execute \
	  --ExecutePreprocessor.record_timing=False --ExecutePreprocessor.store_widget_state=False \
	  --ExecutePreprocessor.timeout=900 book/labs/*.ipynb
	$(BIN)/jupyter nbconvert --to notebook --inplace --CoalesceStreamsPreprocessor.enabled=True book/labs/*.ipynb
	$(BIN)/ruff format book/labs

# For the run ledger: say NBSVD_BUDGET=laptop or NBSVD_BUDGET=full, and LABS="hydrogen kernels" for some labs only.
records: $(READY)
	$(BIN)/python book/_templates/record_labs.py --budget $(NBSVD_BUDGET) $(LABS)

clean:
	rm -rf _build .coverage .coverage.* .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find nbsvd book tests -name __pycache__ -type d -prune -exec rm -rf {} +
