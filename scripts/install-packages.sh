#!/bin/bash
# Installs the missing Debian packages that the build needs. `--demo` adds the text of the demo, `--paper` the packages for charts, and
# `--tests` the packages without which some tests are skipped: Slurm, Open MPI, a browser, Prometheus, emulated processors.
# Prints nothing and needs no root rights if nothing is missing.
set -euo pipefail

packages=(libzmq3-dev libopenblas-dev libhdf5-dev libyaml-dev libssl-dev libsqlite3-dev zlib1g-dev libzstd-dev liblzma-dev libbz2-dev
  liblz4-dev libmicrohttpd-dev libsystemd-dev libpcre2-dev libsentencepiece-dev
  pkg-config)
[ "${1:-}" = --demo ] && packages+=(bible-kjv)
[ "${1:-}" = --tests ] && packages+=(slurm-wlm munge openmpi-bin libopenmpi-dev mpich libmpich-dev chromium prometheus qemu-user libc6-dev-arm64-cross libgcc-12-dev-arm64-cross iproute2 nftables hdf5-tools)
[ "${1:-}" = --paper ] && packages+=(python3 librsvg2-bin)

if ! command -v swift >/dev/null; then
  echo "ress needs Swift 6.2 or newer, and 'swift' is not on the PATH: see https://www.swift.org/install/linux/" >&2
  exit 1
fi

if ! command -v dpkg-query >/dev/null; then
  echo "This is not a Debian system, so nothing was installed. ress needs the development files of" >&2
  echo "ZeroMQ 4.3, OpenBLAS, HDF5 1.10 (serial), libyaml, SQLite 3, zlib, zstd, liblzma, bzip2, lz4, libmicrohttpd, libsystemd, PCRE2, SentencePiece and OpenSSL's libcrypto, and pkg-config." >&2
  # Continue if pkg-config finds them.
  pkg-config --exists libzmq openblas hdf5 yaml-0.1 sqlite3 zlib libzstd liblzma liblz4 libmicrohttpd libsystemd libpcre2-8 sentencepiece libcrypto 2>/dev/null || exit 1
  exit 0
fi

missing=()
for package in "${packages[@]}"; do
  state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
  [ "$state" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null; then
    echo "Missing packages: ${missing[*]}. Install them as root: apt-get install ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
fi

echo "Installing ${missing[*]}"
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
