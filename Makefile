# Two commands do everything: `make demo` and `make test`.
#   make demo                 four simulated months with planted faults, then the UI
#   make demo SERVE=0         the same without the UI; exit 0 only if every month is in the state it should be in
#   make demo DATA=log.csv    your own log, as one window; MAPPING=…, ZONE=Asia/Seoul, AT=2026-09-01 where it needs them, MODEL=3pl
#       KEY=key.csv           choices; MAX_SCORE=4 or 'q7=4 q8=2': points; DICHOTOMISE=full: points as right and wrong;
#                             MISSING='8 9': codes for no answer; SET='min_responses=300': rules of the scale
#   make test                 lint, types, layers, then the tests; CI=1 what CI runs, ALL=1 everything, which takes hours
#   make venv                 only the environment; the command line is then .venv/bin/irt
#   make wheelhouse           dist/wheelhouse: everything to install services of systemd from (docs/how-to/deploy-systemd.md)
#   make images               the images irt-assets and r-irt-plumber, and dist/*.cdx.json, what is in them (docs/how-to/deploy-images.md)
#   make docs                 build/site: these pages as a site that needs no network
#   make spark                the environment with Apache Spark, for a log that has outgrown one machine (docs/how-to/spark.md)
#   make venv EXTRAS=bayes    with an extra besides what running needs: bayes (PyMC), files (SPSS, Stata), r (rpy2), otel (traces), spark, k8s, docs, dev (tests)

PYTHON ?= python3
SERVE ?= 1
BIN := .venv/bin
# Own data goes to a home of its own, so that it never meets the simulation.
export IRT_HOME ?= $(if $(DATA),.irt-own,.irt)

# Where it is set, as in many containers, every process would compile anew all that it imports, for seconds.
unexport PYTHONDONTWRITEBYTECODE

# What mypy has checked is kept from clone to clone: it looks at contents.
export MYPY_CACHE_DIR ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/irt-assets/mypy

.PHONY: venv spark demo test lint docs lock wheelhouse images clean

venv:
	@$(PYTHON) requirements/make_venv.py $(EXTRAS)

spark: EXTRAS = spark
spark: venv

demo: venv
	@$(BIN)/irt demo $(if $(filter 0,$(SERVE)),--no-serve,--serve) \
	  $(if $(DATA),--data '$(DATA)') $(if $(MAPPING),--mapping '$(MAPPING)') $(if $(ZONE),--zone '$(ZONE)') $(if $(AT),--at '$(AT)') $(if $(MODEL),--model '$(MODEL)') \
	  $(if $(KEY),--key '$(KEY)') $(if $(DICHOTOMISE),--dichotomise '$(DICHOTOMISE)') $(foreach option,$(MAX_SCORE),--max-score '$(option)') \
	  $(foreach option,$(MISSING),--missing '$(option)') $(foreach option,$(SET),--set '$(option)')

lint test: EXTRAS = dev docs bayes files k8s otel spark $(if $(shell command -v R),r)
lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Three tiers. `make test`: what a change may break anywhere, with PostgreSQL as the only server. CI=1: also studies,
# what one part of the product alone may break, servers that are killed, browsers, R, S3, Spark, the demo, a bare
# machine. ALL=1: also what takes hours.
# Tests that wait for servers, by groups of which each has a stack or a cluster and stays on one worker, go on beside
# those that compute, so that the cores have work while servers are waited for. Where hardly any do, a third process
# computes while others wait for the database. What lint finds ends it all after the unit tests, which run meanwhile.
TIER := $(if $(ALL),,$(if $(CI),and not long,and not long and not ci))
LIBRARY := packages/irt-psychometrics/tests
FOLDERS := $(if $(CI)$(ALL),tests/deploy $(wildcard tests/bare) tests/ui tests/spark) tests/integration tests/programs tests/engines tests/services $(LIBRARY)/computing
PYTEST = $(BIN)/pytest --quiet $(if $(ALL),--hypothesis-profile=new,--changed)
COVER = $(if $(ALL),--cov --cov-append --cov-report=)
SUBMAKE = $(MAKE) --no-print-directory
timed = @began=$$(date +%s); $(2); status=$$?; took=$$(($$(date +%s) - began)); \
  printf '%s took %d:%02d minutes\n' '$(1)' $$((took / 60)) $$((took % 60)); exit $$status
test: venv
	@rm -f build/durations.tsv build/failed.tsv build/left-out.tsv .coverage
	@$(BIN)/python -m tests.testbed.compiled take
	@$(SUBMAKE) linted & status=0; $(SUBMAKE) tests-unit || status=$$?; wait $$! || exit 1; \
	  $(SUBMAKE) --jobs=2 --keep-going tests-servers tests-computing || status=$$?; \
	  $(if $(ALL),$(SUBMAKE) --keep-going tests-new-year coverage || status=$$?;) \
	  $(BIN)/python -m tests.testbed.compiled keep; $(BIN)/python -m tests.helpers.record; exit $$status
