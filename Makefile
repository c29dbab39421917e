# make run    the daemon as yourself, in a folder of its own, with a demonstration configuration
# make test   lint, types and every test
# make reliability  the scorecard: crashes, power cuts, faults, clocks ..., each promise with the cases that were tried
# make fuzz   ten minutes of spoilt configurations against the parser; TARGET=smtp and others: guided by coverage
# make bench  three minutes: what Mailspool does beside Postfix and OpenSMTPD, in turn; as root
# make bench-full  every row of it, five times each: half an hour, the chart in docs/
# make bench-growth  throughput with a million queued, ten thousand destinations, recipients, a slow route; as root
# make bench-strangers  what thousands of silent and slow clients cost good ones, and the daemon
# make bench-million  what a queue of a million costs, beside an empty one
# make fmt    let ruff format what you changed

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PARALLEL ?= 2

.PHONY: run test lint types check fmt bench bench-full bench-growth bench-million bench-strangers fuzz reliability clean

$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip --quiet --disable-pip-version-check install --constraint constraints.txt hatchling editables
	$(BIN)/pip --quiet --disable-pip-version-check install --constraint constraints.txt --no-build-isolation --editable '.[dev]'
	touch $@

run: $(VENV)/ready
	@$(BIN)/python examples/demo.py

lint: $(VENV)/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/ready
	$(BIN)/mypy
	$(BIN)/mypy --explicit-package-bases $(wildcard tests bench examples)

check: $(VENV)/ready
	$(BIN)/python -m pytest -n $(PARALLEL) --dist loadgroup -q

test: lint types check

# Each test has its own time limit; all of them together stay below forty minutes on two cores.
reliability: $(VENV)/ready
	$(BIN)/python -m pytest -m reliability --thorough -n $(PARALLEL) --dist loadgroup -q

fmt: $(VENV)/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/ready
	$(BIN)/python -m bench

bench-full: $(VENV)/ready
	$(BIN)/python -m bench --full --runs 5 --verbose --chart docs/bench.svg

bench-growth: $(VENV)/ready
	$(BIN)/python -m bench.growth

# Some ten minutes.
bench-million: $(VENV)/ready
	$(BIN)/python -m bench.million

# Two minutes.
bench-strangers: $(VENV)/ready
	$(BIN)/python -m bench.strangers

# SECONDS is the shell's own, so this one is called otherwise.
FUZZ_SECONDS ?= 600
TARGET ?= config
ifeq ($(TARGET),config)
fuzz: $(VENV)/ready
	$(BIN)/python -m tests.fuzz $(FUZZ_SECONDS)
else
fuzz: $(VENV)/fuzz
	$(BIN)/python -m tests.fuzz.guided $(TARGET) $(FUZZ_SECONDS)
endif

$(VENV)/fuzz: $(VENV)/ready
	$(BIN)/pip --quiet --disable-pip-version-check install --constraint constraints.txt --no-build-isolation --editable '.[fuzz]'
	touch $@

clean:
	rm -rf $(VENV) demo build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
