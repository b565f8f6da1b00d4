/* The last full state of the service, updated by the events since. */
const BAR_MS = { S5: 5e3, S10: 1e4, S15: 15e3, S30: 3e4, M1: 6e4, M2: 12e4, M4: 24e4, M5: 3e5, M10: 6e5, M15: 9e5, M30: 18e5,
  H1: 36e5, H2: 72e5, H3: 108e5, H4: 144e5, H6: 216e5, H8: 288e5, H12: 432e5 };
const MOST_ORDERS = 50;

/** Length of a bar (ms); null before the service or a candle reports it. */
export const barMs = (status) => BAR_MS[status?.granularity] ?? null;

function instrumentOf(status, name) {
  const found = status.instruments.find((one) => one.instrument === name);
  if (found) return found;
  const made = { instrument: name, candle: null, manifold: null, gate: null, weight: null, target_exposure_pct: null, position: null };
  status.instruments.push(made);
  status.instruments.sort((a, b) => (a.instrument < b.instrument ? -1 : 1));
  return made;
}

/* Update one part of an instrument; an event older than the current value changes nothing. */
function place(status, frame, part, found) {
  const name = frame.instrument;
  if (!name || !Number.isFinite(found.as_of_ms)) return false;
  const one = instrumentOf(status, name);
  if (!one[part] || !(found.as_of_ms < one[part].as_of_ms)) one[part] = found;
  return true;
}

function candle(status, frame) {
  const { as_of_ms, mid, bid, ask, granularity } = frame.data;
  if (BAR_MS[granularity] && !(barMs(status) <= BAR_MS[granularity] && barMs(status))) status.granularity = granularity;
  const [b, a] = [bid?.close ?? null, ask?.close ?? null];
  const spread_bps = b !== null && a !== null && a + b > 0 ? (1e4 * (a - b)) / ((a + b) / 2) : null;
  return place(status, frame, "candle", { as_of_ms, mid: mid?.close ?? null, bid: b, ask: a, spread_bps });
}

/** The figures of a manifold event under the names that the full state gives them. */
export function manifoldOf({ ts_ms, price, metrics, coeffs, repetition }) {
  return { as_of_ms: ts_ms, price, ...metrics, ...coeffs, count_1h: repetition?.count_1h ?? null, signature: repetition?.signature ?? null };
}

function weights(status, frame) {
  if (status.weights && frame.data.epoch_ms < status.weights.epoch_ms) return true;
  status.weights = frame.data;
  const entries = new Map((frame.data.entries || []).map((entry) => [entry.instrument, entry]));
  for (const one of status.instruments) {
    one.weight = entries.get(one.instrument)?.weight ?? null;
    one.target_exposure_pct = entries.get(one.instrument)?.target_exposure_pct ?? null;
  }
  return true;
}

/* The intent may come again (after a reconnection) when its result is known: the result is kept. */
function order(status, frame) {
  const found = frame.data, at = status.orders.findIndex((one) => one.order_id === found.order_id);
  if (at >= 0) return true;
  status.orders.unshift(found);
  status.orders.sort((a, b) => b.as_of_ms - a.as_of_ms);
  status.orders.length = Math.min(status.orders.length, MOST_ORDERS);
  return true;
}

function fill(status, frame) {
  const { order_id, status: fate, price, reason } = frame.data;
  const one = status.orders.find((other) => other.order_id === order_id);
  if (!one) return false;
  Object.assign(one, { status: fate, price, reason });
  return true;
}

const TAKES = {
  candle,
  manifold: (status, frame) => place(status, frame, "manifold", manifoldOf(frame.data)),
  gate: (status, frame) => place(status, frame, "gate", frame.data),
  weights,
  order,
  fill,
  dead_letter: () => true,
};

/**
 * Apply an event to a status. Returns whether that is possible: an event that only reports a change
 * (an operator's command, the executor's state) needs the full state again.
 */
export function take(status, frame) {
  const taker = TAKES[frame.type];
  return Boolean(taker && frame.data && typeof frame.data === "object" && taker(status, frame));
}

/** Complete the service's answer: missing lists are empty, other missing parts are null. */
export function complete(found) {
  const status = { ...found };
  for (const list of ["signals", "instruments", "orders"]) status[list] = Array.isArray(status[list]) ? status[list] : [];
  for (const part of ["market", "kill_switch", "trading", "weights", "versions"]) status[part] = status[part] ?? null;
  status.lag = status.lag ?? {};
  status.instruments = status.instruments.filter((one) => one && one.instrument);
  return status;
}

/** The state of the kill switch: everything but a clear "off" counts as engaged. */
export function killSwitch(status) {
  const found = status?.kill_switch;
  if (!found) return { engaged: true, certain: false, why: ["the service does not report its state"], since_ms: null, actor: null, reason: null };
  return { ...found, engaged: found.engaged !== false, certain: typeof found.engaged === "boolean", why: found.why ?? [] };
}

/** Positions by instrument, as the executor has them. */
export const positionOf = (status, name) => status.trading?.positions?.find((one) => one.instrument === name) ?? null;
