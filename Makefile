# edge_agent: set-up and the few things one does with a checkout.
#
#   make run            set up, then a hub, an agent and sensors in front of your eyes (ARGS="--seconds 30")
#   make test           set up from requirements-dev.lock, then style, types and all tests (ARGS="-k name")
#   make test-pythons   make test with each of python3.11 to python3.14 that is found
#   make test-floors    the same tests with the lowest versions that pyproject.toml allows
#   make test-loaded    the same tests twice (LOADED_ROUNDS) with three busy loops (BUSY) beside them
#   make test-pages     the store's tests as on a machine with pages of 16 KiB (needs gcc)
#   make test-sealed    the store's tests with a key that seals what is stored
#   make explore        the property tests with new random examples, ROUNDS times over
#   make fuzz           a million inputs that no client means, beside a canary: some ten minutes
#   make abuse          misbehaviours with names, and the public Autobahn cases: some five minutes
#   make crash          a fifth of make nightly: power cuts, failing calls, flipped bits, lost roots, kills
#   make nightly        all of it, and of make fuzz: more than an hour on two cores
#   make bench          every benchmark (some 16 minutes); make bench-smoke: their tiny mode
#   make coverage       what a part of the tests runs of each package (ARGS="tests/store")
#   make client         the wheel of the client alone in dist/, for sensors
#   make release        wheels and sdist in dist/, tried in fresh environments; nothing is uploaded
#   make deb            packages for Debian 12 and 13, amd64 and arm64, in dist/
#   make deb-test       the same, and their life in real systems (as root; needs lintian, mmdebstrap)
#   make sensors        the pages for Node.js and Node-RED, run by the real ones (needs npm; 117 MB)
#   make arm64          the arm64 package in emulators (as root; needs qemu-user-static, mmdebstrap, and
#                       qemu-system-arm for a kernel with pages of 16 KiB: left out without)
#   make docs           docs/configuration.md anew from its declarations; then all pages as a site, build/site
#   make pictures       docs/pictures anew, of an agent that is started for them (needs chromium)
#   make audit          whether anything in the locks has a known weakness; a line that is down is no failure
#   make lock           renew both requirements*.lock from what is newest (LOCK_ARGS=: only what is missing)
#   make clean          remove what the above made
#
# Nothing here needs root. Environments live in the checkout. The stamp of a set-up is written last
# and its name holds a hash of all that went in: same inputs, nothing to do, no network.

PYTHON ?= python3
ARGS ?=
# Most tests wait for clocks, disks and processes, so two cores carry three at a time.
WORKERS ?= 3
# Whoever has nothing left takes from those who have: the long tests stand together in a few files.
SHARED := --numprocesses=$(WORKERS) --dist=worksteal
# What has a target of its own: `make abuse`, `make bench-smoke`.
LONG := --ignore=tests/abuse --ignore=tests/benchmarks/test_whole.py
ROUNDS ?= 10
LOADED_ROUNDS ?= 2
BUSY ?= 3

VENV := .venv
BIN := $(VENV)/bin/python
FLOORS := .venv-floors
PYTHONS := python3.11 python3.12 python3.13 python3.14
INPUTS := pyproject.toml requirements.lock requirements-dev.lock
# The folder is part of the key, as an environment that was moved along with it does not work.
KEY := $(shell { cat $(INPUTS); $(PYTHON) -c 'import sys; print(sys.version, sys.prefix)'; pwd; } 2>&1 | cksum | cut -d' ' -f1)
INSTALL = -m pip --disable-pip-version-check install --quiet

NPM := $(VENV)/npm
NPM_LOCK := tests/docs/sensors/npm/package-lock.json
NPM_KEY := $(shell cksum < $(NPM_LOCK) | cut -d' ' -f1)

# Hundreds of agents are started by the tests. Where the environment forbids to keep what was
# compiled, each of them would compile a hundred and fifty modules anew: half of a start's time.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run test types suite test-pythons test-floors test-loaded test-pages test-sealed explore crash fuzz abuse bench bench-smoke \
	coverage nightly client release deb deb-test sensors arm64 docs pictures audit lock clean python

