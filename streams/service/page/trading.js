/* Weights, account, positions and orders. */
import { attr, byId, el, figures, keyed, prose, put, row, show, table } from "./dom.js";
import { ages, serverNow, shows } from "./clock.js";
import { counted, fixed, instrumentName, NONE, percent, plain, price, when } from "./words.js";

const WEIGHTS = [["Instrument"], ["Score", "n"], ["Weight", "n"], ["Target of the account", "n"], ["Share", "bar"]];
const POSITIONS = [["Instrument"], ["Units", "n"], ["Average price", "n"], ["Unrealised P&L", "n"], ["Joined run"], ["Blocked by", "w"]];
const ORDERS = [["Time, UTC"], ["Instrument"], ["Side"], ["Units", "n"], ["Kind"], ["Status"], ["Price", "n"], ["Reason", "w"], ["Guards", "w"]];
const shown = {};

function body(name, caption, columns, kind) {
  if (!shown[name]) byId(name + "-body").append((shown[name] = table(caption, columns, kind)).node);
  return shown[name];
}

export function showWeights({ weights }) {
  const now = serverNow(), entries = weights?.entries ?? [];
  let words = "No epoch has been closed yet.";
  if (weights) {
    words = `Epoch ${when(weights.epoch_ms, now)} UTC, ${weights.action}${weights.reason ? ": " + plain(weights.reason) : ""}. The best ${weights.top_k} are chosen`;
    words += weights.held_since_ms ? `; held since ${when(weights.held_since_ms, now)} UTC.` : ".";
  }
  put(byId("weights-say"), words);
  const { node, body: rows } = body("weights", "Target weights of the latest epoch", WEIGHTS, "weights");
  show(node, entries.length > 0);
  const most = Math.max(...entries.map((one) => one.weight), 0);
  keyed(rows, entries, (one) => one.instrument, () => {
    const made = row(WEIGHTS);
    made.bar = el("i");
    made.cells[4].append(el("span", { class: "meter", "aria-hidden": "true" }, made.bar));
    return made;
  }, ({ cells, bar }, one) => {
    put(cells[0], instrumentName(one.instrument));
    put(cells[1], fixed(one.score, 3));
    put(cells[2], fixed(one.weight, 3));
    put(cells[3], percent(one.target_exposure_pct));
    const width = (most > 0 ? Math.round((one.weight / most) * 1000) / 10 : 0) + "%";
    if (bar.style.width !== width) bar.style.width = width;
  });
}

function accountWords(trading) {
  if (!trading) return "The service does not report whether an executor is running.";
  if (trading.executor === "absent") return `No executor is running${trading.detail ? ` (${trading.detail})` : ""}, so account and positions are unknown. Start one with \`manifold trade\`.`;
  if (!trading.venue) return `Executor ${trading.executor}: ${trading.detail ?? "no details"}.`;
  const parts = [`Executor ${trading.executor}`, `venue ${trading.venue ?? "unknown"} (${trading.mode ?? "unknown"})`];
  if (trading.account_id) parts.push("account " + trading.account_id);
  if (trading.read_only) parts.push("read only");
  if (trading.dry_run) parts.push("dry run: nothing is sent");
  parts.push(trading.reconciled ? "reconciled with the broker" : "not reconciled with the broker yet");
  if (trading.kill_switch?.engaged) parts.push("it reads the kill switch as engaged");
  return parts.join("; ") + ".";
}

