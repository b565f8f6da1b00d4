/* The server's clock, estimated from the last frames, and the texts that show an age. */
import { put, attr } from "./dom.js";
import { bothTimes, clock, duration, NONE, when } from "./words.js";

const KEEP_MS = 60000;
let best = null, before = null, since = 0;

/**
 * Take a time the server just sent. A frame can only arrive late, so the largest difference to our
 * own monotonic clock is the most accurate: of this minute and the last, because clocks drift.
 */
export function heard(serverMs, travelMs = 0) {
  if (!Number.isFinite(serverMs)) return;
  const own = performance.now(), found = serverMs + travelMs - own;
  if (own - since > KEEP_MS) [before, best, since] = [best, null, own];
  best = best === null ? found : Math.max(best, found);
}

/** Now by the server's clock (epoch ms); null before the first time from the server. */
export function serverNow() {
  if (best === null && before === null) return null;
  return performance.now() + Math.max(best ?? before, before ?? best);
}

const ageing = new Map();

/** Show in a node the time since `ms`, or until then, and keep it up to date. */
export function ages(node, ms, form = (text) => text) {
  if (!Number.isFinite(ms)) {
    ageing.delete(node);
    put(node, NONE);
    attr(node, "title", null);
    return;
  }
  ageing.set(node, { ms, form });
  attr(node, "title", bothTimes(ms));
  say(node, ms, form, serverNow());
}

/** Show a time in a node: UTC in the text, local time in the title. */
export function shows(node, ms, now) {
  put(node, when(ms, now));
  attr(node, "title", bothTimes(ms));
}

function say(node, ms, form, now) {
  if (now !== null) put(node, form(duration(now - ms), now - ms));
}

/** Update every age; call once a second. */
export function tick() {
  const now = serverNow();
  if (now === null) return;
  put(document.getElementById("clock"), clock(now));
  for (const [node, { ms, form }] of ageing) {
    if (node.isConnected) say(node, ms, form, now);
    else ageing.delete(node);
  }
}
