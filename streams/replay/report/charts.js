"use strict";
/* The drawing parts: elements, numbers, a line chart and strips over time. */
const NONE = "\u2013";
function el(tag, attributes, ...children) {
  const svg = ["svg", "path", "line", "text", "g"].includes(tag);
  const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== false && value !== null) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}
const counted = (n) => n.toLocaleString("en-US");
function fixed(n, digits, sign) {
  if (n === null || n === undefined) return NONE;
  const text = Math.abs(n).toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  const zero = Number(text.replace(/,/g, "")) === 0;
  return (zero ? "" : n < 0 ? "\u2212" : sign ? "+" : "") + text;
}
function percent(part, digits = 1) {
  if (part === null || part === undefined || Number.isNaN(part)) return NONE;
  const least = 10 ** -digits;
  if (part > 0 && part * 100 < least) return "<\u2009" + least.toFixed(digits) + "%";
  return (part * 100).toFixed(digits) + "%";
}
function clock(ms) {
  if (ms === null || Math.abs(ms) > 8.64e15) return NONE;
  const text = new Date(ms).toISOString().replace("T", " ");
  return ms % 60000 ? text.slice(0, 19) : text.slice(0, 16);
}
function stretch(time, at) {
  const from = time.start_ms + at * time.bucket_ms, to = from + time.bucket_ms;
  if (time.bucket_ms === 86400000) return clock(from).slice(0, 10);
  return clock(from) + " to " + (clock(to).slice(0, 10) === clock(from).slice(0, 10) ? clock(to).slice(11) : clock(to));
}
/* Ticks at months, days or hours: the widest step that leaves room for their labels. */
function timeTicks(time, width) {
  const end = time.start_ms + time.count * time.bucket_ms, span = end - time.start_ms;
  const wanted = Math.max(2, Math.floor(width / (span > 60 * 86400000 ? 78 : 100))), hour = 3600000, day = 24 * hour, made = [];
  const put = (ms, label) => { if (ms >= time.start_ms && ms <= end) made.push([(ms - time.start_ms) / span, label]); };
  if (span > 60 * day) {
    const step = [1, 2, 3, 6, 12, 24, 60, 120].find((n) => span / (n * 30.4 * day) <= wanted + .5) || 240;
    const first = new Date(time.start_ms);
    let month = first.getUTCFullYear() * 12 + first.getUTCMonth();
    month -= month % step;
    for (; ; month += step) {
      const ms = Date.UTC(Math.floor(month / 12), month % 12, 1);
      if (ms > end) break;
      put(ms, clock(ms).slice(0, step >= 12 ? 4 : 7));
    }
    return made;
  }
  const steps = [1 / 12, 1 / 6, .25, .5, 1, 2, 3, 6, 12, 24, 48, 96, 168, 336].map((n) => n * hour);
  const step = steps.find((n) => span / n <= wanted + .5) || 672 * hour;
  for (let ms = Math.ceil(time.start_ms / step) * step; ms <= end; ms += step)
    put(ms, step >= day ? clock(ms).slice(0, 10) : clock(ms).slice(span > day ? 5 : 11));
  return made;
}
function niceTicks(low, high, wanted) {
  const span = high - low || 1, raw = span / wanted, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((n) => n * power).find((n) => span / n <= wanted) || raw, made = [];
  for (let n = Math.ceil(low / step); n * step <= high + step * 1e-9; n++) made.push(n * step);
  return made;
}
/* Path through one value per bucket. */
function linePath(values, x, y) {
  return values.map((value, at) => (at ? "L" : "M") + x(at).toFixed(1) + " " + y(value).toFixed(1)).join("");
}
function sparkline(values) {
  const low = Math.min(0, ...values), high = Math.max(0, ...values), span = high - low || 1;
  const path = linePath(values, (at) => (at / Math.max(1, values.length - 1)) * 120, (v) => 32 - ((v - low) / span) * 30);
  return el("svg", { viewBox: "0 0 120 34", preserveAspectRatio: "none", "aria-hidden": "true" },
    el("line", { x1: 0, x2: 120, y1: 32 - (-low / span) * 30, y2: 32 - (-low / span) * 30, class: "zero", "stroke-width": .5 }),
    el("path", { d: path, class: "eq", "vector-effect": "non-scaling-stroke" }));
}
/* Keys that move along time; the bucket they lead to, or null for any other key. */
function moved(key, at, count) {
  const wide = Math.max(1, Math.round(count / 12));
  const to = { ArrowLeft: at - 1, ArrowRight: at + 1, PageUp: at - wide, PageDown: at + wide, Home: 0, End: count - 1 }[key];
  return to === undefined ? null : Math.max(0, Math.min(count - 1, to));
}
function placed(event, node, count) {
  const box = node.getBoundingClientRect();
  return Math.max(0, Math.min(count - 1, Math.floor(((event.clientX - box.left) / box.width) * count)));
}
/* Equity above, drawdown below it; a cursor that follows the pointer and the arrow keys. */
function equityChart(time, name, curve) {
  const read = el("p", { class: "read" }), holder = el("div", { class: "chart", tabindex: 0, role: "slider",
    "aria-label": "Equity and drawdown over time, " + name, "aria-valuemin": 0, "aria-valuemax": time.count - 1 });
  const left = 58, right = 8, top = 8, main = 210, gap = 18, under = 84, height = top + main + gap + under + 22;
  let at = time.count - 1, cursor = null, x = () => 0;
  const equity = [0, ...curve.equity_bps], drawdown = [0, ...curve.drawdown_bps];
  function show(to) {
    at = to;
    const said = stretch(time, at) + ": equity " + fixed(equity[at + 1], 1, true) + " bps, deepest drawdown " + fixed(drawdown[at + 1], 1) + " bps";
    holder.setAttribute("aria-valuenow", at);
    holder.setAttribute("aria-valuetext", said);
    read.textContent = said;
    if (cursor) for (const end of ["x1", "x2"]) cursor.setAttribute(end, x(at + 1));
  }
  function draw() {
    const width = holder.clientWidth;
    if (!width) return;
    const low = Math.min(...equity), high = Math.max(...equity), deep = Math.max(...drawdown) || 1, span = high - low || 1;
    x = (n) => left + (n / time.count) * (width - left - right);
    const y = (v) => top + main - ((v - low) / span) * main, d = (v) => top + main + gap + (v / deep) * under;
    const parts = [];
    for (const v of niceTicks(low, high, 5))
      parts.push(el("line", { x1: left, x2: width - right, y1: y(v), y2: y(v), class: Math.abs(v) < 1e-9 ? "zero" : "grid" }),
        el("text", { x: left - 6, y: y(v) + 4, "text-anchor": "end" }, fixed(v, span < 5 ? 1 : 0)));
    for (const v of niceTicks(0, deep, 3))
      parts.push(el("line", { x1: left, x2: width - right, y1: d(v), y2: d(v), class: v ? "grid" : "zero" }),
        el("text", { x: left - 6, y: d(v) + 4, "text-anchor": "end" }, fixed(-v, deep < 5 ? 1 : 0)));
    for (const [part, label] of timeTicks(time, width - left - right)) {
      const px = left + part * (width - left - right);
      parts.push(el("line", { x1: px, x2: px, y1: top, y2: height - 20, class: "grid" }),
        el("text", { x: px, y: height - 6, "text-anchor": part < .04 ? "start" : part > .96 ? "end" : "middle" }, label));
    }
    const line = linePath(equity, x, y), fall = linePath(drawdown, x, d);
    parts.push(el("path", { d: line + "L" + x(time.count) + " " + y(low) + "L" + left + " " + y(low) + "Z", class: "eqfill" }),
      el("path", { d: line, class: "eq" }),
      el("path", { d: fall + "L" + x(time.count) + " " + d(0) + "L" + left + " " + d(0) + "Z", class: "dd" }),
      el("path", { d: fall, class: "ddline" }));
    cursor = el("line", { x1: 0, x2: 0, y1: top, y2: height - 20, class: "cursor", "stroke-dasharray": "3 3" });
    holder.replaceChildren(el("svg", { viewBox: `0 0 ${width} ${height}`, height, "aria-hidden": "true" }, ...parts, cursor));
    show(at);
  }
  holder.addEventListener("keydown", (event) => {
    const to = moved(event.key, at, time.count);
    if (to !== null) { event.preventDefault(); show(to); }
  });
  holder.addEventListener("pointermove", (event) => {
    const box = holder.getBoundingClientRect(), part = (event.clientX - box.left - left) / (box.width - left - right);
    show(Math.max(0, Math.min(time.count - 1, Math.floor(part * time.count))));
  });
  new ResizeObserver(draw).observe(holder);
  return [holder, read];
}
/* Colours of the page as it is now. */
function colours(names) {
  const style = getComputedStyle(document.documentElement);
  return names.map((name) => style.getPropertyValue("--" + name).trim());
}
function hatch(context, x, width, height) {
  context.save();
  context.beginPath(); context.rect(x, 0, width, height); context.clip();
  context.strokeStyle = colours(["hatch"])[0]; context.lineWidth = 1;
  context.beginPath();
  for (let from = Math.floor((x - height) / 5) * 5; from < x + width; from += 5) { context.moveTo(from, height); context.lineTo(from + height, 0); }
  context.stroke(); context.restore();
}
const redraws = new Set();
function canvas(paint) {
  const node = el("canvas", { "aria-hidden": "true" });
  const draw = () => {
    const ratio = window.devicePixelRatio || 1, width = node.clientWidth, height = node.clientHeight;
    if (!width) return;
    node.width = Math.round(width * ratio); node.height = Math.round(height * ratio);
    const context = node.getContext("2d");
    context.scale(ratio, ratio);
    paint(context, width, height);
  };
  node.redraw = draw;
  redraws.add(node);
  new ResizeObserver(draw).observe(node);
  return node;
}
const stepOf = (value, limits) => { let step = 0; while (step < limits.length && value > limits[step]) step++; return step; };
function painter(values, limits, prefix, mark) {
  return (context, width, height) => {
    const names = colours([0, 1, 2, 3, 4, 5].map((n) => prefix + n)), count = values.length;
    /* at whole device pixels, or neighbours of one colour would show seams */
    const ratio = window.devicePixelRatio || 1, edge = (at) => Math.round((at / count) * width * ratio) / ratio;
    let from = 0;
    const key = (at) => (values[at] === null ? -1 : stepOf(values[at], limits));
    for (let at = 1; at <= count; at++) {
      if (at < count && key(at) === key(from)) continue;
      const x = edge(from), wide = edge(at) - x;
      if (key(from) < 0) hatch(context, x, wide, height);
      else { context.fillStyle = names[key(from)]; context.fillRect(x, 0, wide, height); }
      from = at;
    }
    const marked = mark();
    if (marked !== null) {
      const [cursor, ground] = colours(["cursor", "card"]), x = ((marked + .5) / count) * width;
      context.fillStyle = ground; context.fillRect(x - 2.5, 0, 5, height);
      context.fillStyle = cursor; context.fillRect(x - 1, 0, 2, height);
    }
  };
}
/* Rows of strips with one tab stop: arrows move along time and between rows; a panel tells. */
function strips(time, rows, options) {
  const panel = el("div", { class: "panel" + (options.blue ? " blue" : "") + (options.low ? " low" : "") + (rows.length > 12 ? " stay" : "") }), nodes = [];
  let mark = Math.max(0, time.count - 1), current = null;
  function put(told) {
    panel.replaceChildren(el("b", {}, told.title), el("ol", {}, ...told.lines.slice(0, options.most || 12).map(([name, part]) => {
      const bar = el("i");
      bar.style.width = Math.min(100, part * 100 / (options.scale || 1)) + "%";
      return el("li", {}, el("span", { title: name }, name), el("span", {}, percent(part)), el("span", { class: "meter", "aria-hidden": "true" }, bar));
    })));
  }
  function show(row, at) {
    const before = current;
    mark = at; current = row;
    const told = options.tell(rows[row], at), node = nodes[row];
    node.slider.setAttribute("aria-valuenow", at);
    node.slider.setAttribute("aria-valuetext", told.title + ". " + told.lines.slice(0, 6).map(([name, part]) => name + " " + percent(part)).join(", "));
    put(told);
    for (const at of new Set([before, row])) if (at !== null) {
      nodes[at].line.classList.toggle("now", at === row);
      nodes[at].slider.tabIndex = at === row ? 0 : -1;
      nodes[at].strip.redraw();
    }
  }
  rows.forEach((row, number) => {
    const marked = () => (current === number ? mark : null);
    const strip = canvas(row.paint ? (...all) => row.paint(...all, marked()) : painter(row.values, options.limits, options.prefix, marked));
    const slider = el("div", { role: "slider", tabindex: number ? -1 : 0, "aria-label": options.what + ", " + row.name,
      "aria-valuemin": 0, "aria-valuemax": Math.max(0, time.count - 1), "aria-valuenow": mark, "aria-valuetext": "not looked at yet" }, strip);
    slider.addEventListener("focus", () => show(number, mark));
    slider.addEventListener("pointermove", (event) => show(number, placed(event, slider, time.count)));
    slider.addEventListener("pointerdown", (event) => show(number, placed(event, slider, time.count)));
    slider.addEventListener("keydown", (event) => {
      const to = moved(event.key, mark, time.count), other = number + ({ ArrowUp: -1, ArrowDown: 1 }[event.key] || 0);
      if (to !== null) { event.preventDefault(); show(number, to); }
      else if (other !== number && nodes[other]) { event.preventDefault(); nodes[other].slider.focus(); }
    });
    const line = el("div", { class: "strip" }, el("span", { title: row.name }, row.name), slider, el("span", {}, row.end));
    nodes.push({ line, slider, strip });
  });
  const axis = el("div", { class: "strip", "aria-hidden": "true" }, el("span"), el("svg"), el("span"));
  new ResizeObserver(() => {
    const svg = axis.children[1], width = svg.clientWidth;
    if (!width) return;
    svg.setAttribute("viewBox", `0 0 ${width} 18`);
    svg.replaceChildren(...timeTicks(time, width).flatMap(([part, label]) => [
      el("line", { x1: part * width, x2: part * width, y1: 0, y2: 4, class: "zero" }),
      el("text", { x: part * width, y: 15, "text-anchor": part < .06 ? "start" : part > .94 ? "end" : "middle" }, label)]));
  }).observe(axis);
  const holder = el("div", {}, panel, ...nodes.map((node) => node.line), axis, legend(options));
  put(options.whole);
  holder.selected = () => [rows[current === null ? 0 : current], mark];
  return holder;
}
function legend(options) {
  const limits = options.limits, text = (n) => percent(n, n < .1 && limits[1] < .01 ? 1 : 0).replace("<\u2009", ""), items = [];
  const swatch = (value, label) => el("li", {}, canvas(painter([value], limits, options.prefix, () => null)), label);
  items.push(swatch(null, options.nothing), swatch(0, "0%"));
  for (let at = 1; at <= limits.length; at++)
    items.push(swatch(at < limits.length ? limits[at] : 2, at < limits.length ? "to " + text(limits[at]) : "more"));
  return el("ul", { class: "legend" }, ...items);
}
