"""The static HTML parts of the page: notices, figures and tables."""

from __future__ import annotations

from collections import Counter
from html import escape
from typing import Any

from streams.replay.report.data import ReportData, TradeFigures
from streams.replay.report.words import (
    Cell,
    clock_range,
    details,
    figure,
    fraction,
    number,
    pairs,
    percent,
    table,
    when,
    wide,
    words,
)

SEVERAL = 3


def empty(content: Any, sentence: str) -> str:
    """Return a sentence for a part without content."""
    return "" if content else f'<p class="none">{escape(sentence)}</p>'


def notices(data: ReportData) -> str:
    """Return the notices above the figures."""
    said = [one for one in (data["guards"]["sentence"],) if one]
    said += data["header"]["notes"]
    if len(data["header"]["config_ids"]) > 1:
        ids = ", ".join(data["header"]["config_ids"][:SEVERAL])
        more = ", ..." if len(data["header"]["config_ids"]) > SEVERAL else ""
        said.append(
            f"{len(data['header']['config_ids'])} configurations were in force in this time "
            f"({ids}{more}): the figures mix them. The one at the end is listed under Origin."
        )
    return "".join(f'<p class="notice" role="note">{escape(one)}</p>' for one in said)


def model(data: ReportData) -> str:
    """Return the list of effects that the figures do not include."""
    items = "".join(f"<li>{escape(one)}</li>" for one in data["header"]["not_modelled"])
    return f'<div class="model"><h3>What is not modelled</h3><ul>{items}</ul></div>'


def headline(data: ReportData) -> str:
    """Return the headline figures."""
    top = data["headline"]
    figures = top["figures"]
    share = figures["cost_share"]
    of_gross = "" if share is None else f"{percent(share)} of gross P&L"
    cards = [
        (
            "Net P&L",
            f"{number(figures['pnl_bps'], 1, sign=True)} bps",
            f"gross {number(figures['gross_bps'], 1, sign=True)}",
            figures["pnl_bps"],
        ),
        ("Max drawdown", f"{number(figures['max_drawdown_bps'], 1)} bps", "closed trades", 0.0),
        (
            "Trades",
            number(figures["trades"]),
            f"win rate {percent(figures['win_rate'])}, "
            f"{number(figures['avg_hold_bars'], 1)} bars held"
            if figures["trades"]
            else "none was closed",
            0.0,
        ),
        ("Profit factor", number(figures["profit_factor"], 2), "gains to losses", 0.0),
        ("Spread paid", f"{number(figures['cost_bps'], 1)} bps", of_gross, 0.0),
        (
            "Eligible",
            percent(top["eligible_share"], 2),
            f"of {number(top['decisions'])} decisions",
            0.0,
        ),
        (
            "All signal guards pass",
            percent(top["guards_together_share"], 2),
            f"of {number(data['guards']['judged'])} bars with a fresh signal",
            0.0,
        ),
        (
            "Weights published",
            percent(top["published_share"]),
            f"of {number(top['epochs'])} epochs",
            0.0,
        ),
    ]
    made = []
    for name, value, more, sign in cards:
        kind = " up" if sign > 0 else " down" if sign < 0 else ""
        made.append(
            f'<div class="card"><dt>{escape(name)}</dt>'
            f'<dd><span class="big{kind}">{escape(value)}</span>'
            f'<span class="more">{escape(more)}</span></dd></div>'
        )
    return f'<dl class="cards">{"".join(made)}</dl>'


def instruments(data: ReportData) -> str:
    """Return the table with one row per instrument."""
    rows = []
    for row in data["table"]:
        reasons = ", ".join(
            f"{one['reason']} {percent(one['share'], 0)}" for one in row["top_reasons"]
        )
        cells = [words(row["instrument"]), *_figures(row["figures"])]
        hint = f"of the last {row['exposure_days']} days" if row["exposure_days"] else ""
        cells.append(Cell(percent(row["exposure"]), row["exposure"], "n", hint))
        cells += [fraction(row["eligible_share"], 2), words(reasons or "\u2013")]
        rows.append(cells)
    if not rows:
        return empty(None, "No instrument in this time.")
    total = [words("all together"), *_figures(data["headline"]["figures"])]
    total += [words("\u2013")._replace(kind="n"), fraction(data["headline"]["eligible_share"], 2)]
    total += [words(_top(data))]
    heads = [
        "Instrument",
        "Trades",
        "Win rate",
        "P&L, bps",
        "Max drawdown, bps",
        "Profit factor",
        "Average hold, bars",
        "Cost per trade, bps",
        "Exposure",
        "Eligible",
        "Reasons most often, share of bars",
    ]
    return table("Figures per instrument", heads, rows, total=total) + (
        '<p class="say">Exposure: share of bars in a position, of the widest slice of the latest '
        "summary.</p>"
    )


