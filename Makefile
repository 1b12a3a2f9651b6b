# Every target sets up what it needs. `make` alone lists the targets.
VENV := .venv
BIN := $(VENV)/bin
# A Python that really runs and is 3.11, 3.12 or 3.13; name another with `make PYTHON=… chat`.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; raise SystemExit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && { echo $$p; break; }; done)
PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --progress-bar on -c constraints.txt

JOBS ?= $(shell n=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1); [ $$n -gt 4 ] && echo 4 || echo $$n)
KILLS ?= 30
MINUTES ?= 30
SEED ?= 17
GPU_PYTHON ?= python3

.PHONY: help chat test demo-finetune test-crash soak lint format proof bench-storage bench-gpu catalogues constraints clean
.DEFAULT_GOAL := help

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Kefu needs Python 3.11, 3.12 or 3.13. Install one, or name it: make PYTHON=/path/to/python chat" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -f $@; echo "No virtual environment could be made. On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }

# The stamps make a second run quick: pip runs again only when the pins or the project file changed.
$(VENV)/.base: $(BIN)/python pyproject.toml constraints.txt
	@echo "Installing Kefu into $(VENV) …" >&2
	@$(PIP_INSTALL) --quiet -e . && touch $@

$(VENV)/.dev: $(VENV)/.base
	@echo "Installing what the tests need …" >&2
	@$(PIP_INSTALL) --quiet -e '.[dev]' && touch $@

chat: $(VENV)/.base ## talk to the assistant in this terminal
	@$(BIN)/kefu chat

test: $(VENV)/.dev ## run the test suite on JOBS cores, at most 4 (SQLite, PostgreSQL and the default model; no GPU, no account)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile

demo-finetune: $(VENV)/.dev ## from customer-service data to a better adapter in a few minutes; all of it lies in build/demo
	@KEFU=$(abspath $(BIN))/kefu sh finetune/recipes/demo.sh build/demo

test-crash: $(VENV)/.dev ## kill the Telegram bot with -9, KILLS=30 times in each of eight arms (SEED=17), and say what people saw
	@KEFU_SIZE_TELEGRAM_CRASH=$(KILLS) KEFU_SIZE_TELEGRAM_CRASH_SEED=$(SEED) $(BIN)/python -m pytest -s -o timeout=5400 \
		tests/crash/test_telegram_crash.py

soak: $(VENV)/.dev ## run the bot for MINUTES=30 at half load, see whether it stays flat, write docs/soak.md
	@$(BIN)/python -m tests.soak --minutes $(MINUTES) $(ARGS)

lint: $(VENV)/.dev ## ruff (format and lint), pyrefly, import-linter, deptry
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/pyrefly check
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/deptry . --no-ansi

format: $(VENV)/.dev ## put the code into the house's shape
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

proof: $(VENV)/.dev ## run every proof at the size that was promised and write docs/proofs.md (takes an hour or more)
	@$(BIN)/python -m tests.proofs $(ARGS)

bench-storage: $(VENV)/.dev ## measure SQLite and PostgreSQL at 10^4, 10^5 and 10^6 turns
	@$(BIN)/python -m tests.bench_storage $(ARGS)

# A bare machine will do: no installation, no download, whatever python3 has of torch >= 2.11 and transformers >= 5.17.
bench-gpu: ## the gates and the speed of the engine on torch on a GPU, in under 8 minutes (GPU_PYTHON=python3, ARGS=--help)
	@$(GPU_PYTHON) -m pytest -c /dev/null --rootdir=. --confcutdir=tests/gpu -p no:cacheprovider -q tests/gpu
	@$(GPU_PYTHON) -m dialogue.engine.bench.gpu $(ARGS)

catalogues: $(VENV)/.dev ## compile the words for users after a change of a .po file
	@$(BIN)/python -m tests.catalogues

constraints: $(VENV)/.dev ## pin what is installed now
	@$(BIN)/python -m tests.pins

clean: ## remove the virtual environment and caches
	@rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis *.egg-info