run: $(VENV)/run-$(KEY)
	@$(BIN) -m edge_agent demo $(ARGS)

test: $(VENV)/test-$(KEY)
	$(BIN) -m ruff check
	$(BIN) -m ruff format --check --quiet
	@$(MAKE) --no-print-directory --jobs=2 types suite

# Beside one another: the type checker has one core, and takes a minute where it has no cache yet.
types:
	$(BIN) -m mypy

# What has a target of its own, as it takes minutes, is left to that.
suite:
	$(BIN) -m pytest $(SHARED) $(LONG) $(ARGS)

# A name on PATH may be a stand-in for a Python that is not there: each is asked to run.
test-pythons:
	@found=; for python in $(PYTHONS); do \
	    $$python -c '' 2> /dev/null || { echo "$$python: not found, passed over"; continue; }; \
	    found="$$found $$python"; echo "$$python:"; \
	    $(MAKE) --no-print-directory test PYTHON=$$python VENV=.venv-$$python || exit 1; done; \
	[ -n "$$found" ] || { echo "None of $(PYTHONS) was found"; exit 1; }; echo "Passed with:$$found"

test-floors: $(FLOORS)/test-$(KEY)
	$(FLOORS)/bin/python -m pytest $(SHARED) $(LONG) $(ARGS)

test-loaded: $(VENV)/test-$(KEY)
	$(BIN) -m tests.loaded --busy $(BUSY) --rounds $(LOADED_ROUNDS) -- $(SHARED) $(LONG) $(ARGS)

test-pages: $(VENV)/test-$(KEY)
	$(BIN) -m tests.pages $(BIN) -m pytest $(SHARED) tests/store $(ARGS)

# Tools are given their keys by their own tests.
test-sealed: $(VENV)/test-$(KEY)
	EDGE_AGENT_TEST_SEALED=yes $(BIN) -m pytest $(SHARED) tests/store \
	    --ignore=tests/store/tools --ignore=tests/store/test_sealing.py $(ARGS)

explore: $(VENV)/test-$(KEY)
	@for round in $$(seq $(ROUNDS)); do \
	    $(BIN) -m pytest -q $(SHARED) --hypothesis-profile=explore \
	        $$(grep -rlE '^@given' tests) $(ARGS) || exit 1; done

crash: $(VENV)/test-$(KEY)
	$(BIN) -m tests.crash --share 0.2 $(ARGS)

# Tests that stand beside the code: those of whole agents would run for as long again.
BESIDE := $(addprefix tests/,session wire store commit config client forward live rules history digest ops server wear cli)
nightly: $(VENV)/test-$(KEY)
	@$(MAKE) --no-print-directory test-sealed ARGS=
	$(BIN) -m tests.crash $(ARGS)
	@$(MAKE) --no-print-directory fuzz ARGS=
	@$(MAKE) --no-print-directory coverage ARGS="-q $(BESIDE)"
	@if [ "$$(id -u)" = 0 ]; then $(MAKE) --no-print-directory arm64 ARGS=; \
	else echo "make arm64 needs root: left out"; fi

# FUZZ_SHARE=0.1: a tenth of it.
FUZZ_SHARE ?= 1
fuzz: $(VENV)/test-$(KEY)
	$(BIN) -m tests.fuzz --pure 900000 --real 100000 --share $(FUZZ_SHARE) $(ARGS)

# One at a time: each case is held against what a canary usually waits.
abuse: $(VENV)/test-$(KEY)
	$(BIN) -m pytest -q tests/abuse $(ARGS)

bench: $(VENV)/test-$(KEY)
	$(BIN) -m benchmarks $(ARGS)

bench-smoke: $(VENV)/test-$(KEY)
	$(BIN) -m pytest -q tests/benchmarks/test_whole.py $(ARGS)

