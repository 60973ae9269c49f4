#!/bin/bash
# Compares the bits of all kernels on arm64, under qemu-aarch64, with those of this machine: prints the lines that differ, and fails if
# there are any. Needs qemu-user, libc6-dev-arm64-cross and libgcc-12-dev-arm64-cross; the compiler and the linker are Swift's.
#
#   Tests/KernelBits/run.sh [CLANG]
set -euo pipefail
cd "$(dirname "$0")"
clang=${1:-$(dirname "$(readlink -f "$(command -v swift)")")/clang}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
# As Package.swift has them.
flags=(-O3 -fno-math-errno -fno-trapping-math -ffp-contract=off -I ../../Sources/Numbers/CKernels/include bits.c)
for file in ../../Sources/Numbers/CKernels/*.c; do
  # The thread team calls Swift.
  [ "$(basename "$file")" = team.c ] || flags+=("$file")
done
for precision in "" -DRESS_DOUBLE; do
  "$clang" $precision "${flags[@]}" -o "$folder/here" -lm
  "$clang" $precision --target=aarch64-linux-gnu --sysroot=/usr/aarch64-linux-gnu -isystem /usr/aarch64-linux-gnu/include \
    -B /usr/lib/gcc-cross/aarch64-linux-gnu/12 -L /usr/lib/gcc-cross/aarch64-linux-gnu/12 -L /usr/aarch64-linux-gnu/lib \
    -static -fuse-ld=lld "${flags[@]}" -o "$folder/arm64" -lm
  "$folder/here" >"$folder/here.txt"
  qemu-aarch64 "$folder/arm64" >"$folder/arm64.txt"
  diff "$folder/here.txt" "$folder/arm64.txt" >"$folder/difference.txt" || { head -40 "$folder/difference.txt"; exit 1; }
  echo "$(wc -l <"$folder/here.txt") results ${precision:+in double precision }have the same bits on arm64"
done
