#!/bin/sh
# Before a planned switchover, on the primary: makes its stop short, and refuses new writes. Reads
# go on. The next start takes this back, and so do we if anything fails.
set -eu
. ./cluster.sh

undo() {
    rm -f "$DEMOTED"
    ask 'SELECT pg_reload_conf()' >/dev/null
}

ask CHECKPOINT # the long one, while writes go on
trap undo EXIT
echo 'default_transaction_read_only = on' | put "$DEMOTED"
ask 'SELECT pg_reload_conf()' >/dev/null
until [ "$(ask 'SHOW default_transaction_read_only')" = on ]; do sleep 0.01; done
ask CHECKPOINT # the short one, so that the stop has nothing left to write
trap - EXIT
