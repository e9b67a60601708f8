# heed: `make` lists the targets.
SCORE   ?=# an attention score: a file in configs/score/; by default bahdanau, or what the recipe takes
DECODER ?=# the wiring: a file in configs/decoder/; by default luong, or what the recipe takes
DATA    ?= grammar# the corpus: a file in configs/data/
SEED    ?= 1# of weights, batches and dropout
RUN     ?=# a run directory; without it, train makes runs/<data>/<decoder>/<score>/seed<SEED>
SCORES  ?=# scores to train and compare, such as bahdanau,general,dot
SEEDS   ?= 1,2,3# with these seeds each
RUNS    ?=# or finished runs to compare: directories or patterns
MINUTES ?= 30# of training in soak
LINES   ?= 200000# translated in soak
INPUTS  ?= 1000000# of fuzz
KILLS   ?= 200# of training in torture, and a tenth as many of each other command
MUTATIONS ?= 2000# damaged files in torture
QUICK   ?=# 1: bench trains the headline alone and measures less of the rest, in under three minutes
ARGS    ?=# any Hydra overrides, such as "model.cell=lstm training.max_epochs=5"

PYTHON  ?= python3.11# what .venv is made with: 3.11 or later
BIN     := .venv/bin
VENV    := .venv/installed
# What a version of a library could break: files, tokenizers, training, reports.
LOWEST  := $(addprefix tests/test_,text.py training.py golden_runs.py evaluation.py)
# A path as Hydra takes it: in quotes, but for a list.
quoted = $(if $(filter [%,$(firstword $(1))),$(1),"$(1)")
# A variable that a target's line does not name would have no effect: it is refused.
GIVEN  := $(filter-out PYTHON SHELL,$(foreach v,$(.VARIABLES),$(if $(filter command,$(firstword $(origin $v))),$v)))
named  = $(foreach goal,$(MAKECMDGOALS),$(shell grep -E '^$(goal):.*##.* $v\>' $(firstword $(MAKEFILE_LIST))))
$(foreach v,$(GIVEN),$(if $(strip $(named)),,$(error make $(MAKECMDGOALS) takes no $v: see make help)))

.DEFAULT_GOAL := help
.PHONY: help setup train evaluate translate align compare scores tensorboard data test test-all test-lowest bench torture soak fuzz audit lint format clean

help: ## list the targets and variables
	@echo 'Targets:'
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "%-16s %s\n", $$1, $$2}'
	@echo 'Variables, as in `make train SCORE=general`:'
	@sed -n 's/^\([A-Z]*\) *?= *\([a-z0-9,.]*\)# \(.*\)/  \1|\3|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "%-16s %s%s\n", $$1, $$2, $$3 ? " (" $$3 ")" : ""}'

$(VENV): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo 'heed needs Python 3.11 or later: make PYTHON=...'; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

setup: $(VENV) ## set up .venv; every target does it where needed

train: $(VENV) ## train a run, or go on with it, then evaluate it: SCORE DECODER DATA SEED RUN ARGS
	@$(BIN)/python scripts/train.py $(if $(SCORE),score=$(SCORE)) $(if $(DECODER),decoder=$(DECODER)) data=$(DATA) seed=$(SEED) $(if $(RUN),'run=$(call quoted,$(RUN))') $(ARGS)

evaluate: $(VENV) need-run ## translate a split of a run's corpus and report BLEU, chrF2, TER: RUN ARGS
	@$(BIN)/python scripts/evaluate.py 'run=$(call quoted,$(RUN))' $(ARGS)

translate: $(VENV) need-run ## translate standard input line by line, or at a prompt: RUN ARGS
	@$(BIN)/python scripts/translate.py 'run=$(call quoted,$(RUN))' $(ARGS)

align: $(VENV) need-run ## word links of given translations by a run's attention, and AER: RUN ARGS
	@$(BIN)/python scripts/align.py 'run=$(call quoted,$(RUN))' $(ARGS)

