#!/bin/sh
# Makes this replica the primary, and returns when it takes writes. Volery has made sure that the
# former one is dead. Run again, it does no harm.
set -eu
. ./cluster.sh

former=$(cat "$TERM_FILE" 2>/dev/null || echo 0)
# First on disk: started again from now on, this is a primary, even if we are killed here.
echo "$VOLERY_TERM" | put "$TERM_FILE"
# pg_promote itself would look only every 100 ms whether it is done.
if ! ask "SET statement_timeout = '${POSTGRES_PROMOTE_TIMEOUT:-30s}';
    SELECT pg_promote(wait => false) WHERE pg_is_in_recovery();
    DO 'BEGIN WHILE pg_is_in_recovery() LOOP PERFORM pg_sleep(0.005); END LOOP; END'" >/dev/null
then
    if [ "$(ask 'SELECT pg_is_in_recovery()' || :)" = t ]; then echo "$former" | put "$TERM_FILE"; fi
    fail "promotion did not succeed"
fi
say "primary of term $VOLERY_TERM"
