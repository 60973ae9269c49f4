#!/bin/bash
# A clone that was copied or moved cannot go on with what was built in it: Clang's precompiled modules hold the absolute path of their cache
# ("was compiled with module cache path …, but the path is currently …"). `make build` and the scripts that build call this first: it removes
# what was built elsewhere, and says so.
set -euo pipefail
cd "$(dirname "$0")/.."

here=$(pwd -P)
for folder in .build .build-double .build-dist; do
  [ -d "$folder" ] || continue
  made=$(cat "$folder/made-in" 2>/dev/null || true)
  # What was built by `swift build` alone has no note; its plan names the sources.
  [ -n "$made" ] || [ ! -e "$folder/release.yaml" ] || made=$(sed -n 's|.*"\(/[^"]*\)/Sources/.*|\1|p;' "$folder/release.yaml" | sed -n 1p)
  if [ -n "$made" ] && [ "$made" != "$here" ]; then
    echo "$folder was built in $made, and this clone is $here: what was built is removed, and built anew" >&2
    rm -rf "$folder"
  fi
done
for folder in "$@"; do
  mkdir -p "$folder"
  echo "$here" >"$folder/made-in"
done
