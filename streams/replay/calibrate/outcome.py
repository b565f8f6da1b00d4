"""Result of a calibration: as data, and as a settings file."""

from __future__ import annotations

from typing import Any

from streams.config.settings import Config
from streams.instants import clock
from streams.pipeline.limits import rarely_passing
from streams.replay.calibrate.sources import SourceWindows
from streams.replay.calibrate.suggest import Suggestion, passed_by, suggest
from streams.replay.calibrate.windows import (
    COUNT,
    METRICS,
    QUANTILES,
    Windows,
    guards_of,
    quantiles_of,
)

TOGETHER = "together"
SHAPING = (
    "candle_gran",
    "candle_count",
    "allow_missing_volume",
    "echo_lookback_minutes",
    "echo_signature_precision",
    "session_trading_enabled",
    "session_exit_minutes",
)
"""Settings that affect the metrics or the share in session."""


class Calibration:
    """Pass rates, quantiles and a suggested profile.

    Parameters
    ----------
    found
        The windows, at least one.
    pass_rate
        Target share of windows that pass all guards together.

    Attributes
    ----------
    together, single
        The suggestion for all instruments together, and instrument -> its suggestion.
    """

    def __init__(self, found: SourceWindows, pass_rate: float) -> None:
        self.found, self.pass_rate = found, pass_rate
        self.guards = guards_of(found.config)
        self.windows = found.windows
        together = suggest(self.windows, self.guards, pass_rate)
        assert together is not None  # there is at least one window
        self.together: Suggestion = together
        self.single: dict[str, Suggestion] = {}
        for one in self.windows:
            alone = suggest([one], self.guards, pass_rate) if len(self.windows) > 1 else together
            assert alone is not None
            self.single[one.instrument] = alone
        self.achieved = {
            one.instrument: passed_by(one, together.settings, self.guards) / one.total
            for one in self.windows
        }

    @property
    def total(self) -> int:
        """Number of windows."""
        return sum(one.total for one in self.windows)

    @property
    def first_ms(self) -> int:
        """End of the first bar with a window."""
        return min(one.first_ms or 0 for one in self.windows)

    @property
    def last_ms(self) -> int:
        """End of the last bar with a window."""
        return max(one.last_ms or 0 for one in self.windows)

    def sentences(self) -> list[str]:
        """Return explanations of the numbers, as sentences."""
        said = list(self.found.notes)
        rate = sum(one.passed_all for one in self.windows) / self.total
        rare = rarely_passing(rate)
        if rare:
            said.append(rare)
        found = self.together
        if found.in_session < self.pass_rate * found.windows:
            said.append(
                f"Sessions let {found.in_session / found.windows:.1%} of the windows through: "
                f"even without any guard the pass rate would not reach {self.pass_rate:.1%}."
            )
        if found.passed / found.windows > 2 * self.pass_rate:
            said.append(
                "Many windows have identical metrics: thresholds one step of 0.0001 tighter miss "
                f"{self.pass_rate:.1%}, these pass {found.passed / found.windows:.1%}."
            )
        return said

    def as_dict(self) -> dict[str, Any]:
        """Return the calibration for ``--json``."""
        return {
            "source": self.found.source,
            "from_ms": self.first_ms,
            "to_ms": self.last_ms,
            "windows": self.total,
            "gate_mode": self.found.config.gate_mode,
            "resolution": {"quantiles": 1e-5, "thresholds": 1e-4},
            "in_force": {guard.rule.setting.upper(): guard.limit for guard in self.guards},
            "instruments": {one.instrument: _shown([one]) for one in self.windows},
            TOGETHER: _shown(self.windows),
            "pass_rate": self.pass_rate,
            "suggested": _suggested(self.together) | {"pass_rates": self.achieved},
            "suggested_single": {n: _suggested(s) for n, s in self.single.items()},
            "notes": self.sentences(),
        }

    def env_text(self) -> str:
        """Return the suggestion as a file for ``--env-file``."""
        found, config = self.together, self.found.config
        names = ", ".join(one.instrument for one in self.windows)
        lines = [
            "Guards that manifold calibrate has suggested.",
            f"Source: {self.found.source}; {names}",
            f"Range: {clock(self.first_ms)} to {clock(self.last_ms)} UTC (ends of bars), "
            f"{found.windows} windows",
            f"Target: {self.pass_rate:.4%} of windows pass all guards together; these pass "
            f"{found.passed / found.windows:.4%}, with sessions "
            f"{found.passed_in_session / found.windows:.4%}",
            f"Under: {' '.join(f'{n.upper()}={_text(getattr(config, n))}' for n in SHAPING)}",
        ]
        settings = [f"{name}={value}" for name, value in found.settings.items()]
        return "\n".join([*(f"# {line}" for line in lines), *settings]) + "\n"


def _text(value: Any) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)


def _suggested(found: Suggestion) -> dict[str, Any]:
    return {
        "settings": found.settings,
        "windows": found.windows,
        "pass_rate": found.passed / found.windows,
        "with_sessions": found.passed_in_session / found.windows,
        "kept_out_by_each": found.quantile,
    }


def _shown(windows: list[Windows]) -> dict[str, Any]:
    total = sum(one.total for one in windows)
    reasons = list(dict.fromkeys(reason for one in windows for reason in one.passed))
    return {
        "windows": total,
        "guards": {
            r: sum(one.passed.get(r, one.total) for one in windows) / total for r in reasons
        },
        "all_guards": sum(one.passed_all for one in windows) / total,
        "sessions": sum(one.in_session for one in windows) / total,
        "with_sessions": sum(one.passed_in_session for one in windows) / total,
        "quantiles": {
            metric: dict(
                zip(
                    (f"p{round(share * 100):02d}" for share in QUANTILES),
                    quantiles_of(windows, metric) or [],
                    strict=True,
                )
            )
            for metric in (*METRICS, COUNT)
        },
    }


def configured(config: Config) -> dict[str, str]:
    """Return the settings of the guards in force in the format of a settings file."""
    return {guard.rule.setting.upper(): f"{guard.limit:g}" for guard in guards_of(config)}
