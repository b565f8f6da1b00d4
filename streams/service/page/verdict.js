/* The verdict: whether everything is fine, and if not, why. */
import { killSwitch } from "./status.js";
import { counted, duration, instrumentName, plain } from "./words.js";

const WORST = ["ok", "notice", "warn", "fail", "unknown"];
const LEVEL = { fail: "fail", warn: "warn", unknown: "warn" };

function executorSays(trading) {
  if (!trading) return ["warn", "The service does not report the executor."];
  if (trading.executor === "absent") return ["warn", "No executor is running: nothing can be traded."];
  if (trading.executor !== "running") return ["fail", `The executor is ${trading.executor}: its figures below are old.`];
  if (trading.reconciled === false) return ["warn", "The executor has not reconciled with the broker: it opens no position."];
  return null;
}

/**
 * Judge a status. Returns `{level, title, why}`; `why` has one `[level, words]` for each
 * problem or notice, the worst first. `now` is the server's time (ms).
 */
export function judge(status, now) {
  if (!status) return { level: "unknown", title: "Nothing is known yet", why: [] };
  const found = [], kill = killSwitch(status), market = status.market;
  if (!kill.certain) found.push(["fail", "The kill switch cannot be read, so it counts as engaged."]);
  // missing data is a warning
  if (!status.signals.length) found.push(["warn", "No failure signal has been evaluated yet."]);
  if (typeof market?.open !== "boolean") found.push(["warn", "The service does not report whether the market is open."]);
  found.push(...signalsSay(status.signals));
  const executor = executorSays(status.trading);
  if (executor && !status.signals.some((one) => LEVEL[one.state] && one.name.startsWith("executor"))) found.push(executor);
  for (const said of status.trading?.differences ?? []) found.push(["fail", "Difference to the broker: " + said]);
  found.sort((a, b) => WORST.indexOf(b[0]) - WORST.indexOf(a[0]));
  const failing = found.filter(([level]) => level === "fail").length;
  const title = headline(status, kill, market, found.length, failing);
  if (kill.engaged && kill.certain) found.unshift(["notice", killWords(kill, now)]);
  if (market?.calendar === "continuous") found.push(["notice", "Synthetic market: trades at weekends."]);
  if (market && market.open === false) found.push(["notice", closedWords(market, now)]);
  if (!status.instruments.length) found.push(["notice", "The log holds no instrument yet: run a feed or `manifold warmup`."]);
  const level = found.reduce((worst, [one]) => (WORST.indexOf(one) > WORST.indexOf(worst) ? one : worst), "ok");
  return { level, title, why: found };
}

/* Signals with the same detail (they depend on one unavailable part) become one line. */
function signalsSay(signals) {
  const alike = new Map();
  for (const { name, state, detail } of signals) {
    if (!LEVEL[state]) continue;
    const key = state + " " + detail;
    if (!alike.has(key)) alike.set(key, { level: LEVEL[state], names: [], detail });
    alike.get(key).names.push(plain(name));
  }
  return [...alike.values()].map(({ level, names, detail }) => [level, names.join(", ") + (detail ? ": " + detail : "")]);
}

function headline(status, kill, market, problems, failing) {
  const stopped = kill.engaged ? "Trading is stopped" : null, mild = problems - failing;
  const counts = [failing && counted(failing, "problem"), mild && counted(mild, "warning")].filter(Boolean).join(" and ");
  if (counts) return stopped ? `${stopped}; ${counts}` : counts;
  if (!status.instruments.length) return stopped ? stopped + "; nothing to trade yet" : "Nothing to trade yet";
  if (stopped) return stopped + "; everything else is fine";
  return market?.open === false ? "Everything is fine; the market is closed" : "Everything is fine";
}

function killWords(kill, now) {
  const parts = [kill.reason || kill.why.join("; ") || "no reason is given"];
  if (kill.actor) parts.push("by " + kill.actor);
  if (Number.isFinite(kill.since_ms) && now !== null) parts.push(duration(now - kill.since_ms) + " ago");
  return "Kill switch engaged: " + parts.join(", ") + ".";
}

function closedWords(market, now) {
  const why = market.closed_for ? ` (${market.closed_for})` : "";
  if (!Number.isFinite(market.next_change_ms) || now === null) return `The market is closed${why}.`;
  return `The market is closed${why} and opens in ${duration(market.next_change_ms - now)}.`;
}

/** Freshness of a candle with bars of `barMs`, by event time in an open market (`open`). */
export function freshness(candle, open, now, barMs) {
  if (!candle || !Number.isFinite(candle.as_of_ms)) return "none";
  if (open === false) return "closed";
  if (now === null || barMs === null) return "unknown";
  const age = now - candle.as_of_ms;
  return age <= barMs + 60000 ? "fresh" : age <= barMs + 240000 ? "late" : "stale";
}

/** Join the first names, followed by the number of further ones. */
export function named(names, most = 4) {
  const shown = names.slice(0, most).map(instrumentName).join(", ");
  return names.length > most ? `${shown} and ${names.length - most} more` : shown;
}
