/* Manifold charts of one instrument: small panels over the same bars, with one cursor for all. */
import { attr, el, keyed, put, row, show, table } from "./dom.js";
import { bothTimes, clock, duration, fixed, figure, NONE, when } from "./words.js";

const PANELS = [
  { key: "price", title: "Price", wide: true },
  { key: "coherence", title: "Coherence", limit: "coherence_below_min" },
  { key: "stability", title: "Stability", limit: "stability_below_min" },
  { key: "entropy", title: "Entropy", limit: "entropy_above_max" },
  { key: "rupture", title: "Rupture", second: "lambda_hazard", also: "hazard", limit: "rupture_above_max" },
  { key: "sigma_eff", title: "sigma_eff per bar" },
  { key: "lambda", title: "lambda" },
];
const COLUMNS = [["Bar end, UTC"], ...["Price", "Coherence", "Stability", "Entropy", "Rupture", "Hazard", "sigma_eff", "lambda", "Count 1 h"].map((name) => [name, "n"])];
const FIELDS = ["coherence", "stability", "entropy", "rupture", "lambda_hazard", "sigma_eff", "lambda", "count_1h"];
const TABLE_ROWS = 120, LEFT = 58, RIGHT = 8, TOP = 8, FOOT = 18;
const known = (n) => typeof n === "number" && Number.isFinite(n);

/** Bars more than three median distances after the one before: the line is interrupted there. */
export function gaps(items) {
  const steps = items.slice(1).map((item, at) => item.as_of_ms - items[at].as_of_ms);
  const usual = [...steps].sort((a, b) => a - b)[steps.length >> 1] || 0;
  return new Set(steps.flatMap((step, at) => (step > 3 * usual ? [at + 1] : [])));
}

/** Round steps between low and high, at most `wanted` of them. */
export function steps(low, high, wanted) {
  const span = high - low || Math.abs(high) || 1, power = 10 ** Math.floor(Math.log10(span / wanted));
  const step = [1, 2, 2.5, 5, 10].map((n) => n * power).find((n) => span / n <= wanted) || span, made = [];
  for (let n = Math.ceil(low / step - 1e-9); n * step <= high + step * 1e-9; n++) made.push(n * step);
  return made;
}

function path(items, key, x, y, breaks) {
  let text = "", pen = false;
  items.forEach((item, at) => {
    if (breaks.has(at) || !known(item[key])) pen = false;
    if (!known(item[key])) return;
    text += (pen ? "L" : "M") + x(at).toFixed(1) + " " + y(item[key]).toFixed(1);
    if (!pen && (at + 1 === items.length || breaks.has(at + 1) || !known(items[at + 1][key]))) text += "h.5";
    pen = true;
  });
  return text;
}

class Panel {
  constructor(spec) {
    this.spec = spec;
    this.value = el("b", { class: "value" });
    this.grid = el("g", {});
    this.line = el("path", { class: "line" });
    this.second = spec.second ? el("path", { class: "line second" }) : null;
    this.cursor = el("line", { class: "cursor", y1: TOP });
    this.dot = el("circle", { class: "dot", r: 3 });
    this.svg = el("svg", { "aria-hidden": "true" }, this.grid, this.line, this.second, this.cursor, this.dot);
    this.title = el("span", {}, spec.title);
    this.node = el("div", { class: spec.wide ? "panel wide" : "panel" }, el("p", { class: "panel-title" }, this.title, this.value), this.svg);
    this.drawn = "";
  }

  draw(items, breaks, limit, format) {
    const width = this.svg.clientWidth, height = this.svg.clientHeight;
    if (!width || !height) return;
    const keys = this.spec.second ? [this.spec.key, this.spec.second] : [this.spec.key];
    const values = items.flatMap((item) => keys.map((key) => item[key]).filter(known));
    if (known(limit)) values.push(limit);
    let low = Math.min(...values), high = Math.max(...values);
    if (!values.length) [low, high] = [0, 1];
    const room = (high - low || Math.abs(high) || 1) * 0.06;
    [low, high] = [low - room, high + room];
    const bottom = height - FOOT;
    this.x = (at) => (items.length < 2 ? (LEFT + width - RIGHT) / 2 : LEFT + (at / (items.length - 1)) * (width - LEFT - RIGHT));
    this.y = (n) => bottom - ((n - low) / (high - low)) * (bottom - TOP);
    attr(this.svg, "viewBox", `0 0 ${width} ${height}`);
    attr(this.line, "d", path(items, this.spec.key, this.x, this.y, breaks));
    if (this.second) this.drawSecond(items, breaks);
    attr(this.cursor, "y2", bottom);
    this.rule(items, breaks, width, bottom, low, high, limit, format);
  }