.PHONY: linted tests-unit tests-servers tests-computing tests-new-year coverage
linted:
	$(call timed,lint,$(SUBMAKE) lint)
# Of schemathesis, half a second of each process, no unit test makes use.
tests-unit:
	$(call timed,unit tests,$(PYTEST) $(COVER) -p no:schemathesis --numprocesses=2 --dist=worksteal -m 'not xdist_group $(TIER)' tests/unit $(LIBRARY) --ignore=$(LIBRARY)/computing)
tests-servers:
	$(call timed,tests of servers,$(PYTEST) --numprocesses=2 --dist=loadgroup --no-loadscope-reorder -m 'xdist_group $(TIER)' $(FOLDERS))
tests-computing:
	$(call timed,tests that compute,$(PYTEST) $(COVER) --numprocesses=$(if $(CI)$(ALL),2,3) --dist=worksteal -m 'not xdist_group $(TIER)' $(FOLDERS))

# Once more what needs no server, while the year ends for it: at the twentieth second, and at the second minute.
tests-new-year: NEW_YEAR = $(BIN)/python -m tests.helpers.new_year
tests-new-year: WITHOUT_SERVERS = --quiet --numprocesses=2 --dist=worksteal -m 'not xdist_group and not long and not ci'
tests-new-year:
	$(call timed,unit tests at New Year,$(NEW_YEAR) 20 $(BIN)/pytest $(WITHOUT_SERVERS) tests/unit)
	$(call timed,integration at New Year,$(NEW_YEAR) 120 $(BIN)/pytest $(WITHOUT_SERVERS) tests/integration tests/programs)

# Of what the tests run in their own processes; the floor is in pyproject.toml.
coverage:
	@$(BIN)/coverage report

docs: EXTRAS = docs
docs: venv
	$(BIN)/mkdocs build --strict --quiet

# After a change of dependencies: hashes, no address of any index, and of an extra only what the rest does not have.
# $(1) matches what the rest has on Windows alone, and the extra everywhere.
COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
  --no-header --no-annotate --no-emit-package irt-psychometrics --constraint requirements/requirements-build.lock
HELD = sed -n '/python_full_version$(1)/!s/^\([a-z0-9._-]*\)==.*/--no-emit-package \1/p' requirements/requirements.lock
EXTRA = $(COMPILE) pyproject.toml $$($(HELD)) --constraint requirements/requirements.lock
lock: EXTRAS = dev
lock: venv
	printf 'uv\nsetuptools>=77\ncffi\n' | $(COMPILE) - --output-file requirements/requirements-build.lock
	$(COMPILE) pyproject.toml --output-file requirements/requirements.lock
	$(EXTRA) --extra bayes --output-file requirements/requirements-bayes.lock
	$(EXTRA) --extra files --output-file requirements/requirements-files.lock
	$(EXTRA) --extra k8s --output-file requirements/requirements-k8s.lock
	$(EXTRA) --extra otel --output-file requirements/requirements-otel.lock
	$(EXTRA) --extra r --output-file requirements/requirements-r.lock
	$(EXTRA) --extra spark --output-file requirements/requirements-spark.lock
	$(EXTRA) --extra dev --output-file requirements/requirements-dev.lock \
	  $(foreach extra,bayes files k8s otel r spark,--constraint requirements/requirements-$(extra).lock)
	$(call EXTRA,\|^colorama==) --extra docs --output-file requirements/requirements-docs.lock \
	  $(foreach extra,bayes files k8s otel r spark dev,--constraint requirements/requirements-$(extra).lock)

# What deploy/systemd/install.sh installs from, on a machine like this one without a network; EXTRAS=otel adds an extra.
wheelhouse:
	@$(PYTHON) deploy/systemd/make_wheelhouse.py dist/wheelhouse $(EXTRAS)

# docker where its server answers, else podman; BUILD='--build-arg BASE=…' is handed on to the build.
ENGINE ?= $(if $(shell docker info --format '{{.ServerVersion}}' 2>/dev/null),docker,podman)
# $(1) is the name of an image, $(2) its file.
define image
$(ENGINE) build $(BUILD) --file deploy/docker/$(2) --tag $(1) .
$(PYTHON) deploy/docker/sbom.py $(ENGINE) $(1) > dist/$(1).cdx.json
endef
images:
	@mkdir -p dist
	$(call image,irt-assets,Dockerfile)
	$(call image,r-irt-plumber,r-service.Dockerfile)

clean:
	@for home in .irt .irt-own; do test ! -x $(BIN)/irt -o ! -d $$home || IRT_HOME=$$home $(BIN)/irt db stop; done
	@rm -rf .irt .irt-own .venv
