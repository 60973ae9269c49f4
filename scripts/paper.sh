#!/bin/bash
# `make paper`: installs what is missing, builds, and runs Benchmarks/paper/paper.py on the sets in the folder DATA.
set -euo pipefail
cd "$(dirname "$0")/.."

data=$1
shift
if [ ! -d "$data" ]; then
  echo "make paper DATA=folder: Benchmarks/paper/README.md says what the folder holds, and where it comes from" >&2
  exit 2
fi
scripts/install-packages.sh --paper
scripts/moved.sh .build
swift build -c release --product ress
exec python3 Benchmarks/paper/paper.py --data "$data" "$@"
