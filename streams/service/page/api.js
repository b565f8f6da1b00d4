/* Requests to the service this page came from. */
import { heldToken } from "./token.js";

const PATIENCE_MS = 10000;

/** An error as a sentence; `status` is 0 when no answer came. */
export class Refused extends Error {
  constructor(words, status) {
    super(words);
    this.status = status;
  }

  /** Whether another token would help. */
  get wantsToken() {
    return this.status === 401;
  }
}

async function ask(path, options = {}, token = heldToken()) {
  const headers = { ...options.headers };
  if (token) headers.Authorization = "Bearer " + token;
  let answer, text;
  try {
    answer = await fetch(path, { cache: "no-store", credentials: "same-origin", signal: AbortSignal.timeout(PATIENCE_MS), ...options, headers });
    text = await answer.text();
  } catch (error) {
    const late = error.name === "TimeoutError";
    throw new Refused(late ? `The service gave no answer within ${PATIENCE_MS / 1000} s.` : "The service cannot be reached.", 0);
  }
  let content = null;
  try {
    content = JSON.parse(text);
  } catch {
    throw new Refused(`The service answered ${answer.status} with something that is not JSON.`, answer.status);
  }
  if (answer.ok) return content;
  const said = [content?.detail, content?.error].find((words) => typeof words === "string" && words);
  throw new Refused(said ? sentence(said) : `The service answered ${answer.status}.`, answer.status);
}

/** Return a text as a sentence. */
export const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");

export const globalStatus = () => ask("/api/global-status");
export const history = (instrument, limit) => ask(`/api/manifold/history?instrument=${encodeURIComponent(instrument)}&limit=${limit}`);
export const why = (instrument) => ask(`/api/why?instrument=${encodeURIComponent(instrument)}`);

/** Engage or disengage the kill switch; the token is sent in a header only. */
export function setKillSwitch(engaged, reason, actor, token) {
  const body = { kill_switch: engaged, reason };
  if (actor) body.actor = actor;
  return post("/api/kill-switch", body, token);
}

/** Give the executor a command about an instrument, or reset its drawdown. */
export function giveCommand(command, instrument, reason, actor, token) {
  const body = instrument ? { instrument, reason } : { limit: "drawdown", reason };
  if (actor) body.actor = actor;
  return post(instrument ? `/api/trade/${command}` : "/api/trade/limits/reset", body, token);
}

const post = (path, body, token) => ask(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) }, token);
