# shellcheck shell=sh disable=SC2034
# What every script of this recipe needs: where things are, and how to ask. Sourced, never run.
# Terms: the *offset* is how many bytes of writes replication has carried. It begins again when a
# primary is started again, so an *epoch* counts those starts, and promotions. The epoch travels with
# the data, as a function of Redis: that is in every copy, and no FLUSHALL empties it.

DATA=$VOLERY_VOLUME/data
TERM_FILE=$VOLERY_VOLUME/term       # the term of my own last promotion
CLUSTER_FILE=$DATA/cluster          # whose data these are: nobody else's are ever copied over them
SAFE_FILE=$VOLERY_VOLUME/safe       # the replication id whose data is all on disk
KEEPER_FILE=$VOLERY_VOLUME/keeper   # the process that started me last
CONFIGURATION=$PWD/redis.conf
OPENING=opening.sock                # a primary's socket in DATA, before it listens to others

# The primary, whoever that is now: this service's edge to itself, here SESSIONS_DB_URL.
self=$(printf %s "$VOLERY_SERVICE" | tr a-z- A-Z_)_URL
eval "self=\${$self#tcp://}"
PRIMARY_HOST=${self%:*}
PRIMARY_PORT=${self##*:}
if [ -n "${REDIS_PASSWORD:-}" ]; then export REDISCLI_AUTH="$REDIS_PASSWORD"; fi

say() { printf '%s: %s\n' "$VOLERY_INSTANCE" "$*" >&2; }
fail() { say "$@"; exit 1; }

# Write standard input to a file, all of it or nothing, and for good.
put() {
    (umask 077 && cat >"$1.new")
    sync "$1.new"
    mv "$1.new" "$1"
    sync "$(dirname "$1")"
}

ask() { redis-cli -e -h "$HOST" -p "$PORT" "$@"; }
ask_primary() { timeout 0.5 redis-cli -e -h "$PRIMARY_HOST" -p "$PRIMARY_PORT" "$@"; }

# The next epoch begins here, whether or not a replica is there yet to confirm it. What follows is
# how to ask.
next_epoch() {
    epoch=$("$@" FCALL_RO volery_epoch 0 2>/dev/null) || epoch=0
    wanted=$(sed -n 's/^min-replicas-to-write *//p' "$CONFIGURATION" | tail -n 1)
    "$@" CONFIG SET min-replicas-to-write 0 >/dev/null
    "$@" FUNCTION LOAD REPLACE "#!lua name=volery
redis.register_function{function_name = 'volery_epoch', flags = {'no-writes', 'allow-stale'},
    callback = function() return $((epoch + 1)) end}" >/dev/null
    "$@" CONFIG SET min-replicas-to-write "${wanted:-0}" >/dev/null
}
