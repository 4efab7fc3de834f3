"""HTTP/1.1 that is as good or as bad as `behaviour.json` says, and writes down whom it harmed.

An answer takes about 20 ms, log-normally. Each request is a line of $BOOK before it is answered:
when, from which version, and whether this version harmed it. asyncio, because on two cores beside
Envoy and the load a thread a connection would be what is measured.
"""

import asyncio
import json
import math
import os
import random
import signal
import time
from pathlib import Path

HERE = Path(__file__).parent
VERSION = (HERE / "version").read_text().strip()
TOLD = json.loads((HERE / "behaviour.json").read_text())
BASE_SECONDS, SIGMA = 0.020, 0.25
BOOK = os.open(os.environ["BOOK"], os.O_WRONLY | os.O_APPEND)
chance = random.Random(os.getpid())  # noqa: S311 - how long an answer takes is no secret


def planned() -> tuple[float, int, bool]:
    """Seconds, status and whether it is harm, of one answer."""
    sigmas = chance.gauss(0, 1)
    seconds = BASE_SECONDS * math.exp(SIGMA * sigmas)
    slower = TOLD.get("slower", 1) if sigmas >= TOLD.get("beyond", -math.inf) else 1
    failed = chance.random() < TOLD.get("fail", 0)
    return seconds * slower, 500 if failed else 200, failed or slower > 1 or "die" in TOLD


def note(harmed: bool) -> None:
    """A line of the book; one write, so that lines of several processes do not mix."""
    os.write(BOOK, f"{time.time():.4f} {VERSION} {int(harmed)}\n".encode())


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection."""
    try:
        while await reader.readuntil(b"\r\n\r\n"):
            seconds, status, harmed = planned()
            note(harmed)
            if TOLD.get("die"):
                os._exit(9)
            await asyncio.sleep(seconds)
            head = f"HTTP/1.1 {status} X\r\ncontent-length: 4\r\nx-release: {VERSION}\r\n\r\nbird"
            writer.write(head.encode())
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def main() -> None:
    """Serve until SIGTERM."""
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    server = await asyncio.start_server(serve, os.environ["HOST"], int(os.environ["PORT"]))
    await told.wait()
    server.close()


asyncio.run(main())
