"""Starts Envoy in this process's place: `python -I -S launch.py SHARED EPOCH ENVOY ARGUMENTS...`.

Takes one decision, the restart epoch. A successor (epoch above 0) takes the listening
sockets over from its predecessor through a region of shared memory; Envoy aborts if that region is
gone, for instance because the user logged out (systemd's RemoveIPC) and a crashed successor is
started again later. Then there is no predecessor either, and epoch 0 is right.

And one precaution: Envoy asks the kernel for SIGTERM when its parent dies, but a killed shim must
not take Envoy along. So SIGTERM is blocked; Envoy is ended through its admin interface or by force.
Standard library only: this runs as the shim's child and must start at once.
"""

from __future__ import annotations

import os
import signal
import sys


def main(arguments: list[str]) -> None:
    """Replace this process with Envoy."""
    shared, epoch, envoy, *rest = arguments
    if not os.path.exists(shared):  # noqa: PTH110 - pathlib costs 10 ms
        epoch = "0"
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    os.execv(envoy, [envoy, "--restart-epoch", epoch, *rest])  # noqa: S606


if __name__ == "__main__":
    main(sys.argv[1:])
