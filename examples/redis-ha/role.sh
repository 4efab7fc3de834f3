#!/bin/sh
# Prints `primary POSITION`, `replica POSITION` or `syncing POSITION`; fails if it cannot tell.
#
# POSITION is the epoch times 10^14, plus the offset: whoever has followed a later primary counts as
# ahead of whoever got more from one before. Syncing is one that starts, copies, has not yet on disk
# what it copied, or does not follow a primary that is there. One that has everything on disk and
# finds no primary may have to become it: a replica.
set -eu
. ./cluster.sh

answer=$(printf '%s\n' 'INFO replication' 'INFO persistence' 'FCALL_RO volery_epoch 0' |
    redis-cli -h "$HOST" -p "$PORT" 2>&1) || :
# Not listening, or not yet: it starts. Anything else is not for us to interpret.
case $answer in *'Could not connect'*) echo syncing; exit ;; esac
role='' link='' since=-1 id='' offset=0 epoch=0 copying=0 rewriting=no
carriage=$(printf '\r')
while IFS=: read -r key value; do
    value=${value%"$carriage"}
    case $key in
        role) role=$value ;;
        master_link_status) link=$value ;;
        master_link_down_since_seconds) since=$value ;;
        master_replid) id=$value ;;
        master_repl_offset) offset=$value ;;
        master_sync_in_progress) copying=$value ;;
        loading | aof_rewrite_in_progress | aof_rewrite_scheduled)
            if [ "$value" != 0 ]; then rewriting=yes; fi ;;
        aof_last_bgrewrite_status | aof_last_write_status)
            if [ "$value" != ok ]; then rewriting=yes; fi ;;
        [0-9]*) epoch=$key ;;
    esac
done <<ANSWER
$answer
ANSWER
position=$((epoch * 100000000000000 + offset))

# Whether what this replica has is on disk: after a copy Redis writes all of it anew. It has something
# once it has been linked.
safe() {
    if [ "$copying" != 0 ]; then rm -f "$SAFE_FILE"; return 1; fi
    [ "$(cat "$SAFE_FILE" 2>/dev/null)" != "$id" ] || return 0
    if [ "$rewriting" = yes ] || { [ "$link" != up ] && [ "$since" -lt 0 ]; }; then return 1; fi
    echo "$id" | put "$SAFE_FILE"
}

case $role in
    master) echo "primary $position" ;;
    slave)
        if ! safe; then role=syncing
        elif [ "$link" = up ]; then role=replica
        else
            role=replica
            case $(ask_primary PING 2>&1) in *PONG* | *NOAUTH*) role=syncing ;; esac
        fi
        echo "$role $position" ;;
    *) fail "$answer" ;;
esac
