#!/bin/bash
# `make python`: installs the package in python/ into an environment of its own (.build-python) and runs its tests. They check the golden
# files that the Swift tests check too. With .build/release/ress they also ask the program. Needs PyPI the first time.
# RESS_PYTHON=FOLDER uses an existing environment instead, and installs nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
environment=${RESS_PYTHON:-.build-python}
if [ -z "${RESS_PYTHON:-}" ]; then
  [ -x "$environment/bin/python" ] || python3 -m venv "$environment"
  # PyTorch for the CPU alone is a tenth of the size; PyPI's is used where that index cannot be reached.
  "$environment/bin/pip" install -q --extra-index-url https://download.pytorch.org/whl/cpu './python[torch,frames,tokenizers,arrow]'
fi
[ -x .build/release/ress ] && export RESS=$PWD/.build/release/ress
[ -n "${RESS_PYTHON:-}" ] && export PYTHONPATH=$PWD/python
environment=$(cd "$environment" && pwd)
# From the folder of the tests, so that the installed package is tested and not the folder beside them.
cd python/tests
"$environment/bin/python" -m unittest discover -v
