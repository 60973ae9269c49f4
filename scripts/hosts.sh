#!/bin/bash
# Hosts for tests: network namespaces on one isolated switch. Needs root, iproute2, and nftables for `loss`.
#
#   hosts.sh up N            hosts 1…N at 10.79.0.1…N; run a command there with: ip netns exec ${HOSTS}I COMMAND
#   hosts.sh cut I | join I  disconnect host I at the switch, and connect it again; sockets stay open
#   hosts.sh rate I 20mbit   limit the sending rate of host I
#   hosts.sh loss I PERCENT  drop this share of the packets to host I
#   hosts.sh down            end every process in the hosts, and remove them
#
# HOSTS is the prefix of their names (at most 8 letters; default: ress), so that two tests can have hosts of their own.
set -euo pipefail
hosts=${HOSTS:-ress} switch=${HOSTS:-ress}-sw

all() { ip netns list | awk -v hosts="$hosts" '$1 ~ "^" hosts "([0-9]+|-sw)$" {print $1}'; }

case ${1:-} in
  up)
    ip netns add "$switch"
    ip -n "$switch" link add switch type bridge
    ip -n "$switch" link set switch up
    for i in $(seq "$2"); do
      ip netns add "$hosts$i"
      ip -n "$hosts$i" link add eth0 type veth peer name "port$i" netns "$switch"
      ip -n "$switch" link set "port$i" master switch up
      ip -n "$hosts$i" address add "10.79.0.$i/24" dev eth0
      ip -n "$hosts$i" link set lo up
      ip -n "$hosts$i" link set eth0 up
    done
    ;;
  cut) ip -n "$switch" link set "port$2" down ;;
  join) ip -n "$switch" link set "port$2" up ;;
  rate) tc -n "$hosts$2" qdisc replace dev eth0 root tbf rate "$3" burst 64kb latency 200ms ;;
  loss)
    ip netns exec "$hosts$2" nft "add table inet loss
      add chain inet loss arriving { type filter hook input priority 0; }
      flush chain inet loss arriving
      add rule inet loss arriving iif eth0 numgen random mod 100 < $3 drop"
    ;;
  down)
    for name in $(all); do
      for process in $(ip netns pids "$name"); do kill -9 "$process" 2>/dev/null || true; done
      ip netns delete "$name"
    done
    ;;
  *)
    sed -n '2,11s/^# \{0,1\}//p' "$0"
    exit 2
    ;;
esac
