"""HTTP/1.1 that does, when told so on its own port, what goes wrong in production.

`/unruly?mute=1` answers nobody any more, `errors=0.01` fails that share of requests, `slow=0.3`
takes that many seconds longer, `leak=4` eats that many MB a second; `/ready` says that all is
well, unless it is mute. Told through its own address, so that one of several instances goes wrong.
Where TARGET_URL is set, every answer asks the need first, and is 502 if that fails. It does
not start while the file $HOLD exists.
"""

import asyncio
import os
import random
import signal
import time
import urllib.error
import urllib.request
from urllib.parse import parse_qs, urlsplit

BASE_SECONDS = 0.005
BACK_SECONDS = 8.0
BACK = os.environ.get("TARGET_URL")
CALM = {"mute": 0.0, "errors": 0.0, "slow": 0.0, "leak": 0.0}
told = dict(CALM)
eaten: list[bytes] = []
chance = random.Random(os.getpid())  # noqa: S311 - which answer fails is no secret
REASON = {200: "OK", 500: "Internal Server Error", 502: "Bad Gateway"}


def ask_back() -> int:
    """What the need answers, as our own status."""
    try:
        with urllib.request.urlopen(f"{BACK}/", timeout=BACK_SECONDS) as answer:  # noqa: S310
            answer.read()
    except (OSError, urllib.error.URLError):
        return 502
    return 200


async def answer(path: str) -> int:
    """The status of one request, after the time it takes."""
    where = urlsplit(path)
    if where.path == "/unruly":
        told.update(CALM | {key: float(value[0]) for key, value in parse_qs(where.query).items()})
        return 200
    if told["mute"]:
        await asyncio.Event().wait()
    if where.path == "/ready":
        return 200
    if BACK and (status := await asyncio.to_thread(ask_back)) != 200:
        return status
    await asyncio.sleep(BASE_SECONDS + told["slow"])
    return 500 if chance.random() < told["errors"] else 200


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection."""
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            lengths = [line for line in head.lower().split("\r\n") if "content-length:" in line]
            await reader.readexactly(int(lengths[0].split(":")[1]) if lengths else 0)
            status = await answer(head.split(" ", 2)[1])
            writer.write(
                f"HTTP/1.1 {status} {REASON[status]}\r\ncontent-length: 0\r\n\r\n".encode()
            )
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        return
    finally:
        writer.close()


async def eat() -> None:
    """Leak as much as told."""
    while True:
        await asyncio.sleep(0.25)
        eaten.append(os.urandom(int(told["leak"] * 250_000)))


async def main() -> None:
    """Serve until SIGTERM."""
    leaving = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, leaving.set)
    eating = asyncio.create_task(eat())
    server = await asyncio.start_server(serve, os.environ["HOST"], int(os.environ["PORT"]))
    await leaving.wait()
    eating.cancel()
    server.close()


while os.path.exists(os.environ.get("HOLD", "")):  # noqa: PTH110
    time.sleep(0.05)
asyncio.run(main())
