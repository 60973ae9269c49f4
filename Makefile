# The commands of every day; `make help` lists them. The scripts do the work and can be called directly.

.DEFAULT_GOAL := help
.PHONY: help packages build mpi test python demo paper paper-quick dist format lint clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

packages: ## install the Debian packages that are missing
	@scripts/install-packages.sh

build: packages ## build .build/release/ress
	@scripts/moved.sh .build
	@swift build -c release --product ress
	@echo "Built .build/release/ress"

mpi: build ## the same, and the MPI plug-in, with this site's mpicc (docs/mpi.md)
	@scripts/mpi.sh

test: packages ## build and run every test, single and double precision
	@scripts/test.sh

python: ## install the Python package in .build-python and run its tests (needs PyPI once)
	@scripts/python.sh

demo: ## train on real text with two workers; TEXT=folder uses your own
	@TEXT='$(TEXT)' scripts/demo.sh

paper: ## run the paper's experiments (some hours); DATA=folder of datasets (Benchmarks/paper/README.md)
	@scripts/paper.sh '$(DATA)'

paper-quick: ## the same at small size, in a quarter of an hour
	@scripts/paper.sh '$(DATA)' --quick

dist: ## build dist/ress-VERSION-MACHINE.tar.gz, for a bare Debian 12
	@scripts/dist.sh

format: ## format all Swift files
	@swift format -i -r Package.swift Sources Tests Benchmarks

lint: ## fail if `make format` would change a file, and print where
	@swift format lint --strict -r Package.swift Sources Tests Benchmarks

clean: ## remove build folders; checkpoints and data stay
	@rm -rf .build .build-double .build-python
