"""Gate decisions summed over time: counts, eligible decisions, reasons, guards."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from streams.config.settings import Config
from streams.pipeline.limits import GUARD_LIMITS
from streams.records.reasons import Reason
from streams.replay.report.cells import Buckets, Int64s, TimeCells
from streams.replay.report.data import GateCounts, GuardRow, Guards, GuardShares, share

Words = npt.NDArray[np.uint32]

CODES = tuple(reason.value for reason in Reason)
OTHER = "other"
OTHER_DOC = "a reason that this version does not know"
OTHER_BIT = 31
BIT = {code: 1 << at for at, code in enumerate(CODES)}
KNOWN = (1 << len(CODES)) - 1
SIGNAL_GUARDS = (
    Reason.COHERENCE_BELOW_MIN,
    Reason.STABILITY_BELOW_MIN,
    Reason.ENTROPY_ABOVE_MAX,
    Reason.RUPTURE_ABOVE_MAX,
    Reason.HAZARD_ABOVE_MAX,
    Reason.REPETITIONS_SHORT,
)
SESSION_GUARDS = (Reason.SESSION_CLOSED, Reason.SESSION_NEAR_CLOSE, Reason.MARKET_CLOSED)
UNJUDGED = BIT[Reason.WARMING] | BIT[Reason.SIGNAL_STALE]
SIGNAL_WORD = sum(BIT[guard] for guard in SIGNAL_GUARDS)
FEW_SHARE = 0.02
TOP_REASONS = 3

_DECISIONS, _ELIGIBLE, _FIRST_REASON = 0, 1, 2


def reason_word(reasons: tuple[str, ...]) -> int:
    """Return reasons as a bit mask: bit i is ``list(Reason)[i]``, bit 31 any unknown reason."""
    word = 0
    for reason in reasons:
        word |= BIT.get(reason, 1 << OTHER_BIT)
    return word


class GateCells:
    """The decisions of one instrument."""

    def __init__(self) -> None:
        self.cells = TimeCells(_FIRST_REASON + len(CODES) + 1, np.uint32)
        self._judged = 0
        self._together = 0
        self._failed = np.zeros(len(CODES), np.int64)

    def add(self, as_of_ms: Int64s, eligible: npt.NDArray[np.bool_], reasons: Words) -> None:
        """Add decisions.

        Parameters
        ----------
        as_of_ms, eligible, reasons
            Times, verdicts and reason bit masks, each of shape [n].
        """
        if len(as_of_ms) > 1 and (np.diff(as_of_ms) < 0).any():
            order = np.argsort(as_of_ms, kind="stable")
            as_of_ms, eligible, reasons = as_of_ms[order], eligible[order], reasons[order]
        self.cells.add(as_of_ms, self._columns(eligible, reasons))
        judged = reasons[(reasons & np.uint32(UNJUDGED)) == 0]
        self._judged += len(judged)
        self._together += int(((judged & np.uint32(SIGNAL_WORD)) == 0).sum())
        for guard in (*SIGNAL_GUARDS, *SESSION_GUARDS):
            at = CODES.index(guard)
            self._failed[at] += np.count_nonzero(judged & np.uint32(1 << at))

    @staticmethod
    def _columns(eligible: npt.NDArray[np.bool_], reasons: Words) -> Iterator[npt.NDArray[Any]]:
        yield np.ones(len(reasons), np.uint32)
        yield eligible.astype(np.uint32)
        for at in range(len(CODES)):
            yield (reasons >> np.uint32(at)) & np.uint32(1)
        yield ((reasons & np.uint32(~KNOWN & 0xFFFFFFFF)) != 0).astype(np.uint32)

    def counts(self, buckets: Buckets) -> GateCounts:
        """Return the decisions per bucket."""
        table = self.cells.bucketed(buckets)
        reasons = {}
        for at, code in enumerate((*CODES, OTHER)):
            column = table[:, _FIRST_REASON + at]
            if column.any():
                reasons[code] = column.tolist()
        return {
            "decisions": table[:, _DECISIONS].tolist(),
            "eligible": table[:, _ELIGIBLE].tolist(),
            "reasons": reasons,
        }

    def totals(self) -> tuple[int, int, dict[str, int]]:
        """Return the number of decisions, of eligible ones, and reason -> count."""
        sums = self.cells.totals()
        reasons = {
            code: int(sums[_FIRST_REASON + at])
            for at, code in enumerate((*CODES, OTHER))
            if sums[_FIRST_REASON + at]
        }
        return int(sums[_DECISIONS]), int(sums[_ELIGIBLE]), reasons

    def guards(self, instrument: str) -> GuardShares:
        """Return how many decisions with a fresh signal passed each guard."""
        return {
            "instrument": instrument,
            "judged": self._judged,
            "passed": {
                guard.value: self._judged - int(self._failed[CODES.index(guard)])
                for guard in (*SIGNAL_GUARDS, *SESSION_GUARDS)
            },
            "together": self._together,
        }


def pass_rates(found: list[GuardShares], config: Config | None) -> Guards:
    """Return the pass rates over all instruments, with the limits of ``config``."""
    judged = sum(one["judged"] for one in found)
    together = sum(one["together"] for one in found)
    limits = _limits(config)
    rows: list[GuardRow] = []
    for guard in (*SIGNAL_GUARDS, *SESSION_GUARDS):
        signal = guard in SIGNAL_GUARDS
        passed = sum(one["passed"][guard.value] for one in found)
        setting, limit = limits.get(guard.value, (None, None))
        in_use: bool | None = None
        if config is not None:
            in_use = guard.value in limits if signal else config.session_trading_enabled
        rows.append(
            {
                "guard": guard.value,
                "what": guard.doc,
                "setting": setting,
                "limit": limit,
                "in_use": in_use,
                "kind": "signal" if signal else "session",
                "passed": passed,
                "share": share(passed, judged),
            }
        )
    return {
        "judged": judged,
        "rows": rows,
        "together": together,
        "together_share": share(together, judged),
        "sentence": _sentence(together, judged),
        "instruments": found,
    }


def _sentence(together: int, judged: int) -> str | None:
    if not judged or together / judged >= FEW_SHARE:
        return None
    return (
        f"All signal guards together pass {together / judged:.2%} of the bars with a fresh signal "
        f"({together:,} of {judged:,}): with these limits almost nothing will trade. "
        "Run: manifold calibrate"
    )


def _limits(config: Config | None) -> dict[str, tuple[str, str]]:
    """Return guard -> (setting, limit) of the guards in force."""
    if config is None:
        return {}
    found = {}
    for reason, guard in GUARD_LIMITS[config.gate_mode].items():
        limit = getattr(config, guard.setting)
        if limit is not None:
            found[reason] = (guard.setting.upper(), f"{guard.relation} {limit:g}")
    return found
