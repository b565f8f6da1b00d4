/* The kill switch: always visible, engaged by a reason, disengaged only with a typed confirmation. */
import { Refused, setKillSwitch } from "./api.js";
import { attr, byId, el, put, show } from "./dom.js";
import { bothTimes, duration } from "./words.js";
import { killSwitch } from "./status.js";
import { serverNow } from "./clock.js";
import { heldToken, holdToken } from "./token.js";

let engaging = true, sending = false, changed = () => {};
let current = { kill: killSwitch(null), live: false, trading: null };
let announced = null;

const field = (name) => byId("kill-" + name);
const mode = () => current.trading?.mode || null;
const phrase = () => (mode() ? "disengage " + mode() : "disengage");

/** Wire the button and the dialog; `afterwards` is called when the switch has been set. */
export function startKillSwitch(afterwards) {
  changed = afterwards;
  byId("kill-open").addEventListener("click", open);
  field("form").addEventListener("submit", submit);
  field("cancel").addEventListener("click", () => field("dialog").close());
  field("forget").addEventListener("click", () => { holdToken(null); dress(); field("token").focus(); });
  field("dialog").addEventListener("close", () => {
    for (const name of ["reason", "typed", "token"]) field(name).value = "";
    byId("kill-open").focus();
  });
}

/** Show the switch's state; `live` is false while the connection is lost. */
export function showKillSwitch(status, live) {
  current = { kill: killSwitch(status), live, trading: status?.trading ?? null };
  const { kill } = current, known = status !== null;
  attr(byId("kill"), "data-state", !known || !live ? "unknown" : kill.engaged ? "on" : "off");
  const word = !known ? "unknown" : (kill.engaged ? "engaged" : "off") + (live ? "" : " when last seen");
  put(byId("kill-word"), word);
  attr(byId("kill"), "title", known ? bothTimes(kill.since_ms) : null);
  const release = known && live && kill.engaged && kill.certain;
  put(byId("kill-open"), release ? "Disengage…" : "Stop trading");
  attr(byId("kill-open"), "class", release ? "stop release" : "stop");
  if (known && live) announce(kill);
}

function announce(kill) {
  const words = kill.engaged ? `Kill switch engaged: ${kill.reason || kill.why.join("; ") || "no reason given"}.` : "Kill switch off: trading is allowed.";
  const first = announced === null;
  if (words === announced) return;
  announced = words;
  if (!first) put(byId("live-kill"), words);
}

function open() {
  engaging = !byId("kill-open").classList.contains("release");
  field("error").textContent = "";
  dress();
  field("dialog").showModal();
  field("reason").focus();
}

function dress() {
  put(field("title"), engaging ? "Engage the kill switch" : "Disengage the kill switch");
  field("say").replaceChildren(...(engaging ? engageWords() : releaseWords()));
  show(byId("kill-typed-row"), !engaging);
  put(byId("kill-phrase"), phrase());
  attr(field("typed"), "required", !engaging);
  attr(field("token"), "placeholder", heldToken() ? "held in memory" : null);
  put(byId("kill-token-say"), heldToken() ? "(held in memory; type another to replace it)" : "(kept in memory until this page is closed)");
  show(field("forget"), heldToken() !== null);
  put(field("submit"), engaging ? "Engage: stop trading" : "Disengage: allow trading");
  attr(field("submit"), "class", engaging ? "danger" : "danger outline");
}

const engageWords = () => [el("p", {}, "Opening and increasing stop at once. Closing and reducing continue. Open positions are not changed.")];

function releaseWords() {
  const { kill, trading } = current, now = serverNow();
  const parts = [kill.reason || kill.why.join("; ") || "no reason given"];
  if (kill.actor) parts.push("by " + kill.actor);
  if (Number.isFinite(kill.since_ms) && now !== null) parts.push(duration(now - kill.since_ms) + " ago");
  const where = mode() ? `Orders will go to ${trading.venue} (${mode()})${trading.account_id ? ", account " + trading.account_id : ""}.` : "No executor answers; one that starts will trade.";
  return [el("p", {}, "Engaged: " + parts.join(", ") + "."), el("p", {}, el("b", {}, where))];
}

function complain(words, name) {
  for (const other of ["reason", "typed", "token"]) attr(field(other), "aria-invalid", other === name ? "true" : null);
  field("error").textContent = words;
  if (name) field(name).focus();
}

function problem(reason, given) {
  if (!reason) return ["Give a reason: it is written to the log.", "reason"];
  if (engaging) return null;
  if (field("typed").value.trim() !== phrase()) return [`Type “${phrase()}” to confirm.`, "typed"];
  if (!given) return ["Disengaging needs the API token.", "token"];
  return null;
}

async function submit(event) {
  event.preventDefault();
  if (sending) return;
  const reason = field("reason").value.trim(), given = field("token").value || heldToken();
  const wrong = problem(reason, given);
  if (wrong) return complain(...wrong);
  complain("", null);
  sending = true;
  attr(field("submit"), "aria-busy", "true");
  put(field("submit"), "Sent, waiting for the service…");
  try {
    const found = await setKillSwitch(engaging, reason, field("actor").value.trim(), given);
    if (given !== heldToken()) holdToken(given);
    changed();
    if (found.kill_switch === engaging) field("dialog").close();
    else complain(`Written to the log, but the switch is still ${engaging ? "off" : "engaged"}: ${(found.why ?? []).join("; ") || "the service gives no reason"}.`, null);
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    if (error.wantsToken) holdToken(null);
    dress();
    complain(error.message + (error.status ? "" : engaging ? " The switch may not be engaged: use `manifold kill on --reason` on the server." : ""), error.wantsToken ? "token" : null);
  } finally {
    sending = false;
    attr(field("submit"), "aria-busy", null);
    put(field("submit"), engaging ? "Engage: stop trading" : "Disengage: allow trading");
  }
}
