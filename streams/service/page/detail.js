/* One instrument: from its candle to the broker, its gate reason by reason, its manifold charts. */
import * as api from "./api.js";
import { Charts } from "./charts.js";
import { attr, byId, el, keyed, prose, put, row, show, table } from "./dom.js";
import { serverNow } from "./clock.js";
import { fillReason, REASON_COLUMNS } from "./instruments.js";
import { manifoldOf } from "./status.js";
import { counted, duration, figure, instrumentName, plain, way, when } from "./words.js";

const WHY_AT_MOST_EVERY_MS = 2000;
let chosen = null, charts = null, reasons = null, whyTimer = null;

const named = () => /^#instrument=([A-Z0-9_]{3,20})$/.exec(location.hash)?.[1] ?? null;

/** The chosen instrument; null before the first choice. */
export const chosenInstrument = () => chosen;

export function startDetail(redraw) {
  charts = new Charts(byId("charts"));
  const choose = (name) => {
    if (name === chosen) return;
    chosen = name;
    charts.clear();
    keyed(byId("steps"), [], String);
    reloadDetail();
    redraw();
  };
  byId("chosen").addEventListener("change", () => {
    history.replaceState(null, "", "#instrument=" + byId("chosen").value);
    choose(byId("chosen").value);
  });
  byId("bars").addEventListener("change", loadHistory);
  window.addEventListener("hashchange", () => {
    if (!named()) return;
    choose(named());
    byId("instrument").scrollIntoView();
    byId("instrument-h").focus({ preventScroll: true });
  });
  if (named()) choose(named());
}

/** Load the data that events do not contain: after a choice, and after a reset. */
export function reloadDetail() {
  if (!chosen) return;
  loadHistory();
  loadWhy();
}

async function loadHistory() {
  const name = chosen, most = Number(byId("bars").value);
  try {
    const found = await api.history(name, most);
    if (name === chosen) charts.set(name, found.items ?? [], most);
  } catch (error) {
    if (name === chosen && !charts.items.length) charts.empty(`No history: ${error.message}`);
  }
}

async function loadWhy() {
  const name = chosen;
  try {
    const found = await api.why(name);
    if (name === chosen) showSteps(found);
  } catch (error) {
    if (name !== chosen) return;
    keyed(byId("steps"), [], String);
    put(byId("why-say"), "");
    put(byId("why-none"), `No explanation: ${error.message}`);
    show(byId("why-none"), true);
  }
}

/** Add an event to the charts; query the explanation again when the event can change it. */
export function detailEvent(frame) {
  if (!chosen || (frame.instrument && frame.instrument !== chosen)) return;
  if (frame.type === "manifold") charts.add(manifoldOf(frame.data));
  else whySoon();
}

/** Query the explanation again soon, at most once per WHY_AT_MOST_EVERY_MS. */
export function whySoon() {
  if (chosen && !whyTimer) whyTimer = setTimeout(() => { whyTimer = null; loadWhy(); }, WHY_AT_MOST_EVERY_MS);
}

const OK = { true: "ok", false: "fail" };

function showSteps({ steps = [], summary }) {
  show(byId("why-none"), !steps.length);
  put(byId("why-none"), "The service returned no step for this instrument.");
  put(byId("why-say"), summary ?? "");
  keyed(byId("steps"), steps, (one, at) => `${at} ${one.step}`, () => {
    const state = el("span", { class: "step-state" }), name = el("b"), words = el("span"), change = el("span", { class: "change" });
    return { node: el("li", {}, state, name, el("span", { class: "step-words" }, words, change)), state, name, words, change };
  }, (part, one) => {
    const state = OK[one.ok] ?? "unknown";
    attr(part.node, "data-state", state);
    put(part.state, state === "ok" ? "passes" : state === "fail" ? "stops here" : "not known");
    put(part.name, plain(one.step));
    prose(part.words, one.detail);
    prose(part.change, one.change ? "To change it: " + one.change + "." : "");
  });
}

/** Show the chosen instrument's gate, and the list to choose from. */
export function showDetail(status) {
  const names = status.instruments.map((one) => one.instrument);
  if (chosen && !names.includes(chosen)) names.push(chosen);
  keyed(byId("chosen"), ["", ...names], String, (name) => ({ node: el("option", { value: name }, name ? instrumentName(name) : "choose one") }), () => {});
  if (byId("chosen").value !== (chosen ?? "")) byId("chosen").value = chosen ?? "";
  put(byId("instrument-h"), chosen ? `Why and charts: ${instrumentName(chosen)}` : "Why and charts");
  show(byId("instrument-none"), !chosen);
  show(byId("detail"), Boolean(chosen));
  charts.flush();
  if (chosen) showGate(status.instruments.find((one) => one.instrument === chosen));
}

function showGate(one) {
  const gate = one?.gate, now = serverNow(), found = gate?.reasons ?? [];
  put(byId("gate-say"), gate ? gateWords(one, gate, now) : "No decision yet: the gates stage decides from the first watermark on.");
  if (!reasons) byId("gate-body").append((reasons = table("Reasons why it is not eligible", REASON_COLUMNS, "reasons")).node);
  show(reasons.node, found.length > 0);
  keyed(reasons.body, found, (reason) => reason.reason, () => row(REASON_COLUMNS), ({ cells }, reason) => fillReason(cells, reason, now));
  charts.limit(Object.fromEntries(found.filter((reason) => Number.isFinite(reason.limit)).map((reason) => [reason.reason, reason.limit])));
}

function gateWords(one, gate, now) {
  const parts = [gate.eligible ? "Eligible" : "Not eligible: " + counted(gate.reasons?.length ?? 0, "reason")];
  parts.push(`signal ${way(gate.direction)}`, `backtest run ${way(gate.position)}`, `session ${gate.session_open ? (gate.near_close ? "open, near its close" : "open") : "closed"}`);
  if (Number.isFinite(gate.score)) parts.push("score " + figure(gate.score));
  if (one.manifold) parts.push(`signature ${one.manifold.signature ?? "none"}, seen ${one.manifold.count_1h ?? 0} times in the hour`);
  if (gate.cooldown_until_ms > now) parts.push("cooling down for " + duration(gate.cooldown_until_ms - now));
  return `${parts.join("; ")}. Decided for the bar that ended ${when(gate.as_of_ms, now)} UTC.`;
}