compare: $(VENV) ## scores side by side, and which differences are more than chance: SCORES SEEDS DECODER DATA, or RUNS; ARGS
	@test -n '$(SCORES)$(RUNS)' || { echo 'make compare needs SCORES=dot,general to train, or RUNS="runs/grammar/luong/*/*" to report on'; exit 1; }
	$(if $(RUNS),$(foreach v,SCORES SEEDS DECODER DATA,$(if $(filter $v,$(GIVEN)),$(error make compare RUNS=... takes no $v: those runs are trained))))
	@$(BIN)/python $(if $(RUNS),scripts/compare.py 'runs=$(call quoted,$(RUNS))',scripts/train.py --multirun seed=$(SEEDS) score=$(SCORES) $(if $(DECODER),decoder=$(DECODER)) data=$(DATA)) $(ARGS)

scores: $(VENV) ## list the attention scores: equation, reference, parameters
	@$(BIN)/python scripts/scores.py

tensorboard: $(VENV) ## watch all runs in a browser: RUN for one, ARGS
	$(BIN)/tensorboard --logdir '$(or $(RUN),runs)' $(ARGS)

data: $(VENV) ## prepare a corpus; train does it by itself: DATA ARGS
	@$(BIN)/python scripts/prepare.py data=$(DATA) $(ARGS)

test: $(VENV) ## the fast tests: ARGS goes to pytest
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal $(ARGS)

test-all: $(VENV) ## all tests, also those of minutes: ARGS
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal -m '' $(ARGS)

bench: $(VENV) ## measure speed and memory against a textbook loop, into bench.json: QUICK RUN ARGS="--score dot"
	@$(BIN)/python -m benchmarks $(if $(filter-out 0,$(QUICK)),--quick) $(if $(RUN),--run '$(RUN)') $(ARGS)

torture: $(VENV) ## kill training, preparing, evaluating, comparing; damage files; check that nothing is lost: KILLS MUTATIONS ARGS
	@OMP_NUM_THREADS=1 PYTHONPATH=.:tests $(BIN)/python tests/torture.py --kills $(KILLS) --mutations $(MUTATIONS) $(ARGS)

soak: $(VENV) ## train and translate for long, and watch memory, files, threads, disk: MINUTES LINES ARGS
	@PYTHONPATH=.:tests $(BIN)/python tests/soak.py --minutes $(MINUTES) --lines $(LINES) $(ARGS)

fuzz: $(VENV) ## random bytes into all that reads them, guided by coverage: INPUTS ARGS
	@$(BIN)/pip install --quiet --disable-pip-version-check 'atheris>=3'
	@PYTHONPATH=.:tests $(BIN)/python tests/fuzz.py -runs=$(INPUTS) -max_len=512 -rss_limit_mb=8192 $(ARGS)

test-lowest: ## a part of the tests with the lowest versions that pyproject.toml promises, in .venv-lowest: ARGS
	@[ -e .venv-lowest/bin/pip ] || $(PYTHON) -m venv .venv-lowest
	@awk -F== 'NR == FNR {low[tolower($$1)]; print; next} !(tolower($$1) in low)' constraints-lowest.txt constraints.txt > .venv-lowest/constraints.txt
	.venv-lowest/bin/pip install --quiet --disable-pip-version-check --constraint .venv-lowest/constraints.txt --editable '.[dev]'
	OMP_NUM_THREADS=1 .venv-lowest/bin/python -m pytest -n auto $(LOWEST) $(ARGS)

audit: $(VENV) ## ask the advisory databases about the pins; needs the network
	@$(BIN)/pip install --quiet --disable-pip-version-check pip-audit
	$(BIN)/pip-audit --requirement constraints.txt --no-deps --disable-pip

lint: $(VENV) ## style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(VENV) ## bring the code into shape
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean: ## remove caches and prepared corpora; runs and .venv stay
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis data/.*.new data/.*.old
	for made in data/*/prepare.json; do [ ! -e "$$made" ] || rm -rf "$${made%/*}"; done
	find src scripts tests benchmarks -name __pycache__ -type d -exec rm -rf {} +

.PHONY: need-run
need-run:
	@[ -n "$(RUN)" ] || { echo 'error: name the run, as in make evaluate RUN=runs/grammar/luong/bahdanau/seed1'; exit 2; }
