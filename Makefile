# On a fresh clone:  make demo   and   make test.  Each sets up .venv first.
VENV ?= .venv
JOBS ?= 2
BIN := $(VENV)/bin

.PHONY: demo test lint bench conformance env pins clean

demo: env
	$(BIN)/spikeport demo

# Workers share the cores; more threads in each would only fight.
test: env
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# DATA=folder of MNIST's, Fashion-MNIST's and CIFAR-10's folders: also what needs images, in hours.
# RUNS=folder: where those runs are kept, to go on after an interruption.
bench: env
	$(BIN)/python benchmarks/engine.py
	$(BIN)/python benchmarks/demo.py
	$(BIN)/python benchmarks/fused.py
	$(BIN)/python benchmarks/twin.py
	$(BIN)/python benchmarks/faults.py $(if $(DATA),$(if $(RUNS),--data $(DATA) --runs $(RUNS)/lab))
	$(BIN)/python benchmarks/compile.py
	$(BIN)/python benchmarks/place.py
	$(BIN)/python benchmarks/cost.py
	$(BIN)/python benchmarks/roundtrip.py
	$(BIN)/python benchmarks/divergence.py
	$(if $(DATA),$(BIN)/python benchmarks/quantisation.py --data $(DATA))
	$(if $(DATA),$(BIN)/python benchmarks/thresholds.py --data $(DATA) $(if $(RUNS),--runs $(RUNS)/thresholds))
	$(if $(DATA),$(BIN)/python benchmarks/lab.py --data $(DATA) $(if $(RUNS),--runs $(RUNS)/lab))
	$(if $(DATA),$(BIN)/python benchmarks/flips.py --data $(DATA) $(if $(RUNS),--runs $(RUNS)/lab))
	$(if $(DATA),$(if $(RUNS),$(BIN)/python benchmarks/robustness.py --data $(DATA) --runs $(RUNS)/lab))
	$(if $(DATA),$(if $(RUNS),$(BIN)/python benchmarks/harder.py --data $(DATA) --runs $(RUNS)/lab))
	$(BIN)/python benchmarks/readme.py

# Thousands of random networks here, in Lava, in nengo-loihi and in brian2-loihi: no bit may differ.
conformance: env
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/conformance.py
	$(BIN)/python tests/conformance/profiles.py

env: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml requirements/py310.txt requirements/py311.txt .ci/env
	sh .ci/env $(VENV)

# Names and versions only: which registry they come from is the user's business.
COMPILE = $(BIN)/uv pip compile -q --upgrade --extra dev --extra conformance --extra attackers --extra readers --no-annotate \
	--no-header --no-emit-index-url --no-emit-find-links pyproject.toml
pins: env
	$(COMPILE) --python-version 3.10 -o requirements/py310.txt
	echo torch==2.13.0 | $(COMPILE) --python-version 3.11 -c - -o requirements/py311.txt
	sed -i.old 's/+cpu$$//' requirements/py311.txt && rm requirements/py311.txt.old

clean:
	rm -rf $(VENV) .venv311 .venv-wheel build dist *.egg-info
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
