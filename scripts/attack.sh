#!/bin/bash
# A long test against attackers and damaged disks: forged and damaged datasets, checkpoints and safetensors files, frames of random bytes,
# messages without an end, floods of requests. `make test` tries a few hundred of each. Each part prints its seeds, and the memory in use
# before and after.
#
#   scripts/attack.sh              10,000 files of each kind, 1,000,000 messages
#   scripts/attack.sh 100000       100,000 files of each kind
#   RESS_SEED=500 scripts/attack.sh    other seeds; a failure prints its seed
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
attack 1 QuestionsTests
