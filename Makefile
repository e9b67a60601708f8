# heed: `make` lists the targets.
SCORE   ?=# the attention score: a file in configs/score/; the default is bahdanau, or the recipe's
DECODER ?=# the wiring of the decoder: a file in configs/decoder/; the default is luong, or the recipe's
DATA    ?= grammar# the corpus: a file in configs/data/
SEED    ?= 1# the seed of initial weights, order of batches, and dropout
RUN     ?=# a run directory; train makes runs/<data>/<decoder>/<score>/seed<SEED> by default
SCORES  ?=# scores to train and compare: bahdanau,general,dot
SEEDS   ?= 1,2,3# train each score with each of these seeds
RUNS    ?=# finished runs to compare: directories or patterns
MINUTES ?= 30# soak trains for so long
LINES   ?= 200000# soak translates so many
INPUTS  ?= 1000000# fuzz tries so many
KILLS   ?= 200# torture kills training so often, and each other command a tenth as often
MUTATIONS ?= 2000# torture damages so many files
QUICK   ?=# 1: bench measures less, in under three minutes
ARGS    ?=# Hydra overrides: "model.cell=lstm training.max_epochs=5"

PYTHON  ?= python3.11# the Python that makes .venv: 3.11 or later
BIN     := .venv/bin
VENV    := .venv/installed
# The tests that a version of a library could break: tokenizers, training, run files, reports.
LOWEST  := tests/text tests/training tests/run/test_golden_runs.py tests/evaluation
# Quotes for Hydra around a path, but not around a list of paths.
quoted = $(if $(filter [%,$(firstword $(1))),$(1),"$(1)")
# Refuse a variable that the target's line does not name: it would have no effect.
GIVEN := $(filter-out PYTHON SHELL,$(foreach v,$(.VARIABLES),$(if $(filter command,$(origin $v)),$v)))
named = $(shell grep $(patsubst %,-e '^%:.* $v\>',$(or $(MAKECMDGOALS),help)) Makefile)
$(foreach v,$(GIVEN),$(if $(named),,$(error make $(MAKECMDGOALS) takes no $v: see make help)))

.DEFAULT_GOAL := help
.PHONY: help setup train evaluate translate align compare scores tensorboard data test test-all test-lowest bench torture soak fuzz audit lint format clean

help: ## list targets and variables
	@echo 'Targets:'
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "%-16s %s\n", $$1, $$2}'
	@echo 'Variables, as in `make train SCORE=general`:'
	@sed -n 's/^\([A-Z]*\) *?= *\([a-z0-9,.]*\)# \(.*\)/  \1|\3|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "%-16s %s%s\n", $$1, $$2, $$3 ? " (" $$3 ")" : ""}'

$(VENV): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo 'heed needs Python 3.11 or later: make PYTHON=...'; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

setup: $(VENV) ## set up .venv; the other targets do it by themselves

train: $(VENV) ## train a run or continue it, then evaluate it: SCORE DECODER DATA SEED RUN ARGS
	@$(BIN)/python scripts/train.py $(if $(SCORE),score=$(SCORE)) $(if $(DECODER),decoder=$(DECODER)) data=$(DATA) seed=$(SEED) $(if $(RUN),'run=$(call quoted,$(RUN))') $(ARGS)

evaluate: $(VENV) need-run ## translate the test split, or split=..., and report BLEU, chrF2 and TER: RUN ARGS
	@$(BIN)/python scripts/evaluate.py 'run=$(call quoted,$(RUN))' $(ARGS)

translate: $(VENV) need-run ## translate standard input line by line, or type at a prompt: RUN ARGS
	@$(BIN)/python scripts/translate.py 'run=$(call quoted,$(RUN))' $(ARGS)

align: $(VENV) need-run ## link the words of sentence pairs by a run's attention, and report AER: RUN ARGS
	@$(BIN)/python scripts/align.py 'run=$(call quoted,$(RUN))' $(ARGS)

