"""One more process that asks a server as fast as it is let.

`python asked.py FOLDER URL SIDE SECONDS` prints how many requests were answered. SIDE: production
or tests; the account is called `shared`.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from volery.calls import Calls, NoReply, Request, Settings
from volery.model.accounts import Account

RATE, BURST, RESERVE = 20.0, 10.0, 0.5


async def ask(folder: str, url: str, side: str, seconds: float) -> int:
    host = url.removeprefix("http://").partition("/")[0]
    account = Account(hosts=(host,), rate=RATE, burst=BURST, reserve=RESERVE)
    settings = Settings({"shared": account}, side == "production")
    calls = Calls(Path(folder), lambda: settings)
    clock = asyncio.get_running_loop().time
    end, answered = clock() + seconds, 0
    while clock() < end:
        try:
            await calls.send(Request("GET", f"{url}?{side}", 100), end - clock())
        except NoReply:
            await asyncio.sleep(0.01)
        else:
            answered += 1
    return answered


if __name__ == "__main__":
    folder, url, side, seconds = sys.argv[1:]
    print(asyncio.run(ask(folder, url, side, float(seconds))))
