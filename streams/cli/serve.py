"""``manifold serve``."""

from __future__ import annotations

import logging
import os
from typing import Any

import click

from streams.cli.output import echo
from streams.process.disk import write_file
from streams.process.sigterm import exit_on_sigterm


@click.command()
@click.option(
    "--openapi", metavar="FILE", help="Write the OpenAPI document to this file (- = stdout)."
)
@click.option(
    "--asyncapi", metavar="FILE", help="Write the AsyncAPI document to this file (- = stdout)."
)
def serve(openapi: str | None, asyncapi: str | None) -> None:
    """Serve REST, WebSocket and the page, and hold the kill switch's lease in Valkey.

    All data is read from the log and from the mirror. Listens on 127.0.0.1 unless API_HOST is set,
    which needs API_TOKEN; mutating calls always need the token.

    \b
    Examples:
      manifold serve
      API_TOKEN_FILE=/run/secrets/api-token manifold serve
      curl -s http://127.0.0.1:8000/api/global-status
      manifold serve --openapi openapi.json --asyncapi asyncapi.json
    """
    if openapi is not None or asyncapi is not None:
        from streams.service import documents
        from streams.service.app import make_rest

        if openapi is not None:
            _write(openapi, documents.openapi(make_rest()))
        if asyncapi is not None:
            _write(asyncapi, documents.asyncapi())
        return
    exit_on_sigterm()
    from streams.cli.beginning import begin_process
    from streams.monitoring.clock_check import warn_of_clock
    from streams.service.serve import Settings
    from streams.service.serve import serve_api as run

    settings = Settings.from_env(os.environ)
    logging.basicConfig(
        level=settings.runtime.log_level, format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    for name in ("aiokafka", "uvicorn.error"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    begin_process(settings.runtime, "serve")
    warn_of_clock(settings.runtime)

    import uvloop

    uvloop.run(run(settings))


def _write(file: str, document: dict[str, Any]) -> None:
    from streams.service.documents import as_text

    if file == "-":
        echo(as_text(document), nl=False)
        return
    write_file(file, as_text(document))
