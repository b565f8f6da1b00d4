/* The first screen: verdict, tiles, failure signals, and the title of the tab. */
import { attr, byId, el, figures, keyed, prose, put, row, show, table } from "./dom.js";
import { ages, serverNow } from "./clock.js";
import { judge, freshness, named } from "./verdict.js";
import { bothTimes, counted, duration, fixed, NONE, percent, plain, reasonName, when } from "./words.js";
import { barMs, killSwitch } from "./status.js";

const TITLE = { ok: "OK", notice: "Note", warn: "Warning", fail: "Problem", unknown: "Unknown" };

/** Show the verdict; while the connection is lost there is none. */
export function showVerdict(status, live, lostSince) {
  const now = serverNow();
  let verdict = judge(status, now);
  if (!live) {
    const title = status ? "Unknown: the connection is lost" : "Unknown: the service has not answered yet";
    const why = status && lostSince !== null ? [["unknown", `Everything below is the state of ${when(lostSince, now)} UTC and may be wrong now.`]] : [];
    verdict = { level: "unknown", title, why };
  }
  attr(byId("verdict"), "data-level", verdict.level);
  put(byId("verdict-title"), verdict.title);
  keyed(byId("verdict-why"), verdict.why, (one, at) => at, () => {
    const mark = el("span", { class: "visually-hidden" }), words = el("span");
    return { node: el("li", {}, mark, words), mark, words };
  }, (part, [level, words]) => {
    attr(part.node, "data-level", level);
    put(part.mark, TITLE[level] + ": ");
    prose(part.words, words);
  });
  const kill = killSwitch(status), state = live && status ? (kill.engaged ? "Stopped" : "Trading") : "Not live";
  put(document.querySelector("title"), `${TITLE[verdict.level]} · ${state} · manifold-streams`);
}

/** Show the tiles: one fact and its context each. Without a live connection nothing is shown as fresh. */
export function showTiles(status, live) {
  figures(byId("tiles"), [market(status), killTile(status), candles(status, live), gates(status), allocation(status), executor(status), account(status), lag(status)]
    .map(([name, big, more, level]) => [name, (node) => tile(node, big, more, level)]));
}

function tile(node, big, more, level) {
  if (!node.firstChild) node.append(el("span", { class: "big" }), el("span", { class: "more" }));
  attr(node, "data-level", level);
  for (const [part, content] of [[node.firstChild, big], [node.lastChild, more]]) {
    if (typeof content === "function") content(part);
    else put(part, content);
  }
}

function market({ market: found }) {
  if (!found) return ["Market", "unknown", "", "unknown"];
  if (found.calendar === "continuous") return ["Market", "open", "synthetic: trades at weekends", "ok"];
  const next = found.next_change_ms;
  const more = (node) => ages(node, next, (text, gone) => (gone > 0 ? "changes at any moment" : (found.open ? "closes in " : "opens in ") + text));
  return ["Market", found.open ? "open" : "closed" + (found.closed_for === "holiday" ? " (holiday)" : ""), Number.isFinite(next) ? more : "", found.open ? "ok" : "quiet"];
}

function killTile(status) {
  const kill = killSwitch(status), words = [kill.actor && "by " + kill.actor, kill.reason || kill.why.join("; ")].filter(Boolean).join(": ");
  const more = (node) => ages(node, kill.since_ms, (text) => `${text} ago${words ? ", " + words : ""}`);
  return ["Kill switch", kill.engaged ? "engaged" : "off", Number.isFinite(kill.since_ms) ? more : words, kill.engaged ? "stop" : "ok"];
}

function candles(status, live) {
  const { instruments, market: found } = status, bar = barMs(status), now = serverNow();
  const times = instruments.map((one) => one.candle?.as_of_ms).filter(Number.isFinite), newest = (node) => ages(node, Math.max(...times));
  const fresh = instruments.map((one) => [freshness(one.candle, found?.open, now, bar), one.instrument]);
  const behind = fresh.filter(([how]) => how === "stale" || how === "none").map(([, name]) => name), late = fresh.filter(([how]) => how === "late").map(([, name]) => name);
  if (!instruments.length) return ["Candles", "none", "no instrument yet", "quiet"];
  if (found?.open === false) return ["Candles", newest, "old; the market is closed", "quiet"];
  if (!live) return ["Candles", newest, "the newest received", "unknown"];
  if (behind.length) return ["Candles", newest, "the newest; behind: " + named(behind, 3), "warn"];
  if (late.length) return ["Candles", newest, "the newest; late: " + named(late, 3), "ok"];
  if (bar === null) return ["Candles", newest, (node) => ages(node, Math.min(...times), (text) => `the newest; the oldest ${text}`), "ok"];
  return ["Candles", newest, `the newest; all ${instruments.length} fresh`, "ok"];
}

