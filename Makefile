# Two commands matter: `make demo` shows Bento at work, `make test` proves it. Both install what they need, and say so first.

PYTHON ?= /usr/bin/python3
export PYTHON

VENV := .venv
BIN := $(VENV)/bin
RUN := $(VENV)/.installed-run
DEV := $(VENV)/.installed-dev

# Debian package=what shows that it is there (see tools/need)
NEED_VENV := python3-venv=module:ensurepip
NEED_DEMO := $(NEED_VENV) openssh-client=ssh-keygen nix-bin=nix-build
NEED_TEST := $(NEED_DEMO) openssh-server=sshd age=age strace=strace iproute2=ip e2fsprogs=mkfs.ext4 nodejs=node npm=npm
NEED_NIXES := $(NEED_TEST) patchelf=patchelf debian-archive-keyring=/usr/share/keyrings/debian-archive-keyring.gpg
NEED_FRESH := debootstrap=debootstrap debian-archive-keyring=/usr/share/keyrings/debian-archive-keyring.gpg git=git
NEED_SYSTEMD := $(NEED_TEST) systemd-container=systemd-nspawn $(NEED_FRESH)

# What `make fresh` runs in the new Debian; `make fresh TARGETS="demo test"` runs both.
TARGETS ?= demo

# How many inputs `make fuzz` throws at which parsers (tests/fuzz/targets.py).
RUNS ?= 1000000
FUZZED ?= manifest report heartbeat armour tar trust lock declared fleet template names

# What `make soak` does.
HOSTS ?= 1000
SECONDS ?= 600

# Debians whose Nix `make nixes` takes, and the tests that ask Nix for most.
SUITES ?= trixie forky
NIXES := $(addprefix tests/,unit/adapters/test_nix.py $(addprefix integration/test_,$(addsuffix .py,flake_update building \
	evaluating second_store diff source nix_declaration cycle pushing self_update old_faults evaluate_on_server fleet_check)))

# Said on the command line, so that nobody takes the rest for everything.
NOT_ROOT := $(if $(filter 0,$(shell id -u)),,-m "not root")

# What boots a Debian, which is made first if there is none in the cache.
BOOTED := $(addprefix tests/integration/,test_agent_systemd.py test_nixos_units.py test_real_systemd.py)

# What cuts the power runs alone: beside others its time limits run out.
ALONE := tests/faults

# What takes every fifth step or so, and each step in `make cuts` (tests/rig/cuts.py).
CUT := $(addsuffix .py,test_secret_cuts test_agent_cut test_agenix_import test_sftp_cuts test_atomic_publish test_self_update)

.DEFAULT_GOAL := help
.NOTPARALLEL: # two apt-get or pip at once would stop at each other's lock
.PHONY: help demo test check unit systemd-tests nixos-tests nixes cuts faults fuzz bench soak reference pictures fresh clean need-venv need-demo need-test need-systemd need-fresh need-nixes

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' Makefile | expand -t 22

demo: need-demo $(RUN) ## run the whole cycle on two throw-away hosts
	$(BIN)/bento demo

test: need-test check ## run every check and every test but those with a target of their own (root: real mounts, real accounts)
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder $(addprefix --ignore=,$(ALONE) $(BOOTED))
	$(BIN)/python -m pytest -n 2 --dist loadfile $(ALONE)

check: $(DEV) ## formatting, lint, types and layers: the quick ones
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy & first=$$!; $(BIN)/mypy --config-file tests/mypy.ini tests bench; second=$$?; wait $$first && exit $$second
	$(BIN)/python -m pytest -q tests/unit/test_layers.py

unit: $(DEV) ## run the unit tests (without those that need root, if you aren't root)
	$(BIN)/python -m pytest tests/unit $(NOT_ROOT)

systemd-tests: need-systemd $(DEV) ## boot a Debian with systemd: agent, units of the docs, the modules' units (root)
	BENTO_SYSTEMD_TESTS=1 $(BIN)/python -m pytest $(BOOTED)

nixos-tests: need-test $(DEV) ## evaluate the NixOS modules: BENTO_TEST_NIXPKGS=TREE, a nixpkgs or its lib (docs/nixos.md)
	@test -d "$$BENTO_TEST_NIXPKGS/lib" || { echo "set BENTO_TEST_NIXPKGS to a folder with nixpkgs' lib/ in it"; exit 2; }
	$(BIN)/python -m pytest tests/nixos

nixes: need-nixes $(DEV) ## the tests that ask Nix for most, with the Nix of SUITES: 2.26 and 2.34 (root, 10 min each)
	for suite in $(SUITES); do path=$$(tools/nix-of $$suite) && PATH=$$path:$$PATH $(BIN)/python -m pytest -q $(NIXES) || exit 1; done

cuts: need-test $(DEV) ## cut what writes at every step, where the tests take some of them; other examples than theirs; 200 pulls beside publishing (root, 20 min)
	BENTO_CUTS=1 $(BIN)/python -m pytest -q -s tests/unit $(addprefix tests/integration/,$(CUT))

faults: need-test $(DEV) ## break the agent and publishing at every system call, and cut the power around each fsync (root, 25 min)
	BENTO_FAULTS=all $(BIN)/python -m pytest -q -s tests/faults tests/integration/test_no_plaintext.py

fuzz: need-venv $(DEV) ## throw RUNS inputs at each parser of what others write (Python 3.11 on x86-64)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/fuzz.txt
	for target in $(FUZZED); do echo "== $$target"; $(BIN)/python tests/fuzz/fuzz.py $$target $(RUNS) || exit 1; done

bench: need-test $(DEV) ## measure secret commands and large fleets beside bare programs (bench/README.md)
	$(BIN)/python bench

soak: need-test $(DEV) ## let HOSTS hosts poll a real sshd for SECONDS while deploys go on (root; docs/performance.md)
	$(BIN)/python bench/soak.py --hosts $(HOSTS) --seconds $(SECONDS)

reference: $(DEV) ## write the commands' part of docs/reference.md anew
	$(BIN)/python tools/reference.py

pictures: $(DEV) ## draw docs/*.svg anew
	$(BIN)/python tools/pictures.py

fresh: need-fresh ## prove `make demo` on a new Debian 12 with only python3, make and git (root)
	tools/fresh $(TARGETS)

clean: ## remove the virtual environment and all caches
	rm -rf $(VENV) dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

need-venv:
	@tools/need $(NEED_VENV)

need-demo:
	@tools/need $(NEED_DEMO)

need-test:
	@tools/need $(NEED_TEST)

need-systemd:
	@tools/need $(NEED_SYSTEMD)

need-nixes:
	@tools/need $(NEED_NIXES)

need-fresh:
	@tools/need $(NEED_FRESH)

# The development set holds the run set, so it satisfies both stamps.
$(RUN): requirements/run.txt pyproject.toml | need-venv
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/run.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	touch $(RUN)

$(DEV): requirements/run.txt requirements/dev.txt pyproject.toml | need-venv
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	touch $(RUN) $(DEV)
