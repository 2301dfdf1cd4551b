# Everything a reader needs: `make demo`, `make test`, `make lab`. `make help` lists the rest.
# A Python of one's own: make demo PYTHON=/path/to/python3.12

SHELL := /bin/bash
VENV := .venv
PY := $(VENV)/bin/python
CANDIDATES := $(if $(PYTHON),$(PYTHON),python3.13 python3.12 python3.11 python3)
NBVAL := --nbval-lax --nbval-current-env --nbval-cell-timeout=900
# What a step computes must not depend on what else is set for matplotlib or Jupyter.
CLEAN_ENV := env -u MPLBACKEND -u JUPYTER_PATH JUPYTER_PREFER_ENV_PATH=1 GOMP_SPINCOUNT=3000

.PHONY: help demo demo-ct audit report course lab test test-all lint unit nbval end-to-end notebooks-beside-studies test-benchmarks test-cluster test-browser mutants docs benchmark ladder ladder-trials ladder-ct notebooks expected clean

# Notebook 04 draws curves over budgets: 03 also runs at these, beside itself, with a thread each.
OTHER_BUDGETS := 0.29 1.06
PRIVATE := $(wildcard notebooks/03_*.ipynb)
BEFORE := $(sort $(wildcard notebooks/0[12]_*.ipynb))
AFTER := $(filter-out $(BEFORE) $(PRIVATE),$(sort $(wildcard notebooks/*.ipynb)))
define private_runs
	export OMP_NUM_THREADS=1; started=""; failed=""; \
	for epsilon in $(OTHER_BUDGETS); do \
	  $(PY) run_notebook.py $(PRIVATE) --to $$folder/other_budgets/epsilon$$epsilon \
	    --parameters "{\"EPSILON\": $$epsilon}" & started="$$started $$!"; \
	done; \
	$$each $(PRIVATE) || failed=yes; \
	for process in $$started; do wait $$process || failed=yes; done; \
	unset OMP_NUM_THREADS; test -z "$$failed"
endef

help:  ## show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1 -- \2/p' Makefile

demo: $(VENV)/.installed  ## run the study on the embedded cohort, into results/
	@$(PY) run_all.py --profile demo --out results

demo-ct: $(VENV)/.installed  ## run the second study, pancreatic cancer on CT, into results_ct/
	@$(PY) run_all.py --profile demo_ct --out results_ct

audit: $(VENV)/.installed  ## the demo's main runs, and attacks on 64 small models of each way of training, into results_audit/ (20 minutes)
	@$(PY) run_all.py --profile audit --out results_audit

report: $(VENV)/.installed  ## write index.html of a results folder again: make report RESULTS=folder
	@$(PY) -m helpers.study $(or $(RESULTS),results)

course: demo  ## make the course's exercises and solutions from course/source/, and execute the solutions on results/
	@$(PY) course/make_notebooks.py && RESULTS_DIR=$(CURDIR)/results $(PY) run_notebook.py course/solutions/*.ipynb

# Settings of .jupyter/ are read beside the user's own: START.md first, rendered, and no question about news.
lab: $(VENV)/.installed  ## open START.md in JupyterLab: the notebooks in order; elsewhere: make lab OPTIONS=--no-browser
	$(CLEAN_ENV) JUPYTER_CONFIG_PATH=$(CURDIR)/.jupyter $(PY) -m jupyterlab $(OPTIONS)

test: lint unit notebooks-beside-studies  ## run all tests but the slow ones

test-all: SLOW := or slow
test-all: lint unit notebooks-beside-studies test-benchmarks mutants  ## run all tests

lint: $(VENV)/.installed  ## check style, format, and which module imports which
	@$(VENV)/bin/ruff check --quiet .
	@$(VENV)/bin/ruff format --check --quiet . || { $(VENV)/bin/ruff format --check .; exit 1; }
	@contracts=$$($(VENV)/bin/lint-imports 2>&1) || { echo "$$contracts"; exit 1; }

unit: $(VENV)/.installed  ## run the tests of the helpers
	$(CLEAN_ENV) OMP_NUM_THREADS=1 $(PY) -m pytest tests/unit -q -n 2 --durations=15 -m "not slow $(SLOW)"

nbval: $(VENV)/.installed  ## execute the notebooks with their defaults and compare with the stored outputs; then the course
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && export RESULTS_DIR=$$folder && \
	test="$(CLEAN_ENV) $(PY) -m pytest -q --durations=5 -p no:cacheprovider" && each="$$test $(NBVAL)" && \
	$$each $(BEFORE) && { $(private_runs); } && $$each $(AFTER) && $$each course/solutions && $$test tests/course -m "not slow $(SLOW)"

end-to-end: $(VENV)/.installed  ## run small studies as a user would
	$(CLEAN_ENV) $(PY) -m pytest tests/end_to_end -q -n 2 --dist loadfile --durations=15 -m "not slow $(SLOW)"

# Both wait for kernels to start and for single threads: side by side they take two thirds of the time.
notebooks-beside-studies: $(VENV)/.installed  ## both of these, side by side
	@log=$$(mktemp); OMP_NUM_THREADS=1 $(MAKE) --no-print-directory nbval SLOW="$(SLOW)" >$$log 2>&1 & notebooks=$$!; \
	trap "kill $$notebooks; exit 130" INT TERM; \
	$(MAKE) --no-print-directory end-to-end SLOW="$(SLOW)"; studies=$$?; \
	wait $$notebooks; notebooks=$$?; cat $$log; rm -f $$log; \
	test $$studies -eq 0 -a $$notebooks -eq 0

test-benchmarks: $(VENV)/.installed  ## run the tests of benchmarks/
	$(CLEAN_ENV) $(PY) -m pytest tests/benchmarks -q --durations=5 -m "not slow $(SLOW)"

test-cluster: $(VENV)/.installed  ## run studies on Dask workers and, where it is installed, in a Slurm of this machine
	$(CLEAN_ENV) $(PY) -m pytest tests/cluster -q --durations=5

test-browser: $(VENV)/.installed  ## run the notebooks in JupyterLab, and look through site and report, in the system's Chromium
	$(CLEAN_ENV) OMP_NUM_THREADS=1 $(PY) -m pytest tests/browser -q -n 2 --dist loadfile -rs --durations=15

mutants: $(VENV)/.installed  ## plant privacy faults one at a time and demand that a unit test notices each
	@$(CLEAN_ENV) $(PY) tests/mutants.py

docs: $(VENV)/.installed  ## build the site from stored outputs, into docs/_build/html/
	@$(PY) -m sphinx -W --keep-going -q docs docs/_build/html
	@echo "docs/_build/html/index.html"

benchmark: $(VENV)/.installed  ## time a private step beside the alternatives, into benchmarks/results/
	@$(CLEAN_ENV) $(PY) benchmarks/private_step.py
	@$(PY) benchmarks/private_step.py --figure

ladder: $(VENV)/.installed  ## train all ways at all budgets with three seeds, into benchmarks/results/ (hours; the same command goes on)
	@$(CLEAN_ENV) $(PY) benchmarks/ladder.py --scratch results_ladder
	@$(PY) benchmarks/private_step.py --figure

ladder-trials: $(VENV)/.installed  ## the trials on the tuning cohort from which the ladder takes its settings (hours; the same command goes on)
	@$(CLEAN_ENV) $(PY) benchmarks/ladder.py --tune --scratch results_ladder

ladder-ct: $(VENV)/.installed  ## the same of CT: trials, then all budgets with three seeds (the same command goes on)
	@$(CLEAN_ENV) $(PY) benchmarks/ct.py --tune --scratch results_ladder
	@$(CLEAN_ENV) $(PY) benchmarks/ct.py --scratch results_ladder
	@$(PY) benchmarks/private_step.py --figure

notebooks: $(VENV)/.installed  ## execute the notebooks with their defaults and store their outputs in them
	@folder=$(CURDIR)/results_notebooks && rm -rf $$folder && export RESULTS_DIR=$$folder && \
	each="$(PY) run_notebook.py" && $$each $(BEFORE) && { $(private_runs); } && $$each $(AFTER)

expected: $(VENV)/.installed  ## renew the expected numbers of demo, demo_ct and smoke, and README's tables
	$(PY) run_all.py --profile demo --out results
	$(PY) run_all.py --profile smoke --out results_smoke
	$(PY) -m helpers.study.summary_table results demo
	$(PY) run_all.py --profile demo_ct --out results_ct
	$(PY) -m helpers.study.summary_table results_ct demo_ct
	$(PY) -m helpers.study.summary_table results_smoke smoke

clean:  ## remove the environment and caches; results stay, they may have taken days
	rm -rf $(VENV) *.egg-info .pytest_cache .ruff_cache .import_linter_cache docs/_build docs/_generated results_notebooks
	find . -name __pycache__ -prune -exec rm -rf {} +

# The stamp is newer than what it was made from: a second `make` starts at once.
$(VENV)/.installed: requirements.txt constraints.txt pyproject.toml
	@python=""; found=""; \
	for candidate in $(CANDIDATES); do \
	  version=$$($$candidate -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue; \
	  found="$$found $$candidate ($$version)"; \
	  case $$version in 3.11|3.12|3.13) ;; *) continue ;; esac; \
	  $$candidate -c 'import venv, ensurepip' 2>/dev/null || { found="$$found without venv"; continue; }; \
	  python=$$candidate; break; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "Expected Python 3.11, 3.12 or 3.13 with the module venv (Debian, Ubuntu: apt install python3-venv), and 6 GB" \
	       "of disk; found:$${found:- no Python}. Install one, or name it: make demo PYTHON=/path/to/python3.12" >&2; exit 2; \
	fi; \
	free_kb=$$(df -Pk . | awk 'NR == 2 {print $$4}'); \
	if [ ! -x $(PY) ] && [ "$$free_kb" -lt 6600000 ]; then \
	  echo "Expected 6 GB of free disk here for the environment; found $$((free_kb / 1000000)) GB. Make room, or clone" \
	       "to another disk." >&2; exit 2; \
	fi; \
	echo "Installing into $(VENV) with $$python: about 6 GB of disk, some minutes."; \
	if [ ! -x $(PY) ]; then rm -rf $(VENV) && $$python -m venv $(VENV); fi
	@$(PY) -m pip install --quiet --disable-pip-version-check -r requirements.txt -c constraints.txt
	@$(PY) -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@
