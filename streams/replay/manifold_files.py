"""Manifold snapshots as text and files: written atomically, and validated when read.

docs/manifold-files.md describes the fields, the file names and the key in Valkey.
"""

from __future__ import annotations

import gzip
import json
import math
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from streams.candles.files import unpacked
from streams.errors import Fatal
from streams.instants import GRANULARITY_MS, clock
from streams.process.disk import write_file, writing
from streams.records.value_rules import NAME
from streams.replay.snapshot import SHARED
from streams.replay.snapshot_candles import day_of

MOST_TEXT: Final = 1 << 26
_SHAPE: Final[dict[str, type | tuple[type, ...]]] = {
    "instrument": str,
    "granularity": str,
    "count": int,
    "t0_ms": int,
    "t1_ms": int,
    "signals": list,
    "metrics": dict,
    "coeffs": dict,
}
_NUMBER: Final = (int, float)
_SIGNAL: Final[dict[str, type | tuple[type, ...]]] = {
    "timestamp_ns": int,
    "price": _NUMBER,
    "window_end_ns": int,
    "window_end_price": _NUMBER,
    "state": str,
    "metrics": dict,
    "coeffs": dict,
    "repetition": dict,
}


def text_of_manifold(manifold: Mapping[str, Any], *, pretty: bool = False) -> str:
    """Return the JSON text of a manifold, without a line end."""
    return json.dumps(manifold, indent=2 if pretty else None, allow_nan=False)


def packed(manifold: Mapping[str, Any]) -> bytes:
    """Return a manifold as gzip JSON; deterministic."""
    return gzip.compress(text_of_manifold(manifold).encode(), mtime=0)


def day_name(manifold: Mapping[str, Any]) -> str:
    """Return the UTC day of the last candle, such as 2014-05-30."""
    return day_of(manifold["t1_ms"]).isoformat()


def file_in(folder: Path, manifold: Mapping[str, Any], candle_gran: str) -> Path:
    """Return the path of a manifold in a folder: ``EUR_USD/2014-05-30.json``.

    The name contains the bar length if it is not the processed one.
    """
    day, length = day_name(manifold), manifold["granularity"]
    name = day if length == candle_gran else f"{day}-{length}"
    return folder / str(manifold["instrument"]) / f"{name}.json"


def write_manifold(path: Path, manifold: Mapping[str, Any], *, pretty: bool = False) -> None:
    """Write a manifold atomically: a reader sees the old file or the new one. ``.gz`` compresses
    it.

    Raises
    ------
    Fatal
        The file cannot be written.
    """
    data = (text_of_manifold(manifold, pretty=pretty) + "\n").encode()
    if path.suffix == ".gz":
        data = gzip.compress(data, mtime=0)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, data)


def read_manifold(path: str) -> dict[str, Any]:
    """Read a file of ``manifold snapshot --output``, plain or gzip.

    Raises
    ------
    Fatal
        The file cannot be read or is invalid; the message has the reason.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise Fatal(f"cannot read {path}: {error.strerror or error}") from error
    return manifold_of(data, path)


def manifold_of(data: bytes, what: str) -> dict[str, Any]:
    """Return the manifold in a JSON text, plain or gzip.

    Parameters
    ----------
    data
        The bytes.
    what
        File or key, for messages.

    Raises
    ------
    Fatal
        It is not a manifold; the message has the reason.
    """
    try:
        text = unpacked(what, data, MOST_TEXT) if data[:2] == b"\x1f\x8b" else data
        found = json.loads(text, parse_constant=_refused)
    except (ValueError, RecursionError, EOFError, OSError, zlib.error) as error:
        raise Fatal(f"{what} is not the JSON of a manifold: {error}") from error
    problem = manifold_problem(found)
    if problem:
        raise Fatal(f"{what} is not a manifold: {problem}")
    manifold: dict[str, Any] = found
    return manifold


def manifold_problem(found: Any) -> str | None:
    """Return the problem of a manifold's JSON object as text, None if it is valid."""
    if not isinstance(found, dict):
        return "not a JSON object"
    problem = _fields_problem(found, _SHAPE)
    if problem:
        return problem
    if not NAME.fullmatch(found["instrument"]):
        return f"instrument {found['instrument'][:60]!r} is not a name such as EUR_USD"
    if found["granularity"] not in GRANULARITY_MS:
        return f"granularity {found['granularity']!r} is no bar length"
    if found["count"] < 1 or found["t0_ms"] > found["t1_ms"]:
        return f"count {found['count']}, t0_ms {found['t0_ms']}, t1_ms {found['t1_ms']}"
    problem = _numbers_problem("metrics", found["metrics"], SHARED)
    problem = problem or _numbers_problem("coeffs", found["coeffs"], ("sigma_eff", "lambda"))
    for number, signal in enumerate(found["signals"]):
        problem = problem or _signal_problem(signal, f"signals[{number}]")
    if problem or not found["signals"]:
        return problem
    last = found["signals"][-1]
    if last["metrics"] != found["metrics"]:
        return "metrics are not those of the last signal"
    if last["window_end_ns"] > found["t1_ms"] * 1_000_000:
        at = clock(last["window_end_ns"] // 1_000_000)
        return f"the last window ends at {at}, after the last candle"
    return None


def _signal_problem(signal: Any, where: str) -> str | None:
    if not isinstance(signal, dict):
        return f"{where} is no object"
    problem = _fields_problem(signal, _SIGNAL)
    problem = problem or _numbers_problem("metrics", signal["metrics"], SHARED)
    problem = problem or _numbers_problem("coeffs", signal["coeffs"], ("lambda_hazard",))
    return f"{where}: {problem}" if problem else None


def _fields_problem(found: dict[str, Any], shape: dict[str, Any]) -> str | None:
    for name, kind in shape.items():
        value = found.get(name)
        if isinstance(value, bool) or not isinstance(value, kind):
            return f"{name} is {'missing' if name not in found else repr(value)[:60]}"
        if isinstance(value, float) and not math.isfinite(value):
            return f"{name} is no finite number"
    return None


def _numbers_problem(what: str, found: dict[str, Any], names: tuple[str, ...]) -> str | None:
    problem = _fields_problem(found, dict.fromkeys(names, _NUMBER))
    return f"{what}: {problem}" if problem else None


def _refused(constant: str) -> Any:
    raise ValueError(f"{constant} is not a JSON number")
