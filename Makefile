# `make` alone lists what there is to make.
.DEFAULT_GOAL := help
.PHONY: help demo demo-libvirt demo-libvirt-drain demo-rebalance test lint bench bench-admission bench-drains bench-libvirt bench-planner bench-web fleet chaos chaos-libvirt soak explore monitoring screenshot previews lock clean

BIN := .venv/bin
# KEEP=1 leaves the demo up. ARGS is passed on: make test ARGS="-k journal", make bench ARGS=--quick
KEEP ?=
ARGS ?=
keep := $(if $(filter-out 0 no,$(KEEP)),--keep)

help: ## List the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 28

demo: ## Migrate several VMs between three simulated hosts; KEEP=1 leaves everything up
	@scripts/bootstrap
	@$(BIN)/vmrelay demo $(keep) $(ARGS)

demo-libvirt: ## Migrate several QEMU guests at once between two real libvirt hosts and back
	@deploy/lab/install
	@scripts/bootstrap --libvirt
	@$(BIN)/vmrelay demo --libvirt $(keep) $(ARGS)

demo-libvirt-drain: ## Empty one of three real libvirt hosts with twelve QEMU guests, and bring its guests back
	@deploy/lab/install
	@scripts/bootstrap --libvirt
	@$(BIN)/vmrelay demo --libvirt --drain $(ARGS)

demo-rebalance: ## Balance a lopsided fleet of simulated hosts, drain two of them, bring everything back; KEEP=1 leaves it up
	@scripts/bootstrap
	@$(BIN)/vmrelay demo --rebalance $(keep) $(ARGS)

test: ## Install what the tests need, then lint and run every test
	@scripts/prepare-tests
	@$(MAKE) --no-print-directory lint
	$(BIN)/pytest --numprocesses 4 --dist worksteal $(ARGS)

lint: ## Style, types and import rules
	@scripts/bootstrap --dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: ## The relay against a bare Celery chain, side by side
	@scripts/bootstrap
	$(BIN)/python -m bench $(ARGS)

bench-admission: ## What choosing and admitting one migration costs with 100 and with 10,000 that wait; ARGS=--quick
	@scripts/bootstrap
	@$(BIN)/python -m bench.admission $(ARGS)

bench-drains: ## 500 guests leave a host and an urgent one overtakes, then two drains share; ARGS="--guests 100"
	@scripts/bootstrap
	@$(BIN)/python -m bench.drains $(ARGS)

bench-libvirt: ## The relay beside virsh migrate, on the same guest between two real libvirt hosts
	@deploy/lab/install
	@scripts/bootstrap --libvirt
	@$(BIN)/python -m bench.libvirt $(ARGS)

bench-planner: ## The planner beside hbal and a greedy, on generated, BtrPlace's and Ganeti's clusters; ARGS=--quick
	@scripts/debian-packages ganeti-htools || echo "==> going on without hbal: its rows say so"
	@scripts/bootstrap --planner
	@$(BIN)/python -m bench.planner $(ARGS)

bench-web: ## The list and the live page with 100 and with 10,000 migrations in the journal; ARGS=--quick
	@scripts/bootstrap
	@$(BIN)/python -m bench.web $(ARGS)

fleet: ## Many guests among three real libvirt hosts at once; ARGS="--guests 10 --migrations 60"
	@deploy/lab/install
	@scripts/bootstrap --libvirt
	@$(BIN)/python -m bench.fleet $(ARGS)

chaos: ## Kill what a migration needs, at every moment of it, on simulated hosts; ARGS="--only source-agent/*"
	@scripts/bootstrap
	@$(BIN)/python -m chaos $(ARGS)

chaos-libvirt: ## As root: kill agents, daemons and guests of two real libvirt hosts, cut their cables; ARGS="--only source-*"
	@deploy/lab/install
	@scripts/bootstrap --libvirt
	@$(BIN)/python -m chaos.libvirt $(ARGS)

soak: ## 2,000 migrations among simulated hosts with faults and kills, and the memory of every process; ARGS="--seed 1"
	@scripts/bootstrap
	@$(BIN)/python -m chaos.soak $(ARGS)

explore: ## Every interleaving of a small migration with one fault in it, over the real rules; for hours: ARGS="--faults 2"
	@scripts/bootstrap
	@$(BIN)/python -m chaos.explorer $(ARGS)

screenshot: ## Pictures of the live page under a simulated load, for the README; ARGS=--keep leaves it up
	@scripts/screenshot $(ARGS)

monitoring: ## A relay under load beside Prometheus: what the dashboards ask, answered; KEEP=1 goes on until Ctrl-C
	@scripts/debian-packages prometheus prometheus-redis-exporter
	@scripts/bootstrap --dev
	@$(BIN)/python -m bench.monitoring $(keep) $(ARGS)

previews: ## Draw the README's previews of the dashboards, docs/pictures/preview-*.svg, from such a run
	@$(MAKE) --no-print-directory monitoring ARGS="--seconds 75 --pictures $(ARGS)"

lock: ## Write requirements/*.lock anew; ARGS=--upgrade takes newer versions
	@scripts/bootstrap --dev
	@scripts/lock $(ARGS)

clean: ## Remove the environment, caches and builds (a kept demo's .vmrelay stays)
	rm -rf .venv .venv.incomplete .venv.lock .venv-examples build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
