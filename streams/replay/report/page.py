"""The report as one self-contained HTML page, and as JSON.

Tables of figures are plain HTML; charts and the list of trades are drawn by the page's own script
from the JSON inside it. The page's content security policy allows only this script and style sheet:
the page sends no requests, and text of the log cannot become code.
"""

from __future__ import annotations

import base64
import hashlib
import json
import sys
from html import escape
from importlib.resources import files
from string import Template

from streams.errors import Fatal
from streams.process.disk import write_file, writing
from streams.replay.report import tables
from streams.replay.report.data import ReportData
from streams.replay.report.words import clock_range

STDOUT = "-"
# inside a script element these would end it, or start a comment that hides its end
_HIDDEN = str.maketrans({c: f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"})


def report_json(data: ReportData) -> str:
    """Return the report as JSON text, one line; the same data gives the same text."""
    return json.dumps(data, allow_nan=False, separators=(",", ":"))


def report_html(data: ReportData) -> str:
    """Return the report as one HTML page; the same data gives the same text."""
    style = _part("page.css")
    script = _part("charts.js") + _part("page.js")
    header = data["header"]
    return Template(_part("page.html")).substitute(
        script_hash=_hash(script),
        style_hash=_hash(style),
        style=style,
        script=script,
        data=report_json(data).translate(_HIDDEN),
        title=escape(header["title"]),
        when=escape(clock_range(header["from_ms"], header["to_ms"])),
        notices=tables.notices(data),
        headline=tables.headline(data),
        model=tables.model(data),
        equity_empty=tables.empty(data["curve_all"], "No trade was closed in this time."),
        instruments=tables.instruments(data),
        gates_empty=tables.empty(data["gates"], "No gate decision in this time."),
        reasons=tables.reasons(data),
        guards=tables.guards(data),
        weights_empty=tables.empty(data["allocation"], "No epoch was closed in this time."),
        weights=tables.weights(data),
        costs=tables.costs(data),
        trades_say=escape(data["trades"]["sentence"]),
        summaries=tables.summaries(data),
        origin=tables.origin(data),
    )


def write_report(data: ReportData, html_path: str | None, json_path: str | None) -> None:
    """Write the report.

    Parameters
    ----------
    data
        What `ReportAccumulator.finish` gave.
    html_path, json_path
        Output paths; ``-`` for standard output, None for no output.

    Raises
    ------
    Fatal
        A file cannot be written, or both would go to standard output.
    """
    if html_path == json_path == STDOUT:
        raise Fatal("both the page and the JSON would go to standard output; name a file for one")
    if html_path is not None:
        _write(html_path, report_html(data))
    if json_path is not None:
        _write(json_path, report_json(data) + "\n")


def _write(path: str, text: str) -> None:
    # a lone surrogate cannot be encoded; it is replaced by a question mark
    content = text.encode("utf-8", "replace")
    if path == STDOUT:
        with writing("standard output"):
            sys.stdout.buffer.write(content)
            sys.stdout.buffer.flush()
        return
    write_file(path, content)


def _part(name: str) -> str:
    return files("streams.replay.report").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
