"""Saying at a start that the look-back of repetitions does not fit."""

from __future__ import annotations

import click

from streams.candles.freshness import lookback_problems
from streams.config.feeds import FeedSettings
from streams.config.settings import Config


def warn_of_lookback(config: Config) -> None:
    """Print how ECHO_LOOKBACK_MINUTES does not fit bars and keys; nothing where it fits.

    Raises
    ------
    Fatal
        FEED_SETTLE_MS is unusable.
    """
    for problem in lookback_problems(config, FeedSettings.from_env().feed_settle_ms):
        click.echo(f"manifold: warning: {problem}", err=True)