sensors: $(NPM)/done-$(NPM_KEY)
	EDGE_AGENT_NPM=$(NPM) $(BIN) -m pytest -q tests/docs/sensors/npm $(ARGS)

docs: $(VENV)/test-$(KEY)
	$(BIN) -m edge_agent.config.reference > docs/configuration.md
	$(BIN) -m edge_agent.ops.grafana > docs/grafana/edge-agent.json
	@rm -rf build/site build/doctrees
	$(BIN) -m sphinx -q -W --keep-going -c docs -d build/doctrees . build/site

pictures: $(VENV)/test-$(KEY)
	$(BIN) -m docs.pictures

# The project itself is put in last and without build isolation: hatchling comes from the lock too.
# Agents that tests start are measured too, but for those that are killed: what they ran is not told.
coverage: $(VENV)/test-$(KEY)
	@$(BIN) -m coverage erase
	$(BIN) -m coverage run -m pytest $(SHARED) $(ARGS)
	@$(BIN) -m coverage combine --quiet
	@$(BIN) -m coverage json --quiet -o - | $(BIN) -m tests.covered

client: $(VENV)/run-$(KEY)
	@cd edge_agent/client && $(CURDIR)/$(BIN) -m hatchling build --target wheel --directory $(CURDIR)/dist

release: $(VENV)/test-$(KEY)
	@$(BIN) -m tests.release

deb: $(VENV)/run-$(KEY)
	@$(BIN) -m systemd.deb $(ARGS)

# Both file systems wait for the network most of the time, so the packages are made meanwhile.
deb-test: $(VENV)/test-$(KEY)
	@rm -rf build/deb/new build/deb/before
	@$(BIN) -m tests.systemd.packages.roots build/deb/roots & roots=$$!; \
	$(BIN) -m systemd.deb --dist build/deb/new && \
	$(BIN) -m systemd.deb --dist build/deb/before --version 0.0.9 --level 0 --machine "$$(dpkg --print-architecture)" \
	    > /dev/null && wait $$roots
	EDGE_AGENT_DEBS=build/deb $(BIN) -m pytest --numprocesses=2 --dist=loadgroup -q tests/systemd/packages $(ARGS)

# The newest release; RELEASE=bookworm for the one before.
RELEASE ?= trixie
ARM64 := build/arm64/$(RELEASE)
arm64: $(VENV)/test-$(KEY)
	@rm -rf $(ARM64)/debs
	@{ $(BIN) -m tests.systemd.arm64.root $(RELEASE) $(ARM64)/root && \
	$(BIN) -m tests.systemd.arm64.kernel build/arm64/kernel; } & root=$$!; \
	$(BIN) -m systemd.deb --release $(RELEASE) --machine arm64 --dist $(ARM64)/debs && wait $$root
	EDGE_AGENT_ARM64=$(ARM64) $(BIN) -m tests.systemd.arm64.emulated \
	    $(BIN) -m pytest -q tests/systemd/arm64 $(ARGS)

# What is installed has one of the hashes of the lock, or nothing is. The project itself has none: it
# is put in last, takes nothing along, and is built with the hatchling that the lock names.
# Where a test can boot a container, the wheels for it are fetched here: tests need no network.
$(VENV)/test-$(KEY): | python
	@echo "Setting up $(VENV) for tests ..."
	@[ -e $(VENV)/run-$(KEY) ] || $(call new_environment,$(VENV))
	@$(BIN) $(INSTALL) --require-hashes --requirement requirements-dev.lock
	@$(BIN) $(INSTALL) --no-deps --no-build-isolation --editable .
	@if [ "$$(id -u)" = 0 ] && command -v systemd-nspawn > /dev/null && [ -x /usr/bin/python3 ]; then \
	    $(BIN) tests/systemd/wheelhouse.py $(VENV)/wheelhouse; fi
	@touch $(VENV)/run-$(KEY) $@

