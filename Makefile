# What one types every day; `make help` lists it. The scripts do the work and can be run by themselves.

.DEFAULT_GOAL := help
.PHONY: help packages build mpi test demo paper paper-quick dist format lint clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

packages: ## install the Debian packages that are missing
	@scripts/install-packages.sh

build: packages ## build .build/release/ress
	@scripts/moved.sh .build
	@swift build -c release --product ress
	@echo "Built .build/release/ress"

mpi: build ## the same, and the plug-in that speaks MPI, with this site's mpicc (docs/mpi.md)
	@scripts/mpi.sh

test: packages ## build and run every test, single and double precision
	@scripts/test.sh

demo: ## train on real text with two workers; TEXT=folder brings your own
	@TEXT='$(TEXT)' scripts/demo.sh

paper: ## the paper's experiments in some hours; DATA=folder of the sets (Benchmarks/paper/README.md)
	@scripts/paper.sh '$(DATA)'

paper-quick: ## the same, smaller, within the hour
	@scripts/paper.sh '$(DATA)' --quick

dist: ## make dist/ress-VERSION-MACHINE.tar.gz, for a bare Debian 12
	@scripts/dist.sh

format: ## bring all Swift files into the house's format
	@swift format -i -r Package.swift Sources Tests Benchmarks

lint: ## say what `make format` would change, and fail if that is anything
	@swift format lint --strict -r Package.swift Sources Tests Benchmarks

clean: ## remove what was built; checkpoints and data stay
	@rm -rf .build .build-double
