#!/bin/bash
# Boots Debian 12 in a container (debootstrap, systemd-nspawn), installs ress there with the commands of cluster/systemd/README.md, starts
# the units, and trains a run through a restart, a hanging coordinator and the end of a worker. Needs root, debootstrap, systemd-container
# and, the first time, the network.
#
#   scripts/systemd.sh [PROGRAM]     the program to install (default: .build/release/ress)
#
# SYSTEMD_FOLDER: where the bare system is kept for later calls (default /var/tmp/ress-systemd). The container has no network.
set -euo pipefail
cd "$(dirname "$0")/.."

program=$(readlink -f "${1:-.build/release/ress}")
folder=${SYSTEMD_FOLDER:-/var/tmp/ress-systemd}
base=$folder/base
packages=systemd,systemd-sysv,dbus,libzmq5,libhdf5-103-1,libyaml-0-2,libssl3,libsqlite3-0,zlib1g,libzstd1,libmicrohttpd12,libsystemd0,libsentencepiece0,libpcre2-8-0

[ -x "$program" ] || { echo "there is no program at $program; build it with: make build" >&2; exit 1; }
[ "$(id -u)" -eq 0 ] || { echo "this needs root: it boots a system in a container" >&2; exit 1; }
for tool in debootstrap systemd-nspawn; do
  command -v "$tool" >/dev/null || { echo "there is no $tool here: apt-get install debootstrap systemd-container" >&2; exit 1; }
done

# A base that was made with other packages is made again.
if [ "$(cat "$base.packages" 2>/dev/null)" != "$packages" ]; then
  echo "Making a bare Debian 12 in $base (some minutes)"
  rm -rf "$base.new"
  mkdir -p "$folder"
  debootstrap --variant=minbase --include="$packages" bookworm "$base.new" >"$folder/debootstrap.log" 2>&1 ||
    { tail -5 "$folder/debootstrap.log" >&2; exit 1; }
  rm -rf "$base"
  mv "$base.new" "$base"
  echo "$packages" >"$base.packages"
fi

stage=$(mktemp -d "$folder/stage-XXXXXX")
trap 'rm -rf "$stage"' EXIT
chmod 755 "$stage"
mkdir -p "$stage/ress/.build/release" "$stage/out" "$stage/units"
cp "$program" "$stage/ress/.build/release/ress"
cp -r cluster configs docs README.md scripts "$stage/ress/"
chmod -R a+rX "$stage/ress"
# The container ends when the check ends, with the exit code of the check.
cat >"$stage/units/ress-check.service" <<UNIT
[Unit]
Description=check of the units of ress
After=basic.target
SuccessAction=exit
SuccessActionExitStatus=0
FailureAction=exit
FailureActionExitStatus=1

[Service]
Type=oneshot
ExecStart=/bin/bash /ress/scripts/systemd-check.sh
StandardOutput=append:/out/log
StandardError=append:/out/log
TimeoutStartSec=240
UNIT

options=(--quiet --directory="$base" --volatile=overlay --private-network --console=pipe
  --bind-ro="$stage/ress:/ress" --bind="$stage/out:/out"
  --bind-ro="$stage/units/ress-check.service:/etc/systemd/system/ress-check.service")
# A program that was built here needs Swift's libraries from the compiler's folder; a program of `make dist` contains them.
runtime=$(ldd "$program" | awk '/libswiftCore/ && !found++ {print $3}')
[ -z "$runtime" ] || options+=(--bind-ro="$(dirname "$runtime")")

boot() { timeout --kill-after=10 300 systemd-nspawn "$@" --boot systemd.unit=ress-check.service </dev/null >"$stage/console" 2>&1; }
if [ -d /run/systemd/system ]; then
  boot "${options[@]}" && code=0 || code=$?
else
  # Without systemd on the host the container cannot be registered, and nspawn needs its folder in memory.
  export stage
  export -f boot
  unshare --mount bash -c 'mount --make-rprivate / && mkdir -p /run/systemd/nspawn && mount -t tmpfs tmpfs /run/systemd/nspawn &&
    boot --register=no --keep-unit "$@"' boot "${options[@]}" && code=0 || code=$?
fi
cat "$stage/out/log" 2>/dev/null || true
[ "$code" -eq 0 ] || { tail -20 "$stage/console" >&2; echo "the units do not work in a booted Debian 12 (code $code)" >&2; exit 1; }
