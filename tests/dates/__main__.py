"""``make dates``: the same commands and tests at other dates, as a table; exit code 1 on a failure.

``python -m tests.dates [all | short | NAME...] [--parts demo,embedded,durable,tests,servers]``
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from tests.dates.moments import MOMENTS, SHORT, Moment
from tests.dates.wallclock import BUILD, ROOT, moved_by, spoken

STACK = "tests/dates/on_any_date.py"
READERS_OF_THE_CLOCK = (
    *("tests/dates/test_wallclock.py", "tests/unit/process/test_clocks.py"),
    *(
        "tests/unit/feeds/test_synthetic.py",
        "tests/unit/candles/test_sessions.py",
        "tests/unit/service/test_api_view.py",
    ),
    *(
        "tests/unit/service/test_api_hub.py",
        "tests/unit/candles/test_series.py",
        "tests/unit/replay/test_report.py",
    ),
    *("tests/unit/cli/test_cli_errors.py", "tests/unit/oanda/test_oanda_client.py"),
    *("tests/unit/oanda/test_secrets_oanda.py", "tests/unit/repository/test_v20_server.py"),
    *("tests/unit/oanda/test_oanda_stream.py", "tests/unit/oanda/test_oanda_limits.py"),
    *("tests/unit/monitoring/test_failure_signals.py", "tests/unit/service/test_live_pages.py"),
    *(
        "tests/unit/candles/test_feed_files.py",
        "tests/property/monitoring/test_failure_signals_property.py",
    ),
    "tests/golden/test_profiles.py",
)
"""Tests without servers that read the clock, a calendar or words of the system."""
WITH_SERVERS = (
    f"{STACK}::test_a_clock_that_was_set_back_ends_a_durable_stack_with_a_sentence",
    *("tests/dates/test_wrong_clock.py", "tests/integration/stack/test_stack.py"),
    *(
        "tests/integration/feeds/test_oanda_feed.py",
        "tests/integration/trading/test_kill_switch.py",
    ),
    *("tests/integration/mirror/test_mirror_shapes.py", "tests/integration/replay/test_tail.py"),
    *("tests/integration/monitoring/test_warmup.py", "tests/integration/monitoring/test_doctor.py"),
    *(
        "tests/integration/service/test_security.py",
        "tests/integration/trading/test_paper_trading.py",
    ),
    *("tests/integration/trading/test_trading.py", "tests/integration/candles/test_load.py"),
    *("tests/integration/pipeline/test_chain.py", "tests/integration/service/test_api.py"),
    *("tests/integration/service/test_page.py", "tests/integration/service/test_page_people.py"),
    *("tests/integration/replay/test_report.py", "tests/integration/replay/test_replay.py"),
    "tests/integration/migration/test_released_log.py",
)
"""The same with servers."""
SIDE_BY_SIDE = ("-n", "2", "--dist", "loadfile")
PARTS: dict[str, tuple[str, ...]] = {
    "demo": (f"{STACK}::test_demo",),
    "embedded": (f"{STACK}::test_embedded",),
    "durable": (f"{STACK}::test_durable",),
    "tests": (*SIDE_BY_SIDE, *READERS_OF_THE_CLOCK),
    "servers": (*SIDE_BY_SIDE, *WITH_SERVERS),
}
PARTS_OF_SHORT = ("durable", "tests")


def main() -> int:
    """Run what the command line asks for; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.dates", description=__doc__)
    known = ("all", "short", *MOMENTS)
    parser.add_argument("dates", nargs="*", default=["all"], help=", ".join(known))
    parser.add_argument("--parts", help=f"of {','.join(PARTS)}")
    given = parser.parse_args()
    names = _names(given.dates)
    usual = PARTS_OF_SHORT if given.dates == ["short"] else PARTS
    parts = given.parts.split(",") if given.parts else list(usual)
    unknown = [n for n in names if n not in MOMENTS] + [p for p in parts if p not in PARTS]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}")
    print(f"{'date':<34} {'instant, zone, language':<54} " + "".join(f"{p:<16}" for p in parts))
    failed: list[Path] = []
    for name in names:
        moment = MOMENTS[name]
        language = spoken(moment.language)
        said = moment.language if language else f"{moment.language} missing: C.UTF-8"
        where = f"{moment.at or 'now'} {moment.zone} {said}"
        print(f"{moment.name:<34} {where:<54} ", end="", flush=True)
        for part in parts:
            log = BUILD / f"{name}-{part}.log"
            begun = time.monotonic()
            good = _run(moment, language, part, log)
            if not good:
                failed.append(log)
            verdict = f"{'ok' if good else 'FAILED'} {time.monotonic() - begun:.0f} s"
            print(f"{verdict:<16}", end="", flush=True)
        print()
    for log in failed:
        print(f"\n{log.relative_to(ROOT)}:")
        print("\n".join(line[:200] for line in _verdicts(log)))
    return 1 if failed else 0


def _names(asked: list[str]) -> list[str]:
    names: list[str] = []
    for name in asked:
        names += MOMENTS if name == "all" else SHORT if name == "short" else [name]
    return names


def _verdicts(log: Path) -> list[str]:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return [line for line in lines if line.startswith(("FAILED", "ERROR", "NOT RUN"))] or lines[-9:]


def _run(moment: Moment, language: dict[str, str], part: str, log: Path) -> bool:
    # what cannot run is a failure here
    environment = os.environ | {"CI": "true", "TZ": moment.zone} | (language or spoken("C.UTF-8"))
    if moment.at:
        environment |= moved_by(moment.offset_s())
    BUILD.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as out:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *PARTS[part]],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            check=False,
        )
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
