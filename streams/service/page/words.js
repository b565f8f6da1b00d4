/* Formats numbers, times and names for the page. */
export const NONE = "–";

const known = (n) => typeof n === "number" && Number.isFinite(n);

/** A number with `digits` decimals; a dash for none. The minus sign is U+2212. */
export function fixed(n, digits = 0, sign = false) {
  if (!known(n)) return NONE;
  const text = Math.abs(n).toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  const zero = Number(text.replace(/,/g, "")) === 0;
  return (zero ? "" : n < 0 ? "−" : sign ? "+" : "") + text;
}

/** A fraction as per cent; a small one that is not 0 is not shown as 0. */
export function percent(part, digits = 1) {
  if (!known(part)) return NONE;
  const least = 10 ** -digits;
  if (part > 0 && part * 100 < least) return "< " + least.toFixed(digits) + " %";
  return fixed(part * 100, digits) + " %";
}

/** A number with as many decimals as its size needs. */
export function figure(n) {
  if (!known(n)) return NONE;
  const size = Math.abs(n);
  if (size !== 0 && (size < 1e-4 || size >= 1e7)) return n.toExponential(2).replace("-", "−").replace(/^-/, "−");
  if (Number.isInteger(n)) return fixed(n);
  return fixed(n, size >= 1000 ? 1 : size >= 10 ? 2 : size >= 0.1 ? 3 : 5);
}

/** A price with the digits of its pair: three where the yen is the quote, else five. */
export function price(n, instrument) {
  return fixed(n, /_(JPY|HUF|THB)$/.test(instrument || "") ? 3 : 5);
}

const possible = (ms) => known(ms) && Math.abs(ms) < 8.64e15;

/** The time of day, UTC. */
export const clock = (ms) => (possible(ms) ? new Date(ms).toISOString().slice(11, 19) : NONE);

/** A UTC time: the clock alone when it is near `now`, else with its date. */
export function when(ms, now) {
  if (!possible(ms)) return NONE;
  const text = new Date(ms).toISOString();
  const near = known(now) && Math.abs(ms - now) < 12 * 3600e3 && text.slice(0, 10) === new Date(now).toISOString().slice(0, 10);
  const part = ms % 60000 ? text.slice(11, 19) : text.slice(11, 16);
  return near ? part : text.slice(0, 10) + " " + part;
}

/** Both times of an instant, for a title: UTC as recorded, and local time. */
export function bothTimes(ms) {
  if (!possible(ms)) return null;
  const utc = new Date(ms).toISOString().replace("T", " ").replace(/\.000Z$|Z$/, " UTC");
  return `${utc}; here ${localTime(new Date(ms))}`;
}

function localTime(date) {
  const two = (n) => String(n).padStart(2, "0"), ahead = -date.getTimezoneOffset(), size = Math.abs(ahead);
  const day = [date.getFullYear(), two(date.getMonth() + 1), two(date.getDate())].join("-");
  const zone = `UTC${ahead < 0 ? "−" : "+"}${two(Math.floor(size / 60))}:${two(size % 60)}`;
  return `${day} ${[date.getHours(), date.getMinutes(), date.getSeconds()].map(two).join(":")} (${zone})`;
}

/** A duration in its two largest units. */
export function duration(ms) {
  if (!known(ms)) return NONE;
  const total = Math.max(0, Math.floor(Math.abs(ms) / 1000));
  if (total < 60) return total + " s";
  const minutes = Math.floor(total / 60), hours = Math.floor(minutes / 60), days = Math.floor(hours / 24);
  if (minutes < 10 && total % 60) return minutes + " min " + (total % 60) + " s";
  if (hours < 1) return minutes + " min";
  if (days < 1) return hours + " h " + (minutes % 60 ? (minutes % 60) + " min" : "").trim();
  return days + " d" + (hours % 24 ? " " + (hours % 24) + " h" : "");
}

const REASONS = {
  warming: "warming up", signal_stale: "signal stale", coherence_below_min: "coherence", stability_below_min: "stability",
  entropy_above_max: "entropy", rupture_above_max: "rupture", hazard_above_max: "hazard", repetitions_short: "repetitions",
  session_closed: "session closed", session_near_close: "session near close", market_closed: "market closed",
  span_integrity: "span integrity", trades_below_floor: "trades", calmar_below_floor: "calmar", pnl_below_floor: "P&L",
  hysteresis_wait: "hysteresis", cooldown: "cooldown", kill_switch: "kill switch", spread_too_wide: "spread",
};
const ABOVE = /_above_max$|^spread_too_wide$|^signal_stale$/;

export const plain = (code) => String(code ?? "").replaceAll("_", " ");
export const reasonName = (code) => REASONS[code] || plain(code);

/** The relation of a refused value to its limit. */
export const relation = (code) => (ABOVE.test(code) ? ">" : "<");

/** A short form of a reason: name, value, limit. */
export function reasonShort(reason) {
  const name = reasonName(reason.reason);
  if (!known(reason.value) || !known(reason.limit)) return name;
  const limit = figure(reason.limit).replace(/(\.\d*?)0+$/, "$1").replace(/\.$/, "");
  return `${name} ${figure(reason.value)} ${relation(reason.reason)} ${limit}`;
}

export const way = (n) => (n > 0 ? "▲ long" : n < 0 ? "▼ short" : n === 0 ? "flat" : NONE);
export const counted = (n, one, many) => `${fixed(n)} ${n === 1 ? one : many || one + "s"}`;
export const instrumentName = (code) => String(code ?? "").replace("_", "/");
