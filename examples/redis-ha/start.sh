#!/bin/sh
# Starts one Redis, as primary or as replica, and becomes it.
#
# Primary if Volery says so, or if this volume was promoted after Volery said otherwise: when a
# process is only started again its environment is an old one. A replica follows the primary through
# the edge, and copies it if it has to; until then it answers nothing. So does a former primary:
# what it has and nobody else has is gone.
set -eu
. ./cluster.sh

main() {
    command -v redis-server redis-cli >/dev/null ||
        fail "redis-server is not on PATH: apt-get install redis-server"
    version=$(redis-server --version | sed 's/.* v=\([0-9]*\).*/\1/')
    [ "$version" -ge 7 ] || fail "this is Redis $version, and 7 or newer is needed"
    (umask 077 && mkdir -p "$DATA")
    promoted=$(cat "$TERM_FILE" 2>/dev/null || echo 0)
    if [ "$VOLERY_ROLE" = primary ] || [ "$promoted" -gt "$VOLERY_TERM" ]; then
        be_primary
    else
        be_replica
    fi
}

# It listens to nobody until all its data is there and the next epoch has begun.
be_primary() {
    yield
    if ! has_data; then
        # An empty primary would look healthy, and be the loss of everything, unless that is wished.
        [ "$VOLERY_TERM" -le 1 ] || [ -n "${VOLERY_EMPTY:-}" ] ||
            fail "no data in $VOLERY_VOLUME: restore it, or promote another"
        say "first start: an empty database"
        rm -f "$CLUSTER_FILE"
    fi
    [ -e "$CLUSTER_FILE" ] || od -An -N16 -tx1 /dev/urandom | tr -d ' \n' | put "$CLUSTER_FILE"
    (open_up &)
    become "port 0" "unixsocket $OPENING" "unixsocketperm 700"
}

# Started again by the same keeper means: the primary died. A replica takes over without copying
# anything, while everybody would have to copy this one. If nobody can, it goes on being the primary.
yield() {
    [ "$(cat "$KEEPER_FILE" 2>/dev/null)" = "$PPID" ] || return 0
    say "died as the primary: waits for a replica to take over"
    sleep "${REDIS_YIELD_SECONDS:-5}"
}

has_data() { [ -e "$DATA/appendonlydir/appendonly.aof.manifest" ]; }

# Runs beside the server, which has our process id by then.
open_up() {
    cd "$DATA"
    until [ "$(redis-cli -s "$OPENING" PING 2>/dev/null)" = PONG ]; do
        kill -0 "$$" || exit 0
        sleep 0.05
    done
    if ! (next_epoch redis-cli -e -s "$OPENING" &&
        redis-cli -e -s "$OPENING" CONFIG SET port "$PORT" >/dev/null); then
        say "cannot become the primary"
        kill "$$"
    fi
}

be_replica() {
    until [ -e "$CLUSTER_FILE" ]; do
        # Its first start: it belongs to whoever is the primary now.
        found=$(ask_primary CONFIG GET masterauth 2>/dev/null | sed -n 2p)
        if [ -n "$found" ]; then echo "$found" | put "$CLUSTER_FILE"; else sleep 0.2; fi
    done
    become "port $PORT" "replicaof $PRIMARY_HOST $PRIMARY_PORT"
}

# The cluster's name is the password of replication: a primary that is empty has another one, and
# nobody gives up data for it.
become() {
    cluster=$(cat "$CLUSTER_FILE")
    settings=$(
        printf '%s\n' "bind $HOST" "$@" "masteruser replication" "masterauth $cluster" \
            "user replication reset on >$cluster +psync +replconf +ping"
        if [ -n "${REDIS_PASSWORD:-}" ]; then
            printf 'requirepass "%s"\n' "$(printf %s "$REDIS_PASSWORD" | sed 's/[\"]/\\&/g')"
        fi
        cat "$CONFIGURATION"
    )
    echo "$PPID" | put "$KEEPER_FILE"
    cd "$DATA"
    rm -f temp-* "$OPENING"
    exec redis-server - <<SETTINGS
$settings
SETTINGS
}

main
