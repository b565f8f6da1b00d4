"""Start the test broker: ``python -m tests.support.v20 --port 0``."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
from dataclasses import fields

from tests.support.v20.broker import Broker
from tests.support.v20.options import Options
from tests.support.v20.server import serve


def options() -> Options:
    """Return the options of the command line; the token comes from ``V20_TOKEN``."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.support.v20", description=Options.__doc__
    )
    for each in fields(Options):
        name = "--" + each.name.replace("_", "-")
        if each.name == "token":
            continue
        if isinstance(each.default, bool):
            parser.add_argument(name, action="store_true")
        elif each.name == "more_accounts":
            parser.add_argument(name, type=lambda text: tuple(text.split(",")), default=())
        elif each.name == "hours":
            parser.add_argument(name, choices=("fx", "always"), default="fx")
        else:
            parser.add_argument(name, type=type(each.default), default=each.default)
    given = vars(parser.parse_args())
    return Options(token=os.environ.get("V20_TOKEN", ""), **given)


async def main(chosen: Options) -> None:
    """Serve until SIGTERM or SIGINT."""
    until = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, until.set)
    broker = Broker(chosen)

    def ready(port: int) -> None:
        url = f"http://127.0.0.1:{port}"
        said = {
            "port": port,
            "url": url,
            "stream_url": url,
            "token": broker.token,
            "account_id": chosen.account_id,
        }
        print(json.dumps(said), flush=True)

    await serve(broker, ready, until)


if __name__ == "__main__":
    asyncio.run(main(options()))