def _figures(figures: TradeFigures) -> list[Cell]:
    return [
        figure(figures["trades"]),
        fraction(figures["win_rate"]),
        figure(figures["pnl_bps"], 1, sign=True),
        figure(figures["max_drawdown_bps"], 1),
        figure(figures["profit_factor"], 2),
        figure(figures["avg_hold_bars"], 1),
        figure(figures["cost_per_trade_bps"], 2),
    ]


def _reason_totals(data: ReportData) -> Counter[str]:
    totals: Counter[str] = Counter()
    for counts in data["gates"].values():
        for reason, column in counts["reasons"].items():
            totals[reason] += sum(column)
    return totals


def _top(data: ReportData) -> str:
    decisions = data["headline"]["decisions"]
    ordered = sorted(_reason_totals(data).items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{r} {percent(n / decisions, 0)}" for r, n in ordered[:SEVERAL]) or "\u2013"


def reasons(data: ReportData) -> str:
    """Return the table of reasons per instrument, and their descriptions."""
    totals = _reason_totals(data)
    order = sorted(totals, key=lambda reason: (-totals[reason], reason))
    if not data["gates"]:
        return ""
    rows = []
    for name, counts in data["gates"].items():
        decisions = sum(counts["decisions"])
        cells = [words(name), figure(decisions), _part(sum(counts["eligible"]), decisions)]
        cells += [_part(sum(counts["reasons"].get(reason, [])), decisions) for reason in order]
        rows.append(cells)
    shares = table(
        "Share of bars at which each reason applied",
        ["Instrument", "Decisions", "Eligible", *order],
        rows,
        total=None,
    )
    meanings = table(
        "What the reasons mean",
        ["Reason", "When"],
        [[words(reason), wide(data["reason_docs"].get(reason, ""))] for reason in order],
        sortable=False,
    )
    return details("Reasons per instrument, as a table", shares) + details(
        "What the reasons mean", meanings
    )


def _part(part: int, whole: int) -> Cell:
    return fraction(part / whole if whole else None)


def guards(data: ReportData) -> str:
    """Return the pass rates, overall and per instrument."""
    found = data["guards"]
    if not found["judged"]:
        return empty(None, "No decision with a fresh signal in this time.")
    rows = []
    for row in found["rows"]:
        limit = f"{row['limit']} ({row['setting']})" if row["limit"] else "\u2013"
        if row["in_use"] is False:
            limit = "not in use"
        cells = [words(row["guard"], row["what"]), fraction(row["share"], 2)]
        rows.append([*cells, figure(row["passed"]), words(limit), words(row["kind"])])
    together = [words("all signal guards together"), fraction(found["together_share"], 2)]
    together += [figure(found["together"]), words("\u2013"), words("signal")]
    over = table(
        f"Pass rates over {number(found['judged'])} bars with a fresh signal",
        ["Guard", "Passes", "Bars", "Limit", "Kind"],
        rows,
        total=together,
    )
    said = f'<p class="notice">{escape(found["sentence"])}</p>' if found["sentence"] else ""
    names = [row["guard"] for row in found["rows"] if row["in_use"] is not False]
    each = table(
        "Pass rates per instrument",
        ["Instrument", "Bars", "All signal guards", *names],
        [
            [
                words(one["instrument"]),
                figure(one["judged"]),
                _part(one["together"], one["judged"])._replace(
                    text=percent(one["together"] / one["judged"], 2) if one["judged"] else "\u2013"
                ),
                *(_part(one["passed"][name], one["judged"]) for name in names),
            ]
            for one in found["instruments"]
        ],
    )
    return said + over + details("Pass rates per instrument", each)


def weights(data: ReportData) -> str:
    """Return the mean weights as a table."""
    found = data["allocation"]
    if found is None:
        return ""
    rows = [
        [words(name), fraction(mean, 2), fraction(found["mean_exposure"][name], 2)]
        for name, mean in found["mean_weight"].items()
    ]
    total = [words("all together"), fraction(sum(found["mean_weight"].values()), 2)]
    total.append(fraction(sum(found["mean_exposure"].values()), 2))
    heads = ["Instrument", "Mean weight", "Mean exposure, share of the account"]
    return details(
        "Mean weights, as a table", table("Means over all epochs", heads, rows, total=total)
    )


def costs(data: ReportData) -> str:
    """Return the costs of the spread."""
    if not data["trades"]["total"]:
        return empty(None, "No trade was closed in this time, so nothing was paid.")
    rows = [
        [words(row["instrument"]), *_costs(row["figures"])]
        for row in data["table"]
        if row["figures"]["trades"]
    ]
    figures = data["headline"]["figures"]
    said = (
        f"The spread cost {number(figures['cost_bps'], 1)} bps of a gross P&L of "
        f"{number(figures['gross_bps'], 1, sign=True)} bps."
    )
    if figures["cost_share"] is not None and figures["cost_share"] > 1:
        said += " That is more than the gross P&L."
    if figures["cost_assumed"]:
        said += (
            f" At {number(figures['cost_assumed'])} trades the candles had no bid and ask, and the "
            "cost is the assumed one."
        )
    heads = ["Instrument", "Gross P&L, bps", "Spread paid, bps", "Net P&L, bps"]
    heads += ["Share of gross P&L", "Per trade, bps", "Trades with assumed cost"]
    total = [words("all together"), *_costs(figures)]
    return f'<p class="say">{escape(said)}</p>' + table(
        "Spread paid per instrument", heads, rows, total=total
    )


def _costs(figures: TradeFigures) -> list[Cell]:
    return [
        figure(figures["gross_bps"], 1, sign=True),
        figure(figures["cost_bps"], 1),
        figure(figures["pnl_bps"], 1, sign=True),
        fraction(figures["cost_share"]),
        figure(figures["cost_per_trade_bps"], 2),
        figure(figures["cost_assumed"]),
    ]


def summaries(data: ReportData) -> str:
    """Return the latest evaluation of each instrument against its floors."""
    if not data["summaries"]:
        return empty(None, "No evaluation of the rolling backtest in this time.")
    rows = []
    for one in data["summaries"]:
        floors = one["floors"]
        for part in one["slices"]:
            counts = part["days"] == one["span_days"]
            cells = [words(one["instrument"]), figure(part["days"])]
            cells += [_against(part["trades"], floors["min_trades"] if counts else None, 0)]
            cells += [_against(part["calmar"], floors["calmar_min"] if counts else None, 3)]
            cells += [_against(part["pnl_total"], floors["pnl_min"] if counts else None, 5)]
            cells += [fraction(part["win_rate"]), figure(part["pnl_bps"], 1, sign=True)]
            cells += [figure(part["max_drawdown"], 5), figure(part["profit_factor"], 2)]
            cells += [figure(part["sharpe"], 2), fraction(part["exposure"])]
            cells += [figure(part["avg_hold_bars"], 1), figure(part["cost_bps"], 2)]
            integrity = "ok" if one["span_integrity_ok"] else "VIOLATED"
            rows.append([*cells, words(integrity), words(when(one["as_of_ms"]))])
    heads = ["Instrument", "Days", "Trades", "Calmar", "P&L, total", "Win rate", "P&L, bps"]
    heads += ["Max drawdown", "Profit factor", "Sharpe", "Exposure", "Average hold, bars"]
    heads += ["Cost, bps", "Span integrity", "As of (UTC)"]
    return '<p class="say">A floor in force is shown after the value, with its result.</p>' + table(
        "Latest summary of each instrument, by slice", heads, rows
    )


def _against(value: float | None, floor: float | None, digits: int) -> Cell:
    text = number(value, digits)
    if floor is None:
        return Cell(text, value)
    reached = value is not None and value >= floor
    mark = "\u2713" if reached else "\u2717 under"
    return Cell(f"{text} {mark} {number(floor, digits)}", value, "n pass" if reached else "n fail")


def origin(data: ReportData) -> str:
    """Return the origin of the rows and the versions that produced them."""
    header = data["header"]
    asked = clock_range(header["asked_from_ms"], header["asked_to_ms"])
    if header["asked_from_ms"] is None or header["asked_to_ms"] is None:
        limits = (("from", header["asked_from_ms"]), ("to", header["asked_to_ms"]))
        asked = " ".join(f"{w} {when(at)}" for w, at in limits if at is not None) or "everything"
    rows = [
        ("Source", header["source"] or "\u2013"),
        ("Time range", clock_range(header["from_ms"], header["to_ms"])),
        ("Asked for", asked),
        ("Instruments", ", ".join(data["instruments"]) or "\u2013"),
        ("Bars", ", ".join(header["granularities"]) or "\u2013"),
        ("config_id", header["config_id"] or "\u2013"),
        ("config_id of the records", ", ".join(header["config_ids"]) or "\u2013"),
        ("params_id", ", ".join(header["params_ids"]) or "\u2013"),
        ("Engine", ", ".join(header["engines"]) or "\u2013"),
        ("Program", header["program"]),
    ]
    rows += [(f"Parameters {p['instrument']}".strip(), p["value"]) for p in header["params"]]
    if header["generated_ms"] is not None:
        rows.append(("Made", f"{when(header['generated_ms'])} UTC"))
    made = pairs(rows)
    if header["log"]:
        made += table(
            "Offsets of the log that were read",
            ["Topic", "Partition", "From", "To (not included)", "Records"],
            [
                [
                    words(span["topic"]),
                    *(figure(span[k]) for k in ("partition", "start", "end", "records")),  # type: ignore[literal-required]
                ]
                for span in header["log"]
            ],
            sortable=False,
        )
    if data["config"]:
        made += table(
            "Configuration in force at the end",
            ["Setting", "Value", "Default", "Unit", "What"],
            [
                [
                    words(row["name"]),
                    Cell(row["value"], None, "t changed" if row["changed"] else "t"),
                    words(row["default"]),
                    words(row["unit"]),
                    wide(row["doc"]),
                ]
                for row in data["config"]
            ],
            sortable=False,
        )
    else:
        made += empty(None, "No configuration is known.")
    return made
