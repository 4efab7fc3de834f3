#!/bin/sh
# Before a risky step, on the primary: a complete copy in one compressed file, the last few kept.
# restore.sh brings one back.
set -eu
. ./cluster.sh

folder=${POSTGRES_BACKUPS:-$VOLUME/backups}
name=$(date -u +%Y%m%dT%H%M%SZ)-term-$VOLERY_TERM
mkdir -p "$folder"
if [ "$(id -u)" = 0 ]; then chown "$OWNER:" "$folder"; fi
rm -rf "$folder"/unfinished-*
# Fetched, not streamed: a stream would count as a replica that has the commits.
as_owner pg_basebackup -D "$folder/unfinished-$name" -Ft -z -X fetch -c fast
mv "$folder/unfinished-$name" "$folder/$name"
say "backup $name"
find "$folder" -mindepth 1 -maxdepth 1 -name '*-term-*' | sort -r |
    tail -n +$((${POSTGRES_BACKUPS_KEPT:-3} + 1)) | while read -r old; do rm -rf "$old"; done
