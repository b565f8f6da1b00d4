/* One row per instrument: candle, gate with its reasons, direction, weight, position. */
import { attr, byId, el, keyed, put, row, show, table } from "./dom.js";
import { ages, serverNow, shows } from "./clock.js";
import { freshness } from "./verdict.js";
import { counted, figure, fixed, instrumentName, NONE, percent, price, reasonName, reasonShort, relation, way } from "./words.js";
import { barMs, positionOf } from "./status.js";

const COLUMNS = [["Instrument"], ["Candle age", "n", "Age"], ["Mid, bps", "n", "Mid"], ["Gate", "state"], ["Reasons", "w"],
  ["Change in", "n", "Next in"], ["Signal, run", "", "Signal"], ["Weight, target", "n", "Weight"], ["Units, P&L", "n", "Units"]];
const MOST_CHIPS = 8;
const FILTERS = {
  all: () => true,
  eligible: (one) => one.gate?.eligible === true,
  refused: (one) => one.gate?.eligible !== true,
  used: (one) => Boolean(one.weight || one.position?.units),
};
let shown = null;

export function startInstruments(redraw) {
  byId("filter").addEventListener("change", redraw);
  byId("reasons").addEventListener("toggle", redraw);
}

export function showInstruments(status, live, chosen) {
  const all = status.instruments.map((one) => ({ ...one, position: one.position ?? positionOf(status, one.instrument), paused: status.trading?.paused?.[one.instrument] }));
  const some = all.filter(FILTERS[byId("filter").value] || FILTERS.all);
  show(byId("instruments-none"), !all.length);
  show(byId("instruments-body"), all.length > 0);
  put(byId("instruments-count"), all.length ? `${some.length} of ${counted(all.length, "instrument")}` : "");
  if (!shown) byId("instruments-body").append((shown = table("Instruments: candle, gate, weight and position", COLUMNS, "instruments")).node);
  const now = serverNow(), open = status.market?.open, bar = barMs(status);
  keyed(shown.body, some, (one) => one.instrument, makeRow, (part, one) => fillRow(part, one, live ? freshness(one.candle, open, now, bar) : "unknown", chosen));
  if (byId("reasons").open) showReasons(all, now);
}

/* Two related figures, one above the other. */
function pair(cell) {
  const made = [el("span"), el("span", { class: "under" })];
  cell.append(...made);
  return made;
}

function makeRow(one) {
  const made = row(COLUMNS);
  made.paused = el("span", { class: "under" });
  made.cells[0].append(el("a", { href: "#instrument=" + one.instrument }, instrumentName(one.instrument)), made.paused);
  made.chips = el("ul", { class: "chips" });
  made.cells[4].append(made.chips);
  [made.mid, made.signal, made.weight, made.units] = [2, 6, 7, 8].map((at) => pair(made.cells[at]));
  return made;
}

function fillRow(part, one, fresh, chosen) {
  const { node, cells } = part, { candle, gate, position } = one;
  attr(node, "class", one.instrument === chosen ? "chosen" : null);
  attr(cells[0].firstChild, "aria-current", one.instrument === chosen ? "true" : null);
  put(part.paused, one.paused ? "paused" : "");
  ages(cells[1], candle?.as_of_ms);
  attr(cells[1], "data-fresh", fresh);
  put(part.mid[0], price(candle?.mid, one.instrument));
  put(part.mid[1], candle ? fixed(candle.spread_bps, 2) : "");
  fillGate(part, gate);
  put(part.signal[0], gate ? way(gate.direction) : NONE);
  put(part.signal[1], gate ? "run " + way(gate.position) : "");
  attr(cells[7], "class", one.weight ? "n" : "n none");
  put(part.weight[0], one.weight ? fixed(one.weight, 3) : NONE);
  put(part.weight[1], one.target_exposure_pct ? percent(one.target_exposure_pct) : "");
  const units = position?.units;
  attr(cells[8], "class", units ? "n" : "n none");
  put(part.units[0], units ? fixed(units, Number.isInteger(units) ? 0 : 1, true) : NONE);
  put(part.units[1], units ? fixed(position.unrealized_pl, 2, true) : "");
  attr(part.units[1], "data-sign", units ? Math.sign(position.unrealized_pl) : null);
}

function fillGate({ node, cells, chips }, gate) {
  const reasons = gate?.reasons ?? [];
  attr(node, "data-gate", !gate ? "none" : gate.eligible ? "yes" : "no");
  put(cells[3], !gate ? "no decision" : gate.eligible ? "eligible" : `no: ${counted(reasons.length, "reason")}`);
  keyed(chips, chipsOf(reasons), (text, at) => at, () => ({ node: el("li") }), (part, text) => put(part.node, text));
  ages(cells[5], gate?.next_change_ms, (text, gone) => (gone > 0 ? "due" : text));
}

function chipsOf(reasons) {
  const texts = reasons.map(reasonShort);
  return texts.length > MOST_CHIPS ? [...texts.slice(0, MOST_CHIPS), `and ${texts.length - MOST_CHIPS} more`] : texts;
}

export const REASON_COLUMNS = [["Reason"], ["Value", "n"], ["Limit", "n"], ["What would change it", "w"], ["May change", "n"]];
const EVERY = [["Instrument"], ...REASON_COLUMNS];
let every = null;

function showReasons(all, now) {
  const flat = all.flatMap((one) => (one.gate?.reasons ?? []).map((reason) => ({ ...reason, instrument: one.instrument })));
  if (!every) byId("reasons-body").append((every = table("Every reason of every gate", EVERY, "reasons")).node);
  keyed(every.body, flat, (one) => one.instrument + " " + one.reason, () => row(EVERY), ({ cells }, one) => {
    put(cells[0], instrumentName(one.instrument));
    fillReason(cells.slice(1), one, now);
  });
}

/** Fill five cells with a reason: name, value, limit, what would change it, and when it may. */
export function fillReason(cells, one, now) {
  put(cells[0], reasonName(one.reason));
  attr(cells[0], "title", one.reason);
  put(cells[1], figure(one.value));
  put(cells[2], one.limit === null || one.limit === undefined ? NONE : `${relation(one.reason) === ">" ? "at most" : "at least"} ${figure(one.limit)}`);
  put(cells[3], one.text || NONE);
  if (Number.isFinite(one.next_change_ms)) shows(cells[4], one.next_change_ms, now);
  else put(cells[4], "with the next bars");
}
