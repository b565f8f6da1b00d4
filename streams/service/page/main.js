/* Builds the page: loads the state, follows the events, draws changes. */
import * as api from "./api.js";
import { heard, serverNow, tick } from "./clock.js";
import { attr, byId, put, show } from "./dom.js";
import { showCommands, startCommands } from "./commands.js";
import { chosenInstrument, detailEvent, reloadDetail, showDetail, startDetail, whySoon } from "./detail.js";
import { showInstruments, startInstruments } from "./instruments.js";
import { showKillSwitch, startKillSwitch } from "./kill.js";
import { Link } from "./link.js";
import { showSignals, showSystem, showTiles, showVerdict } from "./overview.js";
import { complete, take } from "./status.js";
import { startTheme } from "./theme.js";
import { holdToken, onToken } from "./token.js";
import { showAccount, showOrders, showWeights } from "./trading.js";
import { duration, when } from "./words.js";

const RELOAD_EVERY_MS = 15000, SOON_MS = 250, RETRY_MS = 3000;
let status = null, live = false, lost = null, lostSince = null, refused = null;
let drawing = false, loading = false, again = false, soon = null, loadedAt = -Infinity;
let during = [], locked = false;

/* Drawn at the next frame, or soon when the tab is hidden and has no frames. */
function draw() {
  if (drawing) return;
  drawing = true;
  const run = () => { drawing = false; drawNow(); };
  if (document.hidden) setTimeout(run, 100);
  else requestAnimationFrame(run);
}

function drawNow() {
  const fresh = live && status !== null && lostSince === null && refused === null;
  showLink(fresh);
  showKillSwitch(status, fresh);
  showVerdict(status, fresh, lostSince);
  if (!status) return;
  showTiles(status, fresh);
  showSignals(status, fresh);
  showInstruments(status, fresh, chosenInstrument());
  showDetail(status);
  showCommands(status, chosenInstrument());
  showWeights(status);
  showAccount(status);
  showOrders(status);
  showSystem(status);
}

function showLink(fresh) {
  const name = fresh ? "live" : lostSince === null && !lost && !refused ? "opening" : "lost";
  attr(document.documentElement, "data-link", name);
  put(byId("link-words"), { live: "Live", opening: "Connecting", lost: "Not live" }[name]);
  show(byId("lost"), name === "lost" && !locked);
  show(byId("locked"), locked);
  if (name === "lost") lostWords();
}

function lostWords() {
  const now = serverNow(), wait = lost ? Math.max(0, lost.retryAt - performance.now()) : null;
  const since = lostSince !== null && now !== null ? `The figures are those of ${when(lostSince, now)} UTC, ${duration(now - lostSince)} ago. ` : "";
  put(byId("lost-title"), lostSince === null ? "No data." : "Not live.");
  put(byId("lost-words"), since + (lost ? `${api.sentence(lost.why)} Next attempt in ${duration(wait)}.` : api.sentence(refused ?? "")));
}

/* Load the full state. Events that arrive meanwhile may be newer than the answer: they are applied again. */
async function load() {
  if (loading) {
    again = true;
    return;
  }
  loading = true;
  during = [];
  const asked = performance.now();
  try {
    const found = complete(await api.globalStatus());
    heard(found.ts_ms, (performance.now() - asked) / 2);
    if (!found.granularity && status) found.granularity = status.granularity;
    status = found;
    tick();
    for (const frame of during) take(status, frame);
    loadedAt = performance.now();
    refused = null;
    locked = false;
    lostSince = live || !lost ? null : serverNow();
    whySoon();
  } catch (error) {
    if (!(error instanceof api.Refused)) throw error;
    lostSince ??= status ? serverNow() : null;
    refused = error.message;
    if (error.wantsToken) locked = true;
    else reloadSoon(RETRY_MS);
  } finally {
    loading = false;
    draw();
    if (again) {
      again = false;
      load();
    }
  }
}

function reloadSoon(ms = SOON_MS) {
  soon ??= setTimeout(() => { soon = null; load(); }, ms);
}

function event(frame) {
  if (loading) during.push(frame);
  if (!status || !take(status, frame)) reloadSoon();
  detailEvent(frame);
  draw();
}

function linkState(name, detail) {
  live = name === "live";
  lost = live ? null : detail;
  locked = name === "locked";
  if (live && (lostSince !== null || refused !== null)) load();
  else if (!live && status) lostSince ??= serverNow();
  draw();
}

function start() {
  startTheme(byId("theme"));
  startKillSwitch(load);
  startCommands(chosenInstrument, load);
  startInstruments(draw);
  startDetail(draw);
  const address = new URL("/ws", location.href);
  address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  const link = new Link(address.href, { event, state: linkState, reset: () => { load(); reloadDetail(); } });
  byId("locked").addEventListener("submit", (submitted) => {
    submitted.preventDefault();
    holdToken(byId("locked-token").value);
    byId("locked-token").value = "";
  });
  onToken((token) => { if (token) load(); });
  byId("lost-retry").addEventListener("click", () => { link.hurry(); load(); });
  setInterval(() => {
    tick();
    if (performance.now() - loadedAt > RELOAD_EVERY_MS && soon === null && !locked) reloadSoon();
    draw();
  }, 1000);
  load();
  link.open();
}

start();
