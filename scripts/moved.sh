#!/bin/bash
# A clone that was copied or moved cannot use its build folders: Clang's precompiled modules contain the absolute path of their cache ("was
# compiled with module cache path …, but the path is currently …"). `make build` and the scripts that build call this first. It removes build
# folders that were made at another path, and prints a message.
set -euo pipefail
cd "$(dirname "$0")/.."

here=$(pwd -P)
for folder in .build .build-double .build-dist; do
  [ -d "$folder" ] || continue
  made=$(cat "$folder/made-in" 2>/dev/null || true)
  # A folder that was built by `swift build` alone has no file made-in; its build plan contains the path of the sources.
  [ -n "$made" ] || [ ! -e "$folder/release.yaml" ] || made=$(sed -n 's|.*"\(/[^"]*\)/Sources/.*|\1|p;' "$folder/release.yaml" | sed -n 1p)
  if [ -n "$made" ] && [ "$made" != "$here" ]; then
    echo "$folder was built in $made, but this clone is $here: it is removed and built again" >&2
    rm -rf "$folder"
  fi
done
for folder in "$@"; do
  mkdir -p "$folder"
  echo "$here" >"$folder/made-in"
done
