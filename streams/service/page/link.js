/* The WebSocket: subscribes, resumes after the last event, and reports when it is not live. */
import { heard } from "./clock.js";
import { heldToken, onToken } from "./token.js";

const FIRST_WAIT_MS = 500, LONGEST_WAIT_MS = 15000, SILENCE_MS = 8000, PING_MS = 3000, HEARTBEATS = 2.5;
const CHANNELS = ["market", "manifold", "gates", "weights", "orders", "system"];

/**
 * Keep a connection. `on` has: `event(frame)`; `reset()` when missed events cannot be sent again,
 * and at the first connection; `state(name, detail)` with `live`, with `locked` when the service
 * requires a token first, or with `lost`, the reason, and the time of the next attempt.
 */
export class Link {
  constructor(address, on) {
    this.address = address;
    this.on = on;
    this.last = null;
    this.failures = 0;
    this.socket = null;
    this.timer = null;
    this.asked = null;
    this.heardAt = 0;
    this.heartbeatMs = 15000;
    document.addEventListener("visibilitychange", () => this.seen());
    window.addEventListener("online", () => this.hurry());
    window.addEventListener("offline", () => this.drop("this computer is offline"));
    setInterval(() => this.ping(), PING_MS);
    setInterval(() => this.listen(), 1000);
    onToken(() => { if (heldToken()) this.hurry(); });
  }

  open() {
    clearTimeout(this.timer);
    this.timer = null;
    const socket = this.socket = new WebSocket(this.address);
    this.heardAt = performance.now();
    const mine = (act) => (event) => { if (this.socket === socket) act(event); };
    socket.addEventListener("message", mine((event) => this.take(event.data)));
    socket.addEventListener("close", mine((event) => this.drop(event.reason || "the connection was closed")));
  }

  say(message) {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  /* Without pings a dead connection would be detected only at the second missing heartbeat. */
  ping() {
    this.asked = performance.now();
    this.say({ type: "ping" });
  }

  subscribe() {
    const wish = { type: "subscribe", channels: CHANNELS };
    if (this.last !== null) wish.last_event_id = this.last;
    this.say(wish);
  }

  take(text) {
    this.heardAt = performance.now();
    let frame;
    try {
      frame = JSON.parse(text);
    } catch {
      this.drop("the service sent something that is not JSON");
      return;
    }
    const taker = this["on_" + frame.type];
    if (taker) taker.call(this, frame);
    else if (frame.channel) {
      if (frame.id) this.last = frame.id;
      this.on.event(frame);
    }
  }

  on_connection(frame) {
    if (frame.heartbeat_sec > 0) this.heartbeatMs = frame.heartbeat_sec * 1000;
    if (!frame.token_required) this.subscribe();
    else if (heldToken()) this.say({ type: "token", token: heldToken() });
    else this.drop("the service requires its API token", "locked");
  }

  on_authenticated() { this.subscribe(); }

  on_subscription() {
    this.failures = 0;
    this.on.state("live");
    if (this.last === null) this.on.reset();
  }

  on_heartbeat(frame) { heard(frame.ts_ms); }

  on_pong(frame) { heard(frame.ts_ms, this.asked === null ? 0 : (performance.now() - this.asked) / 2); }

  on_reset() { this.on.reset(); }

  on_lagging() { this.on.reset(); }

  on_gap() { this.on.reset(); }

  on_error(frame) { this.drop("the service refused: " + (frame.detail || frame.error)); }

  /* A connection can end without a close frame. A hidden tab rarely sends pings: heartbeats count. */
  listen() {
    const patience = document.hidden ? Math.max(SILENCE_MS, this.heartbeatMs * HEARTBEATS) : SILENCE_MS;
    if (this.socket && performance.now() - this.heardAt > patience) this.drop("no message came from the service");
  }

  seen() {
    if (document.hidden) return;
    this.hurry();
    this.heardAt = Math.max(this.heardAt, performance.now() - SILENCE_MS / 2);
    this.ping();
  }

  drop(why, name = "lost") {
    if (this.timer) return;
    const socket = this.socket;
    this.socket = null;
    if (socket) socket.close();
    const wait = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** this.failures) * (0.75 + Math.random() / 2);
    this.failures += 1;
    this.timer = setTimeout(() => this.open(), wait);
    this.on.state(name, { why, retryAt: performance.now() + wait });
  }

  /** Try at once instead of waiting. */
  hurry() {
    if (this.timer) this.open();
  }
}
