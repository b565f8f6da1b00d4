"""One event per record, with every optional value set in one of them and unset in another."""

from streams.records.events import (
    Candle,
    CandlePrices,
    Control,
    DeadLetter,
    EchoGate,
    Event,
    Floors,
    GateDecision,
    GateEvaluation,
    GateMetrics,
    Manifold,
    Ohlc,
    ReasonDetail,
    Signal,
    SimulatedTrade,
    Summary,
    SummaryParams,
    SummarySlice,
    Watermark,
    WeightEntry,
    WeightGate,
    Weights,
)
from streams.records.topics import TOPICS
from streams.records.trading_events import AccountState, BrokerReport, GuardVerdict, OrderIntent

BAR_MS = 1_400_000_040_000
CONFIG_ID = "0123456789abcdef"
STAMP = ("EUR_USD", "M1", BAR_MS, BAR_MS + 60_000, CONFIG_ID, 7)
MID = Ohlc(1.37105, 1.3712, 1.37095, 1.3711)
BID = Ohlc(1.371, 1.37115, 1.3709, 1.37105)
ASK = Ohlc(1.3711, 1.37125, 1.371, 1.37115)
PRICES = CandlePrices(MID, BID, ASK, 42)

SAMPLES: dict[str, Event] = {
    "Candle": Candle("EUR_USD", "M1", BAR_MS, BAR_MS + 60_000, MID, BID, ASK, True, 42, "oanda"),
    "Watermark": Watermark(BAR_MS + 60_000, "M1", 7, ("EUR_USD", "NZD_USD"), ("USD_JPY",)),
    "Signal": Signal(
        *STAMP, BAR_MS - 7_620_000, 0.55, 0.4, 0.7, 0.25, 0.125, 0.1, False, "c0.55_s0.4_e0.7",
        3, BAR_MS - 8_000_000, 61, 1.3711, PRICES, False, 0,
    ),
    "Manifold": Manifold(
        *STAMP, 129, BAR_MS - 90_000_000, BAR_MS, 0.55, 0.4, 0.7, 0.25, 0.1, 1e-4, -0.5,
        "c0.55_s0.4_e0.7", 3, BAR_MS - 8_000_000, BAR_MS - 7_620_000, 1.3711, PRICES, True, 2, True,
    ),
    "SimulatedTrade": SimulatedTrade(
        *STAMP, "t-1", -1, BAR_MS - 600_000, 1.37, BAR_MS, 1.371, "max_hold", 10, 0.8, -8.1, -9.0,
        2.5, True, "p-1",
    ),
    "Summary": Summary(
        *STAMP, "p-1", 30,
        (
            SummarySlice(30, 12, 0.5, 3.5, 4.0, 1.5, 2.25, 2.5, 1.1, 1.2, 1.3, 0.1, 9.5, 0.8),
            SummarySlice(7, 0, None, 0.0, 0.0, 0.0, None, None, None, None, None, 0.0, None, 0.0),
        ),
        Floors(8.0, 0.5, 0.0), 40, True, SummaryParams(0.55, 12, 2.0), True,
    ),
    "GateDecision": GateDecision(
        *STAMP, False, ("coherence_below_min", "session_closed"),
        GateMetrics(0.5, 0.4, 0.7, 0.25, 0.1, 3, -0.5, 1e-4, BAR_MS - 3_600_000), False,
        Floors(8.0, 0.5, 0.0), 0.1,
        0, 2, 1, BAR_MS + 120_000, False, True, -1, 0, BAR_MS + 3_600_000, BAR_MS, 0.61, "static",
        "0123456789abcdef", GateEvaluation(BAR_MS, 12, 0.5, 0.0125, True),
        (
            ReasonDetail("coherence_below_min", 0.5, 0.55, None),
            ReasonDetail("session_closed", None, None, BAR_MS + 3_600_000),
        ),
    ),
    "Weights": Weights(
        "M1", BAR_MS, BAR_MS + 60_000, CONFIG_ID, 7, BAR_MS + 60_000, ("EUR_USD", "NZD_USD"),
        ("EUR_USD",), (WeightEntry("EUR_USD", 0.61, 1.0, 0.1),),
        (
            WeightGate(
                "EUR_USD", True, False, 0.1, BAR_MS + 60_000, EchoGate(4, 0.25, BAR_MS - 240_000)
            ),
            WeightGate("NZD_USD", False, True, 0.3, BAR_MS),
        ),
        "published", None, "", 3, "echo",
    ),
    "Control": Control("params", "EUR_USD", '{"a":1}', "ops", "more caution", BAR_MS),
    "OrderIntent": OrderIntent(
        *STAMP, "o-1", "sell", 1000.0, "reduce", 0.5, 2000.0, 1.38, None,
        (GuardVerdict("kill_switch", True, "off"), GuardVerdict("spread", False, "3.1 bps")), True,
        "101-004-1-001", "practice", BAR_MS, 3, BAR_MS + 60_020, "the run ended", "pct", 1.25, 0.5,
        100_001.5, "42", "trade", "41", 1.3705, 0.0025, "operator", "executor",
        "r-1",
    ),
    "BrokerReport": BrokerReport(
        *STAMP, "o-1", ("17", "18"), "filled", 1000.0, 1.3711, None, '{"id":"17"}',
        "101-004-1-001", "sell", "stop_loss", ("18",), "43", BAR_MS + 60_500, -12.5, 99_989.0,
    ),
    "AccountState": AccountState(
        "101-004-1-001", "practice", BAR_MS + 60_500, CONFIG_ID, "transfer", 85_000.0, 85_500.0,
        BAR_MS - 3_600_000, 85_250.0, "44", -15_000.0, "43", 9,
    ),
    "DeadLetter": DeadLetter(
        "md.candles", 3, 1234, b"EUR_USD", b"\x01\xff", "bad_magic", "first byte 0x01", "signals"
    ),
}  # fmt: skip

BARE_SAMPLES: dict[str, Event] = {
    "Candle": Candle(*STAMP[:4], MID, None, None, False, None, "file"),
    "Watermark": Watermark(BAR_MS, "M1", 0, ()),
    "GateDecision": GateDecision(
        *STAMP, False, ("warming",), None, True, None, 0.0, 0, 0, 0, None, True, False, 0, 0, None,
        None, None, "echo",
    ),
    "Control": Control("kill_switch", None, '"1"', "ops", "\u00fcberpr\u00fcfen", BAR_MS),
    "AccountState": AccountState(
        "paper", "paper", BAR_MS, CONFIG_ID, "start", 1.0, 1.0, BAR_MS, 1.0, "", None, "",
    ),
    "DeadLetter": DeadLetter("md.candles", 0, 0, None, None, "null_value", "", "signals"),
}  # fmt: skip

TOPIC_OF = {record: t.name for t in reversed(TOPICS.values()) for record in t.records}
