# What needs doing here, each with all the set-up that it needs. `make` alone lists it.
#
# Variables: PYTHON (which Python makes the environment), VENV (where it lies), PIP_ARGS (passed to every pip install),
# AIPERF_VENV (where AIPerf lies, which cannot share an environment with Podium).

PYTHON =
VENV = .venv
AIPERF_VENV = .venv-aiperf
PIP_ARGS =

SHELL = /bin/sh
BIN = $(VENV)/bin
STAMP = $(VENV)/.installed
AIPERF_STAMP = $(AIPERF_VENV)/.installed

# Shell functions for the recipes below.
#   timed WORDS COMMAND…: run it, then say how long it took; a failure ends the recipe.
#   quiet_pip_in VENV ARGUMENTS…: pip without its progress and warnings, unless it fails: then with everything it said.
#   quiet_pip ARGUMENTS…: the same in $(VENV).
define FUNCTIONS
set -eu
timed() {
  words=$$1; shift; begun=$$(date +%s)
  "$$@" || { code=$$?; printf '[%4d s] failed: %s\n' $$(($$(date +%s) - begun)) "$$words" >&2; exit $$code; }
  printf '[%4d s] %s\n' $$(($$(date +%s) - begun)) "$$words"
}
quiet_pip_in() {
  venv=$$1; shift; said=$$venv/.pip-said
  if $$venv/bin/python -m pip -q install --disable-pip-version-check $(PIP_ARGS) "$$@" >"$$said" 2>&1; then
    grep -v '^ *WARNING' "$$said" || :
    rm -f "$$said"
  else
    code=$$?; cat "$$said" >&2; rm -f "$$said"; return $$code
  fi
}
quiet_pip() { quiet_pip_in $(VENV) "$$@"; }
find_python() {
  for candidate in "$(PYTHON)" python3.11 python3; do
    [ -n "$$candidate" ] || continue
    if "$$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; then
      echo "$$candidate"; return
    fi
    [ -z "$(PYTHON)" ] || break
  done
  echo 'Podium needs Python 3.11 or 3.12; name one with `make PYTHON=/path/to/python3.11 …`' >&2
  return 1
}
endef
export FUNCTIONS
LOAD = eval "$$FUNCTIONS"; unset FUNCTIONS

.PHONY: help demo test test-slow test-properties aiperf bench bench-gpu base lint clean
.DEFAULT_GOAL := help

help:
	@echo 'make demo       install what is missing, then run the demo sweep (20 trials on this machine'\''s CPU)'
	@echo 'make test       install what is missing, then lint, types, import rules and tests'
	@echo 'make test-slow  the tests that take minutes'
	@echo 'make test-properties  the property tests, 1,000 new examples each'
	@echo 'make aiperf     install the load generator AIPerf, by which endpoints are timed, into $(AIPERF_VENV)'
	@echo 'make lint       ruff, mypy and import-linter alone'
	@echo 'make bench      measure the packed engine on this machine'\''s CPU, into tests/benchmarks/results/'
	@echo 'make bench-gpu  the same on an NVIDIA GPU, which needs 60 GiB of memory'
	@echo 'make base       pre-train the demo'\''s base model again, into recipes/commerce/base/'
	@echo 'make clean      remove caches and build outputs; sweeps (.podium), $(VENV) and $(AIPERF_VENV) stay'
	@echo
	@echo 'Variables: PYTHON (3.11 or 3.12), VENV ($(VENV)), AIPERF_VENV ($(AIPERF_VENV)), PIP_ARGS (passed to pip install).'

# One environment for everything, made again when the dependencies change.
$(STAMP): pyproject.toml constraints.txt
	@$(LOAD); \
	if ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
	  python=$$(find_python); \
	  timed "made $(VENV) with $$python" "$$python" -m venv $(VENV); \
	fi; \
	echo 'installing torch: a large download the first time …'; \
	timed 'installed torch' quiet_pip -c constraints.txt torch==2.13.0; \
	echo 'installing Podium and the rest …'; \
	timed "installed Podium with what it and its tests need" quiet_pip -c constraints.txt -e '.[dev]'; \
	touch $@

demo: $(STAMP)
	@$(LOAD); \
	timed 'demo' $(BIN)/podium submit sweeps/quickstart.yaml "name=quickstart-$$(date +%Y%m%d-%H%M%S)"

# Two files of tests at a time, many wait for a server, a process or a cluster; each on a core of its own. Should one of
# the two processes die, the run ends and names the test: with another in its place, loadfile would wait for ever.
test: lint
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --max-worker-restart=0

test-slow: $(STAMP) aiperf
	@PODIUM_AIPERF=$(abspath $(AIPERF_VENV)/bin/aiperf) $(BIN)/python -m pytest -m slow

aiperf: $(AIPERF_STAMP)

$(AIPERF_STAMP): constraints-aiperf.txt
	@$(LOAD); \
	if ! $(AIPERF_VENV)/bin/python -m pip --version >/dev/null 2>&1; then \
	  python=$$(find_python); \
	  timed "made $(AIPERF_VENV) with $$python" "$$python" -m venv $(AIPERF_VENV); \
	fi; \
	timed 'installed AIPerf' quiet_pip_in $(AIPERF_VENV) -r constraints-aiperf.txt; \
	touch $@

test-properties: $(STAMP)
	@HYPOTHESIS_PROFILE=search $(BIN)/python -m pytest -m hypothesis --timeout=1800

bench: $(STAMP)
	@$(BIN)/python -m tests.benchmarks

bench-gpu: $(STAMP)
	@$(BIN)/python -m tests.benchmarks.gpu

lint: $(STAMP)
	@$(LOAD); \
	timed 'ruff check' $(BIN)/ruff check .; \
	timed 'ruff format --check' $(BIN)/ruff format --check .; \
	timed 'mypy' $(BIN)/mypy; \
	timed 'lint-imports' $(BIN)/lint-imports

base: $(STAMP)
	@$(LOAD); \
	timed 'made recipes/commerce/base/' $(BIN)/python -m recipes.commerce.pretrain

clean:
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage
	find analysis launchers recipes sweeps tracking tests -name __pycache__ -type d -prune -exec rm -rf {} +
