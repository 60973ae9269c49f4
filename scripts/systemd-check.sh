#!/bin/bash
# Runs as a service of the Debian that scripts/systemd.sh boots: installs ress, starts the units, trains a run, and injects faults.
set -euo pipefail

say() { printf '== %s\n' "$*"; }
fail() {
  say "FAILED: $*"
  systemctl --no-pager --full status 'ress-*' || true
  journalctl --no-pager -n 60 -u 'ress-*' || true
  exit 1
}
trap 'fail "line $LINENO"' ERR

# wait_for SECONDS COMMAND...
wait_for() {
  local seconds=$1 i
  shift
  for ((i = 0; i < 10 * seconds; i++)); do
    "$@" && return 0
    sleep 0.1
  done
  fail "waited $seconds s for: $*"
}

# The N-th block of shell commands of the README.
block() { awk -v wanted="$1" '/^```sh/ {inside = ++n == wanted; next} /^```/ {inside = 0} inside' cluster/systemd/README.md; }
ress() { runuser -u ress -- env RESS_KEYS=/etc/ress /usr/bin/ress "$@"; }
restarts() { systemctl show --property NRestarts --value "$1"; }
steps() { grep -cv validation_loss "/srv/ress/checkpoints/$1/metrics.jsonl" 2>/dev/null || true; }
has_steps() { [ "$(steps "$1")" -ge "$2" ]; }
was_restarted() { [ "$(restarts "$1")" -gt "$2" ] && systemctl --quiet is-active "$1"; }

# A folder like a clone, which the user ress can read and to which keys can be copied.
mkdir -p /var/tmp/install
cd /var/tmp/install
ln -s /ress/* /ress/.build .

say "installing with the commands of the README"
. <(block 1)
cp /etc/ress/key.pub node1.pub
cp /etc/ress/key.pub coordinator.pub
. <(block 2)

say "starting the units"
systemctl start ress-coordinator || fail "the coordinator does not start"
systemctl start ress-worker@1 ress-worker@2 || fail "the workers do not start"
for unit in ress-coordinator ress-worker@1 ress-worker@2; do
  [ "$(systemctl show --property Type --value $unit)" = notify ] || fail "$unit does not notify systemd"
  say "$unit: $(systemctl show --property StatusText --value $unit)"
done

say "a run"
cat docs/*.md >/srv/ress/text.txt
ress data prepare /srv/ress/text.txt --out /srv/ress/text.h5
ress submit configs/tiny.yaml --workers 2 --set run=first --set data.path=/srv/ress/text.h5 --set checkpoint.directory=/srv/ress/checkpoints \
  --set training.steps=2000 --set checkpoint.every=500 --set cluster.minimum_workers=1
wait_for 60 has_steps first 20

say "a restart of the coordinator"
systemctl restart ress-coordinator
wait_for 60 has_steps first $(($(steps first) + 20))

say "the watchdog restarts a coordinator whose loop is blocked"
mkdir -p /run/systemd/system/ress-coordinator.service.d
printf '[Service]\nWatchdogSec=2\n' >/run/systemd/system/ress-coordinator.service.d/watchdog.conf
systemctl daemon-reload
systemctl restart ress-coordinator
before=$(restarts ress-coordinator)
kill -STOP "$(systemctl show --property MainPID --value ress-coordinator)"
wait_for 30 was_restarted ress-coordinator "$before"
wait_for 60 has_steps first $(($(steps first) + 20))

say "a worker that is stopped leaves in order, and the run continues"
systemctl stop ress-worker@2
[ "$(systemctl show --property Result --value ress-worker@2)" = success ] || fail "the worker did not end in order"
ress logs first --follow | tail -5
systemctl stop ress-worker@1 ress-coordinator
for unit in ress-worker@1 ress-coordinator; do
  [ "$(systemctl show --property Result --value $unit)" = success ] || fail "$unit did not end in order"
done

# No process may have been ended because of a refused system call.
journalctl --no-pager -u 'ress-*' >/tmp/journal
! grep -E 'status=31|code=(killed|dumped), status=[^6]' /tmp/journal || fail "a process was ended by a signal"
say "all of it works; the watchdog's restart: $(sed -n '/Watchdog timeout/{p;q}' /tmp/journal)"
