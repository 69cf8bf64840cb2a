# The two commands: `make demo` and `make test`. Everything lives in .venv; no root, nothing else running.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
IMAGES ?=
DATA ?=
SEED ?= 1
STUDIES ?= 60
SECONDS ?= 120

.PHONY: demo test bench chaos train-smoke soak model check format conformance lock clean
.DEFAULT_GOAL := help

help:
	@echo "make demo [IMAGES=folder]   run the main job on real radiographs; reports and pictures in demo-out/"
	@echo "make test                   formatter, linter, types, import rules, and the whole test suite"
	@echo "make bench                  measure speed, beside DCMTK and Orthanc; half an hour; benchmarks/README.md"
	@echo "make chaos SEED=n           let everything die at random under load, and count; a few minutes"
	@echo "make train-smoke            train on generated images for a minute; does the loss fall, is it served?"
	@echo "make soak [ASSOCIATIONS=20000]      good and hostile associations with a real node; what does it keep?"
	@echo "make model DATA=folder      make the shipped model again, in about two hours on two cores"
	@echo "make check                  the checks alone"
	@echo "make format                 format the code"
	@echo "make conformance            write the tables of docs/conformance.md from the code"
	@echo "make lock                   pin the dependencies again (needs uv)"

$(STAMP): requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v <= (3, 13) else "cxr-worker needs Python 3.11 to 3.13; %s is %d.%d. Try: make $(MAKECMDGOALS) PYTHON=python3.12" % (sys.executable, *v))'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements/dev.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(STAMP)
	@$(BIN)/cxr-worker demo $(if $(IMAGES),--images "$(IMAGES)") --out demo-out

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

test: check
	$(BIN)/pytest

# Nothing else should run meanwhile. One of them alone: .venv/bin/python -m benchmarks.reception
bench: $(STAMP)
	$(BIN)/python -m benchmarks --write

# A run is repeated by its seed: make chaos SEED=1 [STUDIES=60] [SECONDS=120]
chaos: $(STAMP)
	$(BIN)/python -m tests.chaos --seed $(SEED) --studies $(STUDIES) --seconds $(SECONDS)

train-smoke: $(STAMP)
	$(BIN)/python -m tests.train_smoke

soak: $(STAMP)
	@$(BIN)/python -m tests.soak --associations $(or $(ASSOCIATIONS),20000) --seed $(or $(SEED),1)

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

conformance: $(STAMP)
	$(BIN)/python -m worker.conformance docs/conformance.md

# The two trainings that made the shipped model; stopped, it goes on where it was.
model: $(STAMP)
	@test -n "$(DATA)" || { echo "usage: make model DATA=folder (with chest_xray_224/ and the adult sets)"; exit 2; }
	$(BIN)/python model/train.py --out runs/both --resume --epochs 7 \
	  --data "$(DATA)/chest_xray_224" --data "$(DATA)/adult_chest_pretrain_224"
	$(BIN)/python model/train.py --out runs/children --resume --weights runs/both/artifact \
	  --data "$(DATA)/chest_xray_224" --adults "$(DATA)/adult_chest_pretrain_224" \
	  --other-adults "$(DATA)/adult_chest_224" --size 192 --head-epochs 1 --top-epochs 1 \
	  --epochs 10 --members 2 --layer-decay 0.8 --augmentation 0.6

lock:
	for extra in node:embedded,s3,tracing worker:embedded,s3,tracing,worker dev:embedded,s3,tracing,worker,train,kaggle,dev; do \
	  uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-header \
	    --no-emit-index-url --no-annotate $$(echo $${extra#*:} | tr ',' '\n' | sed 's/^/--extra /') \
	    --output-file requirements/$${extra%%:*}.txt; \
	done

clean:
	rm -rf $(VENV) demo-out cxr-home