function gates({ instruments }) {
  const judged = instruments.filter((one) => one.gate), open = judged.filter((one) => one.gate.eligible), counts = new Map();
  for (const one of judged) for (const { reason } of one.gate.reasons || []) counts.set(reason, (counts.get(reason) || 0) + 1);
  const top = [...counts].sort((a, b) => b[1] - a[1]).slice(0, 2).map(([reason, n]) => `${reasonName(reason)} ${n}`).join(", ");
  return ["Gates", `${open.length} of ${judged.length}`, top ? "eligible; most refused by " + top : "eligible", judged.length ? "ok" : "quiet"];
}

function allocation({ weights }) {
  if (!weights) return ["Weights", "none", "no epoch yet", "quiet"];
  const total = (weights.entries || []).reduce((sum, one) => sum + (one.target_exposure_pct || 0), 0);
  const more = (node) => ages(node, weights.epoch_ms, (text) => `${weights.action} ${text} ago, ${counted((weights.entries || []).length, "instrument")}`);
  return ["Weights", percent(total), more, "ok"];
}

function executor({ trading }) {
  if (!trading) return ["Executor", "unknown", "", "unknown"];
  const flags = [trading.venue, trading.mode !== trading.venue && trading.mode, trading.read_only && "read only", trading.dry_run && "dry run", trading.reconciled === false && "not reconciled"];
  const running = trading.executor === "running", words = flags.filter(Boolean).join(", ");
  return ["Executor", trading.executor, words || "nothing is traded", running ? (trading.reconciled === false ? "warn" : "ok") : "warn"];
}

function account({ trading }) {
  const found = trading?.account;
  if (!found) return ["Account", "–", "no figures", "quiet"];
  const used = found.nav ? found.margin_used / found.nav : null;
  return ["Account", `${fixed(found.nav, 2)} ${found.currency || ""}`, `P&L ${fixed(found.unrealized_pl, 2, true)}, margin ${percent(used)}`, "ok"];
}

function lag({ lag: found }) {
  const entries = Object.entries(found).filter(([, n]) => Number.isFinite(n));
  if (!entries.length) return ["Lag", "–", "not measured", "quiet"];
  const most = entries.reduce((a, b) => (b[1] > a[1] ? b : a));
  return ["Lag", fixed(most[1]), most[1] ? `records, ${most[0]} is furthest behind` : "records; every stage is at the end", "ok"];
}

const COLUMNS = [["Signal"], ["State"], ["Finding", "w"], ["Since", "n"], ["What to do", "w"]];
const ORDER = ["fail", "warn", "unknown", "ok", "quiet"];
let shown = null, heardStates = null;

const isBad = (state) => state !== "ok" && state !== "quiet";

/** Show the failure signals, the bad ones first, and announce changes to screen readers. */
export function showSignals(status, live) {
  const signals = [...status.signals].sort((a, b) => ORDER.indexOf(a.state) - ORDER.indexOf(b.state) || (a.name < b.name ? -1 : 1));
  const bad = signals.filter((one) => isBad(one.state));
  show(byId("signals-none"), !signals.length);
  show(byId("signals-body"), bad.length > 0);
  if (!shown) byId("signals-body").append((shown = table("Failure signals that need attention, worst first", COLUMNS, "signals")).node);
  keyed(shown.body, bad, (one) => one.name, () => row(COLUMNS), ({ node, cells }, signal) => {
    attr(node, "data-state", signal.state);
    put(cells[0], plain(signal.name));
    put(cells[1], signal.state);
    attr(cells[1], "class", "state");
    prose(cells[2], signal.detail);
    ages(cells[3], signal.since_ms);
    prose(cells[4], signal.action);
  });
  keyed(byId("signals-calm"), signals.filter((one) => !isBad(one.state)), (one) => one.name, makeCalm, ({ node, name, words }, signal) => {
    attr(node, "data-state", signal.state);
    put(name, `${plain(signal.name)}: ${signal.state}`);
    put(words, signal.detail ? ", " + signal.detail : "");
  });
  if (live) announce(signals);
}

function makeCalm() {
  const name = el("b"), words = el("span");
  return { node: el("li", {}, name, words), name, words };
}

function announce(signals) {
  const states = new Map(signals.map((one) => [one.name, one.state])), before = heardStates;
  heardStates = states;
  if (!before) return;
  const words = signals.filter((one) => before.get(one.name) !== one.state && (isBad(one.state) || isBad(before.get(one.name) ?? "ok")))
    .map((one) => `${plain(one.name)}: ${one.state}${isBad(one.state) ? ", " + one.detail : ""}`);
  if (words.length) put(byId("live-signals"), words.join(". "));
}

/** Show lag and versions. */
export function showSystem(status) {
  figures(byId("lag"), Object.entries(status.lag).map(([name, n]) => ["Lag of " + plain(name), n === null ? "unknown" : counted(n, "record")]));
  const versions = status.versions || {};
  const lines = Object.entries(versions).map(([name, text]) => [name === "config_id" ? "Configuration" : name === "manifold" ? "manifold-streams" : name, text ?? NONE]);
  figures(byId("versions"), [...lines, ["State read", (node) => ages(node, status.ts_ms, (text) => text + " ago"), bothTimes(status.ts_ms)], ["Up for", duration(performance.now())]]);
}