  /* Hazard is the rupture by definition; a second line is drawn where a record says otherwise. */
  drawSecond(items, breaks) {
    const { key, title, second, also } = this.spec, same = items.every((item) => item[key] === item[second]);
    put(this.title, same ? `${title} = ${also}` : `${title}, ${also} (dashed)`);
    attr(this.second, "d", same ? "" : path(items, second, this.x, this.y, breaks));
  }

  rule(items, breaks, width, bottom, low, high, limit, format) {
    const marks = steps(low, high, this.spec.wide ? 4 : 3).map((n) => [this.y(n), format(n)]);
    const count = Math.max(1, Math.floor((width - LEFT) / 110)), times = [];
    for (let n = 0; n < count && items.length; n++) {
      const at = Math.round(((n + 0.5) / count) * (items.length - 1));
      times.push([this.x(at), clock(items[at].as_of_ms).slice(0, 5)]);
    }
    const cuts = [...breaks].map((at) => (this.x(at) + this.x(at - 1)) / 2), wanted = JSON.stringify([width, bottom, marks, times, cuts, limit]);
    if (wanted === this.drawn) return;
    this.drawn = wanted;
    const parts = marks.flatMap(([y, text]) => [el("line", { class: "rule", x1: LEFT, x2: width - RIGHT, y1: y, y2: y }), el("text", { x: LEFT - 6, y: y + 4, "text-anchor": "end" }, text)]);
    for (const x of cuts) parts.push(el("line", { class: "gap", x1: x, x2: x, y1: TOP, y2: bottom }));
    for (const [x, text] of times) parts.push(el("text", { x, y: bottom + 14, "text-anchor": "middle" }, text));
    if (known(limit)) parts.push(el("line", { class: "limit", x1: LEFT, x2: width - RIGHT, y1: this.y(limit), y2: this.y(limit) }), el("text", { class: "limit-word", x: width - RIGHT, y: this.y(limit) - 4, "text-anchor": "end" }, "limit " + figure(limit)));
    this.grid.replaceChildren(...parts);
  }

  point(items, at, marked, format) {
    const value = items[at]?.[this.spec.key], second = this.spec.second ? items[at]?.[this.spec.second] : undefined;
    put(this.value, known(value) ? format(value) + (known(second) && second !== value ? " / " + format(second) : "") : NONE);
    const seen = Boolean(this.x) && at !== null && known(value);
    attr(this.cursor, "class", seen && marked ? "cursor" : "cursor off");
    attr(this.dot, "class", seen ? "dot" : "dot off");
    if (!seen) return;
    for (const end of ["x1", "x2"]) attr(this.cursor, end, this.x(at).toFixed(1));
    attr(this.dot, "cx", this.x(at).toFixed(1));
    attr(this.dot, "cy", this.y(value).toFixed(1));
  }
}

/** All panels of one instrument. */
export class Charts {
  constructor(holder) {
    this.items = [];
    this.added = [];
    this.limits = {};
    this.at = null;
    this.panels = PANELS.map((spec) => new Panel(spec));
    this.read = el("p", { class: "read" });
    this.slider = el("div", { class: "panels", role: "slider", tabindex: 0, "aria-label": "Bars of the manifold charts; arrow keys move along time", "aria-valuemin": 0, "aria-valuemax": 0, "aria-valuenow": 0, "aria-valuetext": "no bar yet" }, ...this.panels.map((panel) => panel.node));
    this.none = el("p", { class: "none" }, "Loading");
    this.table = table("Manifold figures, newest first", COLUMNS, "history");
    this.details = el("details", {}, el("summary", {}, "The figures as a table"), this.table.node);
    holder.append(this.none, this.read, this.slider, this.details);
    this.details.addEventListener("toggle", () => this.list());
    this.slider.addEventListener("keydown", (event) => this.key(event));
    this.slider.addEventListener("pointermove", (event) => this.pointed(event));
    this.slider.addEventListener("pointerdown", (event) => this.pointed(event));
    this.slider.addEventListener("pointerleave", () => { if (document.activeElement !== this.slider) this.select(null); });
    this.slider.addEventListener("blur", () => this.select(null));
    new ResizeObserver(() => this.draw()).observe(this.slider);
    this.empty("Loading");
  }

