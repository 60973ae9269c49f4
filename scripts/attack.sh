#!/bin/bash
# What an attacker and a bad disk would try, at length: forged and damaged datasets, checkpoints and safetensors files, frames of nonsense,
# messages without an end, floods of questions. `make test` does the same a few hundred times. Each part says its seeds, and the memory
# before and after.
#
#   scripts/attack.sh              10,000 files of each kind, 1,000,000 messages
#   scripts/attack.sh 100000       as many files
#   RESS_SEED=500 scripts/attack.sh    other seeds; a failure names its own
set -euo pipefail
cd "$(dirname "$0")/.."
files=${1:-10000}
swift build --build-tests -c release 2>&1 | grep -E 'error:|warning:' || true

attack() {
  echo "== $2"
  RESS_FUZZ=$1 swift test --skip-build -c release --filter "$2" 2>&1 | grep -E '^(✘|↳|[a-z].*resident|2,500)|[Ff]atal|passed|failed' || exit 1
}
attack "$files" ForgedFileTests
attack 500000 FloodTests
attack 1 'Questions that cost'
