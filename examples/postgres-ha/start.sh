#!/bin/sh
# Starts one PostgreSQL of the cluster, as primary or as replica, and stays until it has ended.
#
# Primary if Volery says so, or if this volume was promoted after Volery said otherwise: when a
# process is only started again its environment is an old one. A replica copies the primary if it
# has no data, follows it through the edge, and copies afresh if it finds that it cannot follow. A
# former primary winds back what nobody else has.
set -eu
. ./cluster.sh

main() {
    if [ "$(id -u)" = 0 ]; then chown "$OWNER:" "$VOLERY_VOLUME"; fi
    await_former_life
    rm -rf "$COPY" "$DEMOTED" "$VOLUME"/.s.PGSQL.*
    recovery='' # the command that gets WAL from elsewhere; to end a recovery there must be one
    promoted=$(cat "$TERM_FILE" 2>/dev/null || echo 0)
    if [ "$VOLERY_ROLE" = primary ] || [ "$promoted" -gt "$VOLERY_TERM" ]; then
        role=primary
        prepare_primary
    else
        role=replica
        prepare_replica
    fi
    put "$DATA/postgresql.conf" <postgresql.conf
    put "$DATA/pg_hba.conf" <pg_hba.conf
    serve
}

# Killed, a postmaster leaves its processes behind, and they may still write. They end by
# themselves when they notice; nobody else may touch the data before.
await_former_life() {
    [ -e "$DATA/postmaster.pid" ] || return 0
    pid=$(sed -n 1p "$DATA/postmaster.pid")
    memory=$(awk 'NR == 7 {print $2}' "$DATA/postmaster.pid")
    tries=0
    while running "$pid" || attached "${memory:-none}"; do
        tries=$((tries + 1))
        [ "$tries" -le 300 ] || fail "processes of a former start still use $VOLERY_VOLUME"
        sleep 0.1
    done
    rm -f "$DATA/postmaster.pid" # its number may be a stranger's by now, and block the start
}

running() { [ "$(stat -Lc %d:%i "/proc/$1/cwd" 2>/dev/null)" = "$(stat -Lc %d:%i "$DATA")" ]; }
attached() { awk -v id="$1" '$2 == id && $7 > 0 {n = 1} END {exit !n}' /proc/sysvipc/shm; }

prepare_primary() {
    if [ ! -e "$DATA/PG_VERSION" ]; then
        # An empty primary would look healthy, and be the loss of everything, unless that is wished.
        [ "$VOLERY_TERM" -le 1 ] || [ -n "${VOLERY_EMPTY:-}" ] ||
            fail "no data in $VOLERY_VOLUME: restore it, or promote another"
        initialise
    elif [ -e "$REWINDING" ] || [ -e "$STALE" ]; then
        fail "the data in $VOLERY_VOLUME is not complete: it cannot be the primary"
    elif [ -e "$DATA/standby.signal" ]; then
        # It was a replica: end its recovery as a promotion does, with a timeline of its own.
        mv "$DATA/standby.signal" "$DATA/recovery.signal"
    fi
    if [ -e "$DATA/recovery.signal" ]; then recovery=/bin/false; fi
}

initialise() {
    say "first start: making an empty cluster"
    as_owner initdb -D "$COPY" -U postgres -A trust --data-checksums -E UTF8 --locale=C.UTF-8 \
        --no-instructions >/dev/null
    name=${POSTGRES_USER:-app}
    as_owner postgres --single -D "$COPY" -c log_min_messages=fatal postgres >/dev/null <<SQL
CREATE ROLE "$name" LOGIN;
CREATE DATABASE "${POSTGRES_DB:-$name}" OWNER "$name";
SQL
    mv "$COPY" "$DATA"
}

prepare_replica() {
    rm -f "$DATA/recovery.signal"
    if [ -e "$DATA/PG_VERSION" ] && [ ! -e "$REWINDING" ] && [ ! -e "$STALE" ]; then
        if [ -e "$DATA/standby.signal" ] || rewind; then return; fi
        say "cannot be wound back: copying afresh"
    fi
    copy_primary
}

# A former primary may have written what the present one never got, and never acknowledged.
rewind() {
    await_primary
    # Until its first checkpoint a new primary looks as if it were still on the old timeline.
    ask_primary CHECKPOINT || return 1
    theirs=$(ask_primary 'SELECT timeline_id FROM pg_control_checkpoint()') || return 1
    # Whoever followed us began a later timeline. Else ours was given up, and its number may stand
    # for other data there, which pg_rewind would not notice.
    [ "$theirs" -gt "$(last_timeline)" ] || return 1
    date >"$REWINDING"
    as_owner pg_rewind -D "$DATA" --source-server="$PRIMARY" || return 1
    as_owner touch "$DATA/standby.signal"
    rm "$REWINDING"
}

last_timeline() {
    name=$(find "$DATA/pg_wal/" -name '????????????????????????' | sort | tail -n 1)
    name=${name##*/}
    echo $((0x${name%????????????????}))
}

# The old data is there until the new one is complete.
copy_primary() {
    await_primary
    say "copying the primary"
    # With a slot the primary would take a copy under way for a replica that has the commits.
    as_owner pg_basebackup -d "$PRIMARY" -D "$COPY" -X stream --no-slot -c fast
    as_owner touch "$COPY/standby.signal"
    rm -rf "$DATA"
    mv "$COPY" "$DATA"
    rm -f "$REWINDING" "$STALE"
}

# A primary that holds other data than we do is no primary of ours: ours may be all that is left.
await_primary() {
    until primary_answers 2; do sleep 0.2; done
    [ -e "$DATA/global/pg_control" ] || return 0
    theirs=$(ask_primary 'SELECT system_identifier FROM pg_control_system()')
    ours=$(as_owner pg_controldata -D "$DATA" | sed -n 's/^Database system identifier: *//p')
    [ "$ours" = "$theirs" ] || fail "the primary is another cluster ($theirs) than ours ($ours):" \
        "nothing was touched; see which volume is the right one"
}

serve() {
    become postgres -D "$DATA" -c listen_addresses="$HOST" -c port="$PORT" \
        -c unix_socket_directories="$VOLUME" -c cluster_name="$VOLERY_INSTANCE" \
        -c primary_conninfo="$PRIMARY" -c restore_command="$recovery" &
    server=$!
    # SIGTERM to PostgreSQL means: when all clients have left. SIGINT: now, and in good order.
    trap 'kill -INT "$server" 2>/dev/null || :' TERM INT
    if [ "$role" = replica ]; then watch & fi
    code=0
    while kill -0 "$server" 2>/dev/null; do
        code=0
        wait "$server" || code=$?
    done
    exit "$code"
}

# A replica that is not fed although there is a primary has fallen off: what it needs next is gone
# there, or it has what the primary never had. Only a copy helps.
watch() {
    missed=0
    while sleep 3 && kill -0 "$server" 2>/dev/null; do
        state=$(ask "SELECT CASE WHEN NOT pg_is_in_recovery() THEN 'primary' ELSE (
            SELECT status FROM pg_stat_wal_receiver) END" 2>/dev/null) || continue
        if [ "$state" = primary ]; then return; fi
        if [ "$state" = streaming ] || ! primary_answers 1; then missed=0; continue; fi
        missed=$((missed + 3))
        if [ "$missed" -ge "${POSTGRES_FALLEN_OFF_SECONDS:-30}" ]; then
            say "cannot follow the primary: copying afresh at the next start"
            date >"$STALE"
            kill -INT "$server"
            return
        fi
    done
}

main