  format(key) {
    return key === "price" ? (n) => fixed(n, /_(JPY|HUF|THB)$/.test(this.instrument) ? 3 : 5) : figure;
  }

  clear() {
    this.items = [];
    this.added = [];
    this.at = null;
    this.empty("Loading");
  }

  /** Show a text instead of the charts. */
  empty(words) {
    put(this.none, words);
    show(this.none, true);
    for (const part of [this.read, this.slider, this.details]) show(part, false);
  }

  /** Show these bars (ascending); keeps the cursor on the bar it was on. */
  set(instrument, items, most) {
    const marked = this.at === null ? null : this.items[this.at]?.as_of_ms;
    this.instrument = instrument;
    this.most = most;
    this.items = items;
    this.added = [];
    if (!items.length) return this.empty("No manifold in the last 24 hours: the first one needs 129 candles.");
    const found = marked === null ? -1 : items.findIndex((item) => item.as_of_ms === marked);
    this.at = found < 0 ? null : found;
    show(this.none, false);
    for (const part of [this.read, this.slider, this.details]) show(part, true);
    this.draw();
    this.list();
  }

  /** Add a bar at the end; `flush` draws all added bars at once. */
  add(item) {
    const last = this.added.at(-1) ?? this.items.at(-1);
    if (last && item.as_of_ms > last.as_of_ms) this.added.push(item);
  }

  /** Draw what was added. */
  flush() {
    if (!this.added.length) return;
    const items = [...this.items, ...this.added].slice(-this.most);
    this.set(this.instrument, items, this.most);
  }

  limit(limits) {
    if (JSON.stringify(limits) === JSON.stringify(this.limits)) return;
    this.limits = limits;
    this.draw();
  }

  draw() {
    if (!this.items.length) return;
    const breaks = gaps(this.items);
    for (const panel of this.panels) panel.draw(this.items, breaks, this.limits[panel.spec.limit], this.format(panel.spec.key));
    this.tell();
  }

  select(at) {
    this.at = at;
    this.tell();
  }

  tell() {
    const at = this.at ?? this.items.length - 1, item = this.items[at];
    if (!item) return;
    for (const panel of this.panels) panel.point(this.items, at, this.at !== null, this.format(panel.spec.key));
    const back = this.items.at(-1).as_of_ms - item.as_of_ms;
    put(this.read, `${when(item.as_of_ms)} UTC${back ? ", " + duration(back) + " before the newest" : ", the newest bar"}`);
    attr(this.read, "title", bothTimes(item.as_of_ms));
    attr(this.slider, "aria-valuemax", this.items.length - 1);
    attr(this.slider, "aria-valuenow", at);
    const figures = PANELS.map(({ key, title }) => `${title.split(",")[0]} ${known(item[key]) ? this.format(key)(item[key]) : "none"}`);
    attr(this.slider, "aria-valuetext", `${when(item.as_of_ms)} UTC: ${figures.join(", ")}`);
  }

  key(event) {
    const count = this.items.length, at = this.at ?? count - 1, wide = Math.max(1, Math.round(count / 12));
    const to = { ArrowLeft: at - 1, ArrowDown: at - 1, ArrowRight: at + 1, ArrowUp: at + 1, PageDown: at - wide, PageUp: at + wide, Home: 0, End: count - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    this.select(Math.max(0, Math.min(count - 1, to)));
  }

  pointed(event) {
    const panel = this.panels.find((one) => one.node.contains(event.target));
    if (!panel) return;
    const box = panel.svg.getBoundingClientRect(), part = (event.clientX - box.left - LEFT) / (box.width - LEFT - RIGHT);
    this.select(Math.max(0, Math.min(this.items.length - 1, Math.round(part * (this.items.length - 1)))));
  }

  list() {
    if (!this.details.open) return;
    const rows = this.items.slice(-TABLE_ROWS).reverse();
    keyed(this.table.body, rows, (item) => item.as_of_ms, () => row(COLUMNS), ({ cells }, item) => {
      put(cells[0], when(item.as_of_ms));
      put(cells[1], this.format("price")(item.price));
      FIELDS.forEach((field, at) => put(cells[at + 2], figure(item[field])));
    });
  }
}
