# One target for each thing a developer does; `make` alone lists them.
# Set-up is part of every target: it happens when pyproject.toml, constraints.txt or native sources have changed.

VENV := .venv
PYTHON := $(VENV)/bin/python
EXTRAS := dev,interop
PROFILE ?= quickstart
PORT ?= 4200
ARGS ?=
# The engines that `make bench-peers` compares with; one that cannot be installed is a row of the report that says so.
PEERS := torch==2.13.0 transformers<5 sentencepiece protobuf ctranslate2 openvino-genai optimum-intel[openvino] nncf \
  onnxruntime-genai==0.11.4 onnx-ir llama-cpp-python

NATIVE := setup.py $(shell find native -name '*.cpp' -o -name '*.h' -o -name '*.inl')
CPP_FILES := find native -name build -prune -o \( -name '*.cpp' -o -name '*.h' -o -name '*.inl' \)
INSTALLED := $(VENV)/.installed
BUILT := $(VENV)/.built
DATABASE := $(VENV)/.database

.DEFAULT_GOAL := help
.PHONY: help install run up test pytest lint types native cli native-test bench bench-smoke bench-peers bench-training fmt constraints clean

help:  ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(INSTALLED): pyproject.toml constraints.txt
	@test -x $(VENV)/bin/pip || python3 -m venv $(VENV)
	$(PYTHON) -m pip install --quiet --constraint constraints.txt setuptools wheel pybind11
	$(PYTHON) -m pip install --quiet --constraint constraints.txt --no-build-isolation --editable '.[$(EXTRAS)]'
	@touch $@ $(BUILT)

$(BUILT): $(NATIVE) | $(INSTALLED)
	$(PYTHON) setup.py --quiet build_ext --inplace
	@touch $@

# Prefect's own, made once: 300 migrations that `tinylm up` and the first flow would else wait for.
$(DATABASE): $(INSTALLED)
	@$(PYTHON) -m prefect --no-prompt server database upgrade --yes >/dev/null
	@touch $@

install: $(INSTALLED) $(BUILT) $(DATABASE)  ## Make the environment, build the C++ extension, make Prefect's database

run: install  ## Run the flow: text to stories and report (PROFILE= CORPUS= VALID= ARGS=)
	@$(PYTHON) -m flows pipeline --profile '$(PROFILE)' $(CORPUS:%=--corpus '%') $(VALID:%=--valid '%') $(ARGS)

up: install  ## Keep a Prefect server, a worker and the deployments running (PORT=)
	@$(PYTHON) -m tinylm up --port $(PORT)

test: lint types cli native-test pytest  ## Everything that must hold: lint, types, C++ tests, Python tests

pytest: install  ## Python tests alone (ARGS='tests/cli -k json')
	$(PYTHON) -m pytest $(ARGS)

lint: install  ## Ruff's rules, and the format of Python and C++
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(CPP_FILES) -print0 | xargs -0 $(VENV)/bin/clang-format --dry-run --Werror

types: install  ## mypy, strict
	$(PYTHON) -m mypy

native: $(BUILT)  ## Build the C++ extension alone

cli:  ## Build native/build/tinylm-cli, the engine as a program without Python
	$(MAKE) --no-print-directory -j 2 -C native tinylm-cli

native-test:  ## C++ tests under address, undefined-behaviour and thread sanitizers; fuzzing where clang is
	$(MAKE) --no-print-directory -j 2 -C native asan tsan replay fuzz

bench: install  ## Sweep the newest model and publish the report (ARGS=)
	$(PYTHON) -m tinylm bench run $(ARGS)

bench-smoke: install  ## The same in half a minute: does it all run?
	$(PYTHON) -m tinylm bench run --plan quick $(ARGS)

bench-peers: install  ## Compare with other engines, in .venv-peers (ARGS='--rounds 5 --preset llama-20m')
	@test -x .venv-peers/bin/pip || python3 -m venv .venv-peers
	@for peer in $(patsubst %,'%',$(PEERS)); do .venv-peers/bin/python -m pip install --quiet "$$peer" || echo "not installed: $$peer"; done
	$(PYTHON) -m tinylm bench limits
	$(PYTHON) -m tinylm bench peers --env .venv-peers $(ARGS)

bench-training: install  ## Compare the recipe with a plain one (CORPUS= VALID= ARGS='--minutes 4')
	$(PYTHON) -m tinylm bench training $(CORPUS:%=--corpus '%') $(VALID:%=--valid '%') $(ARGS)

fmt: install  ## Format Python and C++
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .
	$(CPP_FILES) -print0 | xargs -0 $(VENV)/bin/clang-format -i

constraints: install  ## Pin what the environment holds now
	{ echo '# Every version that the tests ran with; made by `make constraints` from the working environment.'; \
	  $(PYTHON) -m pip freeze --all --exclude-editable | grep -v '^pip==' | sed 's/+cpu//' | sort -f; } > constraints.tmp
	mv constraints.tmp constraints.txt

clean:  ## Remove what builds left; artifacts, reports and the environment stay
	rm -rf build native/build *.egg-info tinylm/_native*.so .pytest_cache .mypy_cache .ruff_cache
	find tinylm flows tests -name __pycache__ -type d -prune -exec rm -rf {} +
	rm -f $(BUILT)