# Exactly the files whose hashes stand in the lock, and no program of theirs runs at the set-up. The
# lock names no host; `npm install --package-lock-only` in that folder renews it.
$(NPM)/done-$(NPM_KEY): | $(VENV)/test-$(KEY)
	@command -v npm > /dev/null || { echo "make sensors needs npm. On Debian: apt install npm"; exit 1; }
	@echo "Setting up $(NPM) ..."
	@rm -rf $(NPM) && mkdir $(NPM) && cp $(dir $(NPM_LOCK))package*.json $(NPM)
	@cd $(NPM) && npm ci --ignore-scripts --no-audit --no-fund --silent
	@touch $@

$(VENV)/run-$(KEY): | python
	@echo "Setting up $(VENV) ..."
	@$(call new_environment,$(VENV))
	@$(BIN) $(INSTALL) --require-hashes --requirement requirements.lock
	@$(BIN) $(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

$(FLOORS)/test-$(KEY): | python
	@echo "Setting up $(FLOORS) ..."
	@$(call new_environment,$(FLOORS))
	@$(PYTHON) -c "$$FLOOR_VERSIONS" > $(FLOORS)/floors.txt
	@$(FLOORS)/bin/python $(INSTALL) --constraint $(FLOORS)/floors.txt hatchling editables
	@$(FLOORS)/bin/python $(INSTALL) --constraint $(FLOORS)/floors.txt --no-build-isolation --editable '.[dev]'
	@touch $@

define FLOOR_VERSIONS
import tomllib
project = tomllib.load(open("pyproject.toml", "rb"))["project"]
for line in project["dependencies"] + project["optional-dependencies"]["dev"]:
    print(line.replace(">=", "=="))
endef
export FLOOR_VERSIONS

# $(1): folder. An environment that was not finished, or belongs to other inputs, is made anew.
define new_environment
{ rm -rf $(1) && $(PYTHON) -m venv $(1) || { rm -rf $(1); exit 1; }; }
endef

# A Python that is too old, or Debian's without ensurepip, is told in one line before anything is made.
python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	    echo "edge_agent needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1). Choose one: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	    echo "This Python cannot make environments. On Debian: apt install python3-venv"; exit 1; }

# One lock for every Python from 3.11 on and every machine: markers say what is needed where, hashes
# are those of all files of a version. What only tests need comes second and follows the first.
# LOCK_ARGS= keeps the versions that are locked and renews the rest.
LOCK_ARGS ?= --upgrade
COMPILE = printf 'hatchling\neditables\n' | .venv-lock/bin/uv pip compile --quiet --universal \
	--python-version 3.11 --generate-hashes --no-header --no-annotate $(LOCK_ARGS)

lock: python
	@rm -rf .venv-lock && $(PYTHON) -m venv .venv-lock
	@.venv-lock/bin/python $(INSTALL) uv
	@$(COMPILE) --output-file requirements.lock pyproject.toml - > /dev/null
	@$(COMPILE) --output-file requirements-dev.lock --constraint requirements.lock --extra dev --extra docs --extra arrow \
	    --extra mqtt --extra postgres --extra kafka --extra cel \
	    pyproject.toml - > /dev/null
	@sed -i "1i # Made by 'make lock': what the agent runs and is built with ('make run'), and its hashes." \
	    requirements.lock
	@sed -i "1i # Made by 'make lock': what 'make test' and 'make docs' use, and its hashes." requirements-dev.lock
	@rm -rf .venv-lock

# In an environment of its own: what looks at the others is none of them.
audit: $(VENV)/test-$(KEY)
	@[ -x .venv-audit/bin/pip-audit ] || { $(PYTHON) -m venv .venv-audit \
	    && .venv-audit/bin/python $(INSTALL) 'pip-audit>=2.10' > /dev/null 2>&1; } || rm -rf .venv-audit
	@$(BIN) -m tests.dependency_audit --pip-audit .venv-audit/bin/pip-audit

clean:
	rm -rf $(VENV) $(FLOORS) .venv-lock .venv-audit .venv-python3.* .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
	find edge_agent tests benchmarks -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
