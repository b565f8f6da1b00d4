"""Warning at start that ECHO_LOOKBACK_MINUTES does not fit the bar length."""

from __future__ import annotations

from streams.candles.freshness import lookback_problems
from streams.cli.output import echo
from streams.config.feeds import FeedSettings
from streams.config.settings import Config


def warn_of_lookback(config: Config) -> None:
    """Print a warning where ECHO_LOOKBACK_MINUTES does not fit the bar length; else nothing.

    Raises
    ------
    Fatal
        FEED_SETTLE_MS is unusable.
    """
    for problem in lookback_problems(config, FeedSettings.from_env().feed_settle_ms):
        echo(f"manifold: warning: {problem}", err=True)
