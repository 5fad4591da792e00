# Two commands do everything: `make demo` and `make test`.
#   make demo                 four simulated months with planted faults, then the UI
#   make demo SERVE=0         the same without the UI; exit 0 only if every month is in the state it should be in
#   make demo DATA=log.csv    your own log, as one window; MAPPING=…, ZONE=Asia/Seoul, AT=2026-09-01 where it needs them
#   make test                 lint, types, layers, then the tests, fast tiers first
#   make venv                 only the environment; the command line is then .venv/bin/irt. Where R is, rpy2 too

PYTHON ?= python3
SERVE ?= 1
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps
# Own data goes to a home of its own, so that it never meets the simulation.
export IRT_HOME ?= $(if $(DATA),.irt-own,.irt)

.PHONY: venv demo test lint lock clean

venv: .venv/.ready $(if $(shell command -v R),.venv/.ready-r)

.venv/.ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed: make PYTHON=python3.11 …")'
	@test -n "$$DATABASE_URL" || $(PYTHON) resources/server_account.py .venv '$(IRT_HOME)'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing the pinned dependencies into .venv (about a minute and a half) …"
	@$(INSTALL) --require-hashes -r requirements.lock
	@$(INSTALL) --no-build-isolation --editable .
	@touch $@

# rpy2 is built from source against the R of this machine. Without it everything but the engines mirt and brms works.
.venv/.ready-r: requirements-r.lock .venv/.ready
	@$(INSTALL) --require-hashes --no-build-isolation -r requirements-r.lock && touch $@ || \
	  echo "rpy2 could not be built, so the engines mirt and brms are absent: apt install r-base-dev python3-dev, make venv"

demo: venv
	@$(BIN)/irt demo $(if $(filter 0,$(SERVE)),--no-serve,--serve) \
	  $(if $(DATA),--data '$(DATA)') $(if $(MAPPING),--mapping '$(MAPPING)') $(if $(ZONE),--zone '$(ZONE)') $(if $(AT),--at '$(AT)')

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Behind the first tier some tests wait for servers and some compute, so three files go on at once.
test: lint
	$(BIN)/pytest --numprocesses=2 --dist=loadfile tests/unit
	$(BIN)/pytest --numprocesses=3 --dist=loadfile tests/engines tests/integration tests/ui

# After a change of dependencies: hashes, and no address of any index.
LOCKED := --quiet --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate
EXTRA_R := import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["r"])
lock: venv
	$(BIN)/uv pip compile pyproject.toml --extra bayes --extra k8s --extra dev $(LOCKED) --output-file requirements.lock
	$(BIN)/python -c '$(EXTRA_R)' | $(BIN)/uv pip compile - --constraint requirements.lock $(LOCKED) \
	  --output-file requirements-r.lock

clean:
	-$(BIN)/irt db stop
	rm -rf .irt .irt-own .venv
