#!/bin/sh
# Runs the first Python on PATH that has gRPC. Volery's own has, and is always on it, at the end.
# storefront and ratings have the same copy of this file: each folder stands alone.
IFS=:
for folder in $PATH; do
    for python in "$folder/python" "$folder/python3"; do
        if [ -x "$python" ] && "$python" -c "import grpc" 2>/dev/null; then
            exec "$python" "$@"
        fi
    done
done
echo "no Python on PATH has gRPC; install it with: python3 -m pip install grpcio" >&2
exit 1
