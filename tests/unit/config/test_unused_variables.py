"""Variables of the original system that nothing reads: each is named, with what to use instead."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from streams.cli import COMMANDS
from streams.config.groups import GROUPS
from streams.config.names import all_names, not_read
from streams.config.unused_variables import UNUSED, as_markdown
from streams.monitoring.doctor.setting_checks import examine_settings, misspelt, unread

PAGE = Path(__file__).resolve().parents[3] / "docs" / "unused-variables.md"
KNOWN_FROM_THE_ORIGINAL = (
    *("AUTO_SL_PIPS", "AUTO_UNITS", "PULSE_INTERVAL_SEC", "BACKFILL_ON_DEPLOY", "BACKFILL"),
    *("RUN_TRIALS_ON_DEPLOY", "RUN_TRIALS", "APPLY_WINNERS_ON_DEPLOY"),
    *("DISENGAGE_KILL_ON_SUCCESS", "SEP_SKIP_PROCESSOR", "STRANDS_C_MIN"),
    *("HOTBAND_PROCESSING_INTERVAL", "HOTBAND_WINDOW_DAYS", "QUANTUM_METRICS_LIB"),
    *("WS_REQUIRE_DIAGNOSTICS", "WS_REQUIRE_NATIVE", "WS_VALKEY_RETRY_MAX", "WS_TOKEN"),
    *("BACKEND_API_URL", "REQ_CONSEC", "AUTO_TP_ATR_GRANULARITY"),
)


def test_the_page_is_that_of_the_table() -> None:
    assert PAGE.read_text() == as_markdown(), (
        "run: python -m streams.config.unused_variables > the page"
    )


@pytest.mark.parametrize("name", KNOWN_FROM_THE_ORIGINAL)
def test_doctor_names_a_variable_that_nothing_reads_and_what_to_use_instead(name: str) -> None:
    assert name not in all_names()
    row = not_read(name)
    assert row is not None
    (found,) = unread({name: "1", "PATH": "/bin", "ALLOC_TOP_K": "3"})
    assert found.state == "warn"
    assert found.detail == f"{name} is not read: {row.why}; use instead: {row.instead}"
    # said once, and not as a misspelling of something else
    assert misspelt(GROUPS, {name: "1"})[0].state == "ok"


def test_a_misspelt_limit_is_a_misspelling_and_an_invented_one_is_not_read() -> None:
    assert not_read("RISK_MAX_DALY_LOSS") is None
    (found,) = misspelt(GROUPS, {"RISK_MAX_DALY_LOSS": "1"})
    assert "looks like RISK_MAX_DAILY_LOSS" in found.detail
    assert not_read("RISK_MAX_NIGHTS_AWAY") is not None


def test_an_environment_without_them_is_well() -> None:
    found = {one.name: one.state for one in examine_settings({"PATH": "/bin", "EDITOR": "vi"})}
    assert set(found.values()) == {"ok"} and "unused variables" in found


def test_no_row_hides_a_setting_and_no_name_stands_twice() -> None:
    for name in all_names():
        assert not_read(name) is None
    names = [name for row in UNUSED for name in row.names]
    assert len(names) == len(set(names))
    assert not set(names) & all_names()


def test_what_to_use_instead_is_there() -> None:
    for row in UNUSED:
        text = f"{row.why} {row.instead}"
        for name in re.findall(r"\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b(?!_)", text):
            assert name in all_names(), name
        for command in re.findall(r"manifold (\w+)", row.instead):
            assert command in COMMANDS, command
