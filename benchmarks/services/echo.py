"""WebSocket echo. Told to leave, it answers once more on each connection and then closes it."""

import asyncio
import os
import signal

from websockets.asyncio.server import ServerConnection, serve

GOODBYE_SECONDS = 2.5


async def main() -> None:
    leaving = asyncio.Event()
    here: set[ServerConnection] = set()

    async def echo(connection: ServerConnection) -> None:
        here.add(connection)
        try:
            async for message in connection:
                await connection.send(message)
                if leaving.is_set():
                    return
        finally:
            here.discard(connection)

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, leaving.set)
    async with serve(echo, os.environ["HOST"], int(os.environ["PORT"])):
        await leaving.wait()
        until = loop.time() + GOODBYE_SECONDS
        while here and loop.time() < until:  # noqa: ASYNC110 - a set has no event
            await asyncio.sleep(0.02)


asyncio.run(main())
