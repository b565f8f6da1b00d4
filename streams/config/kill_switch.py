"""Settings of the kill switch."""

from __future__ import annotations

from dataclasses import dataclass

from streams.config.environment import FromEnvironment, setting


@dataclass(frozen=True, slots=True)
class KillSwitchSettings(FromEnvironment):
    """How the kill switch starts and how it is mirrored (docs/spec/trading-loop.md 5.3)."""

    kill_switch: bool = setting(
        True, "what the first record says while ops.control has none: 1 = engaged"
    )
    kill_switch_force_env: bool = setting(
        False, "1 = KILL_SWITCH is appended at every start of a keeper, whatever the log says"
    )
    kill_switch_key: str = setting("ops:kill_switch", "name of the key in Valkey")
    kill_switch_max_age_sec: float = setting(
        15.0, "proof of life: an answer that is older counts as engaged", unit="s", bounds=(1, 300)
    )

    @property
    def kept_key(self) -> str:
        """Name of the companion key, in which the keeper notes what it wrote."""
        return f"{self.kill_switch_key}:kept"

    @property
    def max_age_ms(self) -> int:
        """Proof of life in milliseconds."""
        return int(self.kill_switch_max_age_sec * 1000)
