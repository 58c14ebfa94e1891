# Two commands matter: `make demo` and `make test`. Everything else is what they are made of.
# Needs Python 3.11 to 3.13 and make; all else is installed into .venv (and Label Studio into .venv-label-studio).

VENV    := .venv
LS_VENV := .venv-label-studio
BIN     := $(VENV)/bin

# The first interpreter that runs and fits; `make PYTHON=/path/to/python setup` picks another.
FITS   := import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3 python; do \
            "$$p" -c '$(FITS)' >/dev/null 2>&1 && { echo "$$p"; break; }; done)

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help setup label-studio demo test serve lint clean

help:  ## what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 16

setup: $(VENV)/.ready  ## install the product and its tools into .venv (once)

label-studio: $(LS_VENV)/.ready  ## install the Label Studio that demo and e2e tests run against (once)

demo: setup label-studio  ## a real Label Studio, a project, scenes, pre-annotations; Ctrl-C ends it
	$(BIN)/sam3-prelabel demo $(ARGS)

test: setup label-studio  ## the whole test suite
	$(BIN)/python -m pytest $(ARGS)

serve: setup  ## the Label Studio backend; options: make serve ARGS="--port 9090"
	$(BIN)/sam3-prelabel serve $(ARGS)

lint: setup  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:  ## remove the environments and every cache
	rm -rf $(VENV) $(LS_VENV) demo-output *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

$(VENV)/.ready: pyproject.toml constraints.txt
	$(call create_venv,$(VENV))
	@echo "==> installing sam3-prelabel with torch: some minutes and about 6 GB the first time"
	$(BIN)/python -m pip install --constraint constraints.txt --editable '.[local,label-studio,train,dev]'
	@touch $@

$(LS_VENV)/.ready: constraints-label-studio.txt
	$(call create_venv,$(LS_VENV))
	@echo "==> installing Label Studio into $(LS_VENV): a minute or two the first time"
	$(LS_VENV)/bin/python -m pip install --constraint constraints-label-studio.txt label-studio
	@touch $@

# Reuses an environment that is there, so that a failed download goes on where it stopped.
define create_venv
@test -n '$(PYTHON)' && '$(PYTHON)' -c '$(FITS)' 2>/dev/null || { \
  echo "This needs Python 3.11, 3.12 or 3.13, and '$(or $(PYTHON),python3)' is none of them; install one, or say make PYTHON=/path/to/python." >&2; exit 1; }
@echo "==> $(1) with $$('$(PYTHON)' --version)"
@test -x $(1)/bin/python || '$(PYTHON)' -m venv $(1)
endef
