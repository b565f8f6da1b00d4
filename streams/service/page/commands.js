/* Commands to the executor: pause, resume, close and release one instrument, reset the drawdown. */
import { Refused, giveCommand, sentence } from "./api.js";
import { attr, byId, el, keyed, put, show } from "./dom.js";
import { serverNow } from "./clock.js";
import { heldToken, holdToken } from "./token.js";
import { instrumentName, when } from "./words.js";

const WORDS = {
  pause: ["Pause", "No position is opened or increased in this instrument until it is resumed. Closing and reducing continue."],
  resume: ["Resume", "Opening and increasing are allowed again, from the run's next entry on."],
  close: ["Close the position in", "Positions opened before are closed now, at the market price. The run's next entry is joined again."],
  release: ["Release the position in", "The executor no longer manages it: it stays open with its stop loss and take profit, and only you close it. No other position is opened in this instrument while it is open."],
  reset: ["Reset the drawdown", "From now on the drawdown is measured from the account's current value."],
};
const field = (name) => byId("command-" + name);
let command = null, instrument = null, sending = false, changed = () => {}, trading = null, opener = null;

/** Wire the buttons and the dialog; `afterwards` is called when a command is in the log. */
export function startCommands(chosen, afterwards) {
  changed = afterwards;
  const wire = (button, kind) => field(button).addEventListener("click", () => open(kind(), chosen(), field(button)));
  wire("pause", () => (trading?.paused?.[chosen()] ? "resume" : "pause"));
  for (const kind of ["close", "release", "reset"]) wire(kind, () => kind);
  field("form").addEventListener("submit", submit);
  field("cancel").addEventListener("click", () => field("dialog").close());
  field("dialog").addEventListener("close", () => {
    for (const name of ["reason", "token"]) field(name).value = "";
    opener?.focus();
  });
}

/** Show what can be commanded about the chosen instrument, and operators' commands and manual changes. */
export function showCommands(status, chosen) {
  trading = status.trading ?? null;
  const seen = Boolean(trading?.account_id), paused = trading?.paused?.[chosen];
  show(byId("commands"), seen && Boolean(chosen));
  show(byId("limits"), seen);
  show(field("release"), trading?.mode !== "paper");
  put(field("pause"), paused ? "Resume…" : "Pause…");
  const held = Boolean(trading?.joined?.[chosen]);
  for (const name of ["close", "release"]) attr(field(name), "disabled", held ? null : "");
  const said = paused ? [`Paused since ${when(paused.at_ms, serverNow())} UTC by ${paused.actor}: ${paused.reason}`] : [];
  const waits = trading?.waiting?.[chosen] ?? [];
  if (waits.length) said.push(sentence(`not carried out yet: ${waits.join("; ")}`));
  said.push(...(trading?.by_hand?.[chosen] ?? []).map(sentence));
  keyed(byId("operator"), chosen ? said : [], String, () => ({ node: el("li") }), (part, one) => put(part.node, one));
}

function open(kind, chosen, button) {
  [command, instrument, opener] = [kind, kind === "reset" ? null : chosen, button];
  const [title, says] = WORDS[kind];
  put(field("title"), instrument ? `${title} ${instrumentName(instrument)}` : title);
  put(field("say"), says);
  complain("", null);
  dress();
  field("dialog").showModal();
  field("reason").focus();
}

function dress() {
  put(field("token-say"), heldToken() ? "(held in memory; type another to replace it)" : "(kept in memory until this page is closed)");
  attr(field("token"), "placeholder", heldToken() ? "held in memory" : null);
  put(field("submit"), sending ? "Sent, waiting for the service…" : WORDS[command][0].split(" ")[0]);
  attr(field("submit"), "aria-busy", sending ? "true" : null);
}

function complain(words, name) {
  for (const other of ["reason", "token"]) attr(field(other), "aria-invalid", other === name ? "true" : null);
  field("error").textContent = words;
  if (name) field(name).focus();
}

async function submit(event) {
  event.preventDefault();
  if (sending) return;
  const reason = field("reason").value.trim(), given = field("token").value || heldToken();
  if (!reason) return complain("Give a reason: it is written to the log.", "reason");
  if (!given) return complain("A command needs the API token.", "token");
  complain("", null);
  sending = true;
  dress();
  try {
    await giveCommand(command, instrument, reason, field("actor").value.trim(), given);
    if (given !== heldToken()) holdToken(given);
    changed();
    field("dialog").close();
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    if (error.wantsToken) holdToken(null);
    complain(error.message, error.wantsToken ? "token" : null);
  } finally {
    sending = false;
    dress();
  }
}
