# shellcheck shell=sh disable=SC2034
# What every script of this recipe needs: where things are, and as whom to run. Sourced, never run.
# Terms: WAL is PostgreSQL's log of writes; a *timeline* of it begins with every promotion.

# Folders above the volume may be closed to everybody but root, and PostgreSQL refuses to run as
# root. So the volume is reached through an open descriptor, which every process below inherits: no
# rights above it are needed, and the path is short enough for a Unix socket, whatever the volume's.
exec 9<"$VOLERY_VOLUME"
VOLUME=/proc/self/fd/9
DATA=$VOLUME/data
COPY=$VOLUME/copy            # data that is not complete yet
TERM_FILE=$VOLUME/term       # the term of my own last promotion
REWINDING=$VOLUME/rewinding  # there while data is rewound: half done it is worth nothing
STALE=$VOLUME/stale          # there if data cannot follow the primary: copy it afresh
DEMOTED=$VOLUME/demoted.conf # settings until the next start: no more writes
OWNER=${POSTGRES_OS_USER:-postgres}

# What Debian has on PATH are Perl wrappers, many times as slow to start.
for found in "${POSTGRES_BIN:-}" /usr/lib/postgresql/*/bin; do
    if [ -x "$found/postgres" ]; then PATH=$found:$PATH; fi
done

# This instance, through the socket in its volume.
export PGHOST=$VOLUME PGPORT="$PORT" PGUSER=postgres PGDATABASE=postgres PGCONNECT_TIMEOUT=5

# The primary, whoever that is now: this service's edge to itself, in orders-db's case ORDERS_DB_URL.
self=$(printf %s "$VOLERY_SERVICE" | tr a-z- A-Z_)_URL
eval "self=\${$self#tcp://}"
PRIMARY="host=${self%:*} port=${self##*:} user=postgres dbname=postgres connect_timeout=5"
PRIMARY="$PRIMARY application_name=$VOLERY_INSTANCE"

say() { printf '%s: %s\n' "$VOLERY_INSTANCE" "$*" >&2; }
fail() { say "$@"; exit 1; }

# Become a program as the owner of the data. From /, for it may not be allowed to see our folder.
become() {
    if [ "$(id -u)" = 0 ]; then
        set -- setpriv --reuid="$OWNER" --regid="$OWNER" --init-groups --inh-caps=-all "$@"
    fi
    cd /
    exec "$@"
}
as_owner() { (become "$@"); }

# Write standard input to a file, all of it or nothing, and for good.
put() {
    cat >"$1.new"
    if [ "$(id -u)" = 0 ]; then chown "$OWNER:" "$1.new"; fi
    sync "$1.new"
    mv "$1.new" "$1"
}

ask() { psql -XAtq -v ON_ERROR_STOP=1 -c "$1"; }
ask_primary() { psql -XAtq -v ON_ERROR_STOP=1 -c "$1" "$PRIMARY"; }

# Whether a primary accepts connections; the answer never takes longer than a moment.
primary_answers() { timeout "$1" pg_isready -q -d "$PRIMARY"; }
