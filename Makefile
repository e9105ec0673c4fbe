# Everything a person types. `make demo` and `make test` set themselves up; nothing but Debian, Python 3.11+, make and git is needed.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
DATA ?=

.PHONY: demo test test-long lint dev screenshots peers benchmarks up down clean help
.PHONY: models-list models-status models-sync models-fetch models-upload-s3 models-clean

help:
	@echo "make demo [DATA=DIR]  real bars to a traded, explained paper session (DATA: a folder of Parquet bars; default: the boxed data)"
	@echo "make test             the whole test suite"
	@echo "make test-long        longer property campaigns and all folds"
	@echo "make dev [DATA=DIR]   the Dagster UI on http://127.0.0.1:3000"
	@echo "make lint             ruff, import-linter, mypy"
	@echo "make benchmarks       the feature engine beside its peers, to docs/benchmarks.md (a quiet machine, 12 GB of disk)"
	@echo "make models-list | models-status | models-clean"
	@echo "make models-sync | models-fetch MODEL=LABEL | models-upload-s3 MODEL=LABEL, each with URL=s3://bucket/prefix"
	@echo "make screenshots      the pictures of docs/ (needs Debian's chromium)"

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; $(PYTHON) is older. Install it, or run: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 2; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "'$(PYTHON) -m venv' does not work here. On Debian: apt-get install python3-venv"; exit 2; }
	@echo "installing into .venv (a few minutes, once)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]' 2>.venv/install.log || { tail -n 20 .venv/install.log; exit 1; }
	@touch $(READY)

demo: $(READY)
	@$(BIN)/trading-platform demo $(if $(DATA),--data $(DATA))

test: $(READY)
	@$(BIN)/python -m pytest -n 2 --dist loadgroup -q

test-long: $(READY)
	@TRADING_TEST_LONG=1 $(BIN)/python -m pytest -n 2 --dist loadgroup -q

lint: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/lint-imports
	@$(BIN)/mypy

dev: $(READY)
	@$(BIN)/trading-platform dev $(if $(DATA),--data $(DATA))

screenshots: $(READY)
	@$(BIN)/python docs/screenshots.py

peers: $(READY)
	@$(BIN)/python -m benchmarks.peers.install

benchmarks: $(READY)
	-@$(BIN)/python -m benchmarks.peers.install
	@$(BIN)/python -m benchmarks.all

models-list models-status models-clean: $(READY)
	@$(BIN)/trading-platform models $(@:models-%=%) $(if $(DATA),--data $(DATA))

models-sync models-fetch: $(READY)
	@$(BIN)/trading-platform models $(@:models-%=%) $(MODEL) --from $(URL) $(if $(DATA),--data $(DATA))

models-upload-s3: $(READY)
	@$(BIN)/trading-platform models upload-s3 $(MODEL) --to $(URL) $(if $(DATA),--data $(DATA))

up:
	docker compose up --build

down:
	docker compose down

clean:
	rm -rf .trading dbt/target dbt/logs
