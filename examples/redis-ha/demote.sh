#!/bin/sh
# Before a planned switchover, on the primary: no more writes, as if too few replicas were there.
# Reads go on. The next start takes this back, and so do we if anything fails.
set -eu
. ./cluster.sh

setting() { sed -n "s/^$1 *//p" "$CONFIGURATION" | tail -n 1; }
undo() {
    replicas=$(setting min-replicas-to-write) period=$(setting repl-ping-replica-period)
    ask CONFIG SET min-replicas-to-write "${replicas:-0}" \
        repl-ping-replica-period "${period:-10}" >/dev/null
}

trap undo EXIT
ask CONFIG SET min-replicas-to-write 1000000 repl-ping-replica-period 3600 >/dev/null
# Nobody has so many replicas: it asks each how far it is, which they would else tell once a second.
# Redis stops when it knows that they have everything; a ping would be something new to have.
ask WAIT 1000000 100 >/dev/null
trap - EXIT
