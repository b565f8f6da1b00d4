"""Settings of the kill switch."""

from __future__ import annotations

from dataclasses import dataclass

from streams.config.environment import FromEnvironment, setting


@dataclass(frozen=True, slots=True)
class KillSwitchSettings(FromEnvironment):
    """How the kill switch starts and how it is mirrored (docs/spec/trading-loop.md 5.3)."""

    kill_switch: bool = setting(
        True, "state in the first kill-switch record, when ops.control has none: 1 = engaged"
    )
    kill_switch_force_env: bool = setting(
        False,
        "1 = append KILL_SWITCH to the log whenever a lease holder starts, whatever the log says",
    )
    kill_switch_key: str = setting("ops:kill_switch", "Valkey key of the kill switch")
    kill_switch_max_age_sec: float = setting(
        15.0,
        "maximum age of the heartbeat in Valkey; an older one counts as engaged",
        unit="s",
        bounds=(1, 300),
    )

    @property
    def kept_key(self) -> str:
        """Name of the companion key, in which the lease holder records what it wrote."""
        return f"{self.kill_switch_key}:kept"

    @property
    def max_age_ms(self) -> int:
        """Maximum age of the heartbeat in milliseconds."""
        return int(self.kill_switch_max_age_sec * 1000)