compare: $(VENV) ## compare scores over several seeds, with significance tests: SCORES SEEDS DECODER DATA, or RUNS; ARGS
	@test -n '$(SCORES)$(RUNS)' || { echo 'make compare needs SCORES=dot,general to train and compare, or RUNS="runs/grammar/luong/*/*" to compare'; exit 1; }
	$(if $(RUNS),$(foreach v,SCORES SEEDS DECODER DATA,$(if $(filter $v,$(GIVEN)),$(error make compare RUNS=... takes no $v: these runs are trained already))))
	@$(BIN)/python $(if $(RUNS),scripts/compare.py 'runs=$(call quoted,$(RUNS))',scripts/train.py --multirun seed=$(SEEDS) score=$(SCORES) $(if $(DECODER),decoder=$(DECODER)) data=$(DATA)) $(ARGS)

scores: $(VENV) ## list the attention scores: equations, references, parameters
	@$(BIN)/python scripts/scores.py

tensorboard: $(VENV) ## show the curves of all runs in a browser, or of one RUN; ARGS
	$(BIN)/tensorboard --logdir '$(or $(RUN),runs)' $(ARGS)

data: $(VENV) ## prepare a corpus; train does this by itself: DATA ARGS
	@$(BIN)/python scripts/prepare.py data=$(DATA) $(ARGS)

test: $(VENV) ## run the fast tests; pytest gets ARGS
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal $(ARGS)

test-all: $(VENV) ## run all tests, also the slow ones; pytest gets ARGS
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal -m '' $(ARGS)

bench: $(VENV) ## measure speed and memory beside a textbook loop, and write bench.json: QUICK RUN ARGS="--score dot"
	@$(BIN)/python -m benchmarks $(if $(filter-out 0,$(QUICK)),--quick) $(if $(RUN),--run '$(RUN)') $(ARGS)

torture: $(VENV) ## kill commands and damage files at random; check that nothing is lost: KILLS MUTATIONS ARGS
	@OMP_NUM_THREADS=1 PYTHONPATH=.:tests $(BIN)/python tests/robustness/torture.py --kills $(KILLS) --mutations $(MUTATIONS) $(ARGS)

soak: $(VENV) ## train and translate for long; watch memory, open files, threads and disk: MINUTES LINES ARGS
	@PYTHONPATH=.:tests $(BIN)/python tests/robustness/soak.py --minutes $(MINUTES) --lines $(LINES) $(ARGS)

fuzz: $(VENV) ## feed random bytes to every reader, guided by coverage: INPUTS ARGS
	@$(BIN)/pip install --quiet --disable-pip-version-check 'atheris>=3'
	@PYTHONPATH=.:tests $(BIN)/python tests/robustness/fuzz.py -runs=$(INPUTS) -max_len=512 -rss_limit_mb=8192 $(ARGS)

test-lowest: ## run some tests with the lowest versions that pyproject.toml allows, in .venv-lowest: ARGS
	@[ -e .venv-lowest/bin/pip ] || $(PYTHON) -m venv .venv-lowest
	@awk -F== 'NR == FNR {low[tolower($$1)]; print; next} !(tolower($$1) in low)' constraints-lowest.txt constraints.txt > .venv-lowest/constraints.txt
	.venv-lowest/bin/pip install --quiet --disable-pip-version-check --constraint .venv-lowest/constraints.txt --editable '.[dev]'
	OMP_NUM_THREADS=1 .venv-lowest/bin/python -m pytest -n auto $(LOWEST) $(ARGS)

audit: $(VENV) ## look for known vulnerabilities in the pinned versions; needs the network
	@$(BIN)/pip install --quiet --disable-pip-version-check pip-audit
	$(BIN)/pip-audit --requirement constraints.txt --no-deps --disable-pip

lint: $(VENV) ## check style, types and imports
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV) ## format the code and sort its imports
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean: ## remove caches and prepared corpora, but no runs
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis data/.*.new data/.*.old
	for made in data/*/prepare.json; do [ ! -e "$$made" ] || rm -rf "$${made%/*}"; done
	find src scripts tests benchmarks -name __pycache__ -type d -exec rm -rf {} +

.PHONY: need-run
need-run:
	@[ -n "$(RUN)" ] || { echo 'error: name a run, as in make evaluate RUN=runs/grammar/luong/bahdanau/seed1'; exit 2; }
