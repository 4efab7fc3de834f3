"""A service with a few workers and a queue without end, as most have.

It works on every request it was given, also on one whose caller has hung up meanwhile.
"""

import asyncio
import os

WORKERS = int(os.environ["WORKERS"])
SECONDS = float(os.environ["SECONDS"])
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


async def main() -> None:
    jobs: asyncio.Queue[asyncio.Event] = asyncio.Queue()

    async def work() -> None:
        while True:
            done = await jobs.get()
            await asyncio.sleep(SECONDS)
            done.set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                done = asyncio.Event()
                jobs.put_nowait(done)
                await done.wait()
                writer.write(ANSWER)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    host, port = os.environ["HOST"], int(os.environ["PORT"])
    server = await asyncio.start_server(serve, host, port, backlog=1024)
    async with asyncio.TaskGroup() as workers:
        for _ in range(WORKERS):
            workers.create_task(work())
        await server.serve_forever()


asyncio.run(main())
