#!/bin/sh
# Restores a backup made by backup.sh, by hand, after `volery down`:
#
#     ./restore.sh VOLUME [BACKUP]
#
# VOLUME is the volume of the primary that Volery has recorded, such as
# ~/.volery/orders/dev/volumes/orders-db/data-0; BACKUP a folder, else the newest one in any of the
# volumes. It is unpacked beside the data and verified before anything is touched. What every volume
# of the service had as its data is kept as data.before-TIME; at `volery up` the primary starts on
# what was restored, on a timeline of its own, and the others copy it.
set -eu

if [ ! -d "${1:-}" ] || { [ $# -gt 1 ] && [ ! -d "$2" ]; }; then
    sed -n '2,10s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
VOLERY_VOLUME=$(cd "$1" && pwd)
given=${2:+$(cd "$2" && pwd)}
# shellcheck disable=SC2034 # cluster.sh wants to know
VOLERY_SERVICE=restore VOLERY_INSTANCE=restore PORT=0 RESTORE_URL=tcp://none:0
cd "$(dirname "$0")"
. ./cluster.sh

volumes=${VOLERY_VOLUME%/*}
moment=$(date -u +%Y%m%dT%H%M%SZ)

main() {
    for each in "$volumes"/data-*; do
        if in_use "$each/data"; then fail "$each is in use: volery down"; fi
    done
    backup=${given:-$(newest)}
    [ -e "$backup/base.tar.gz" ] || fail "there is no backup in ${backup:-$volumes}"
    say "restoring $backup"
    unpack
    for each in "$volumes"/data-*; do
        rm -f "$each/rewinding" "$each/stale" "$each/demoted.conf"
        if [ -e "$each/data" ]; then mv "$each/data" "$each/data.before-$moment"; fi
    done
    mv "$COPY" "$DATA"
    say "restored; now: volery up. Remove data.before-$moment in every volume when all is well"
}

in_use() {
    pid=$(sed -n 1p "$1/postmaster.pid" 2>/dev/null || :)
    [ -n "$pid" ] && [ "$(stat -Lc %d:%i "/proc/$pid/cwd" 2>/dev/null)" = "$(stat -Lc %d:%i "$1")" ]
}

newest() {
    for each in "$volumes"/data-*/backups/*-term-*; do
        printf '%s %s\n' "${each##*/}" "$each"
    done | sort | tail -n 1 | cut -d ' ' -f 2-
}

unpack() {
    [ "$(find "$backup" -name '*.tar.gz' | wc -l)" = 1 ] || fail "$backup has tablespaces: by hand"
    rm -rf "$COPY"
    mkdir -m 700 "$COPY"
    tar -xzf "$backup/base.tar.gz" -C "$COPY"
    if [ "$(id -u)" = 0 ]; then chown -R "$OWNER:" "$COPY"; fi
    as_owner pg_verifybackup -q -m /dev/stdin "$COPY" <"$backup/backup_manifest" ||
        fail "$backup is damaged; nothing was touched"
    as_owner touch "$COPY/recovery.signal" # what it writes from now on is another history
}

main
