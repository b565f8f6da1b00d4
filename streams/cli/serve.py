"""``manifold serve``."""

from __future__ import annotations

import logging

import click

from streams.settings import Config, Runtime


@click.command()
def serve() -> None:
    """Serve REST, WebSocket and the page, and keep the kill switch's key in Valkey.

    Everything is read from the log and from the mirror. Listens on 127.0.0.1 unless API_HOST says
    otherwise, which needs API_TOKEN; whatever changes something needs the token anywhere.

    \b
    Examples:
      manifold serve
      API_TOKEN_FILE=/run/secrets/api-token manifold serve
      curl -s http://127.0.0.1:8000/api/global-status
    """
    from streams.api.serve import serve as run
    from streams.api.settings import Service
    from streams.kill_switch.settings import KillSwitchSettings

    runtime, config, settings = Runtime.from_env(), Config.from_env(), Service.from_env()
    kill = KillSwitchSettings.from_env()
    logging.basicConfig(level=runtime.log_level, format="%(asctime)s %(name)s %(message)s")
    for name in ("aiokafka", "uvicorn.error"):
        logging.getLogger(name).setLevel(logging.CRITICAL)

    import uvloop

    uvloop.run(run(runtime, config, settings, kill))
