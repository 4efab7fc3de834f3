#!/bin/sh
# Makes this replica the primary. Volery has made sure that the former one is dead. Run again, it
# does no harm.
set -eu
. ./cluster.sh

former=$(cat "$TERM_FILE" 2>/dev/null || echo 0)
# First on disk: started again from now on, this is a primary, even if we are killed here.
echo "$VOLERY_TERM" | put "$TERM_FILE"
if ! (ask REPLICAOF NO ONE >/dev/null && next_epoch ask); then
    if [ "$(ask ROLE | head -n 1)" = slave ]; then echo "$former" | put "$TERM_FILE"; fi
    fail "promotion did not succeed"
fi
say "primary of term $VOLERY_TERM"
