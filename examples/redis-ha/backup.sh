#!/bin/sh
# Before a risky step, on the primary: a complete copy, the last few kept. Restore: stop the service,
# remove every $VOLERY_VOLUME/data, copy this to the primary's, start.
set -eu
. ./cluster.sh

folder=${REDIS_BACKUPS:-$VOLERY_VOLUME/backups}
name=$(date -u +%Y%m%dT%H%M%SZ)-term-$VOLERY_TERM
rm -rf "$folder"/unfinished-*
log=$folder/unfinished-$name/appendonlydir
(umask 077 && mkdir -p "$log")
# As the base of a log of writes, which is what Redis reads when it starts.
timeout 590 redis-cli -h "$HOST" -p "$PORT" --rdb "$log/appendonly.aof.1.base.rdb" >/dev/null
redis-check-rdb "$log/appendonly.aof.1.base.rdb" >/dev/null
echo "file appendonly.aof.1.base.rdb seq 1 type b" >"$log/appendonly.aof.manifest"
cp "$CLUSTER_FILE" "$folder/unfinished-$name/"
sync "$log"/* "$folder/unfinished-$name"/*
mv "$folder/unfinished-$name" "$folder/$name"
say "backup $name"
find "$folder" -mindepth 1 -maxdepth 1 -name '*-term-*' | sort -r |
    tail -n +$((${REDIS_BACKUPS_KEPT:-3} + 1)) | while read -r old; do rm -rf "$old"; done