export function showAccount({ trading, instruments }) {
  prose(byId("account-say"), accountWords(trading));
  const account = trading?.account, money = (n, sign) => `${fixed(n, 2, sign)} ${account.currency ?? ""}`;
  figures(byId("account-figures"), !account ? [] : [["NAV", money(account.nav)], ["Balance", money(account.balance)], ["Unrealised P&L", money(account.unrealized_pl, true)],
    ["Margin used", `${money(account.margin_used)} (${percent(account.nav ? account.margin_used / account.nav : null)})`], ["Margin available", money(account.margin_available)],
    ["Last cycle", (node) => ages(node, trading.last_cycle_ms, (text) => text + " ago")], ["Last transaction", trading.last_transaction_id ?? NONE]]);
  keyed(byId("differences"), trading?.differences ?? [], String, () => ({ node: el("li") }), (part, said) => put(part.node, "Difference to the broker: " + said));
  const positions = new Map((trading?.positions ?? instruments.filter((one) => one.position).map((one) => ({ ...one.position, instrument: one.instrument }))).map((one) => [one.instrument, one]));
  for (const name of Object.keys({ ...trading?.blocked, ...trading?.paused })) if (!positions.has(name)) positions.set(name, { instrument: name });
  const rows = [...positions.values()].sort((a, b) => (a.instrument < b.instrument ? -1 : 1));
  const { node, body: place } = body("positions", "Positions at the broker, and what blocks an instrument", POSITIONS, "positions");
  show(node, rows.length > 0);
  keyed(place, rows, (one) => one.instrument, () => row(POSITIONS), ({ cells }, one) => fillPosition(cells, one, trading));
}

function fillPosition(cells, one, trading) {
  const joined = trading?.joined?.[one.instrument], paused = trading?.paused?.[one.instrument];
  const blocked = [...(paused ? [`paused by ${paused.actor}: ${paused.reason}`] : []), ...(trading?.blocked?.[one.instrument] ?? [])];
  put(cells[0], instrumentName(one.instrument));
  put(cells[1], one.units === undefined ? NONE : fixed(one.units, Number.isInteger(one.units) ? 0 : 1, true));
  put(cells[2], price(one.average_price, one.instrument));
  put(cells[3], fixed(one.unrealized_pl, 2, true));
  attr(cells[3], "data-sign", Math.sign(one.unrealized_pl) || null);
  const since = joined?.by_operator ? "by an operator's order" : joined ? `since ${when(joined.entry_bar_ms, serverNow())}` : "";
  put(cells[4], joined ? `${joined.direction > 0 ? "long" : "short"} ${since}` : NONE);
  put(cells[5], blocked.length ? blocked.map((said) => (typeof said === "string" ? said : `${plain(said.guard)}: ${said.detail}`)).join("; ") : NONE);
}

const FATE = { filled: "ok", recorded: "ok", accepted: "quiet", rejected: "fail", cancelled: "warn", unknown: "fail" };

export function showOrders({ orders }) {
  show(byId("orders-none"), !orders.length);
  const { node, body: rows } = body("orders", "Orders, newest first", ORDERS, "orders");
  show(node, orders.length > 0);
  const now = serverNow();
  keyed(rows, orders, (one) => one.order_id, makeOrder, (part, one) => fillOrder(part, one, now));
}

function makeOrder() {
  const made = row(ORDERS);
  made.summary = el("summary");
  made.guards = el("ul", { class: "guards" });
  made.cells[8].append(el("details", {}, made.summary, made.guards));
  return made;
}

function fillOrder({ cells, summary, guards }, one, now) {
  shows(cells[0], one.as_of_ms, now);
  put(cells[1], instrumentName(one.instrument));
  put(cells[2], one.side);
  put(cells[3], fixed(one.units, Number.isInteger(one.units) ? 0 : 1));
  put(cells[4], one.kind);
  put(cells[5], plain(one.status ?? "unknown"));
  attr(cells[5], "class", "state");
  attr(cells[5], "data-state", FATE[one.status] ?? "quiet");
  put(cells[6], price(one.price, one.instrument));
  put(cells[7], one.reason || NONE);
  const failed = (one.guards ?? []).filter((guard) => !guard.passed);
  put(summary, failed.length ? `${counted(failed.length, "guard")} refused: ${failed.map((guard) => plain(guard.guard)).join(", ")}` : `all ${(one.guards ?? []).length} passed`);
  keyed(guards, one.guards ?? [], (guard, at) => at, () => ({ node: el("li") }), (part, guard) => {
    put(part.node, `${guard.passed ? "passed" : "refused"}: ${plain(guard.guard)}${guard.detail ? ", " + guard.detail : ""}`);
    attr(part.node, "data-state", guard.passed ? "ok" : "fail");
  });
}
