#!/bin/sh
# Prints `primary POSITION`, `replica POSITION` or `syncing`; fails if it cannot tell.
#
# POSITION is the timeline times 2^40, plus the bytes of WAL that are safely on disk: whoever has
# followed a later promotion counts as ahead of whoever wrote more before it. Syncing is one that
# starts, copies, is behind by more than POSTGRES_LAG_BYTES, or gets nothing from a primary that
# is there. One that gets nothing because there is no primary may have to become it: a replica.
set -eu
. ./cluster.sh

lag=${POSTGRES_LAG_BYTES:-16777216}
answer=$(ask "
WITH written AS (
    SELECT CASE WHEN pg_is_in_recovery()
        THEN greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())
        ELSE pg_current_wal_flush_lsn() END AS lsn,
    CASE WHEN pg_is_in_recovery()
        THEN (SELECT max(name) FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{24}$')
        ELSE pg_walfile_name(pg_current_wal_flush_lsn()) END AS file)
SELECT CASE
    WHEN NOT pg_is_in_recovery() THEN 'primary'
    WHEN pg_is_wal_replay_paused() OR lsn - pg_last_wal_replay_lsn() > $lag THEN 'syncing'
    WHEN (SELECT status FROM pg_stat_wal_receiver) IS DISTINCT FROM 'streaming' THEN 'unfed'
    WHEN (SELECT latest_end_lsn FROM pg_stat_wal_receiver) - lsn > $lag THEN 'syncing'
    ELSE 'replica' END,
    (lsn - '0/0') + ('x' || left(file, 8))::bit(32)::bigint * 1099511627776
FROM written" 2>&1) || {
    # Not listening, or not yet: it starts, or copies. Anything else is not for us to interpret.
    if pg_isready -q; then fail "$answer"; fi
    echo syncing
    exit
}
role=${answer%|*}
if [ "$role" = unfed ]; then
    role=replica
    if primary_answers 0.3; then role=syncing; fi
fi
echo "$role ${answer#*|}"
