/* The page: theme, tables that sort, and each section drawn from the JSON. */
const data = JSON.parse(document.getElementById("data").textContent);
const part = (name) => document.querySelector(`[data-part="${name}"]`);
const ALL = "all together";

function choice(label, options, change) {
  const select = el("select", {}, ...options.map(([value, text]) => el("option", { value }, text)));
  select.addEventListener("change", () => change(select.value));
  return [el("label", {}, label, select), select];
}

function theme() {
  const button = document.getElementById("theme"), names = ["system", "light", "dark"];
  const asked = /[?&]theme=(light|dark)\b/.exec(location.search);
  let at = asked ? names.indexOf(asked[1]) : 0;
  const set = () => {
    if (at) document.documentElement.dataset.theme = names[at];
    else delete document.documentElement.dataset.theme;
    button.textContent = "Theme: " + names[at];
    for (const node of redraws) if (node.isConnected) node.redraw(); else redraws.delete(node);
  };
  button.hidden = false;
  button.addEventListener("click", () => { at = (at + 1) % names.length; set(); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", set);
  set();
}

/* Heads become buttons; numbers sort by the value behind them, what has none comes last. */
function sorting(table) {
  const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = el("button", { type: "button" }, head.textContent);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "descending" || (!head.hasAttribute("aria-sort") && !head.classList.contains("n"));
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "ascending" : "descending");
      const key = (row) => {
        const cell = row.cells[column];
        if (cell.dataset.v !== undefined) return Number(cell.dataset.v);
        return head.classList.contains("n") ? null : cell.textContent;
      };
      body.append(...sorted([...body.rows], key, down ? 1 : -1));
    });
    head.replaceChildren(button);
  });
}
function sorted(items, key, way) {
  return items.map((item, at) => [key(item), at, item]).sort(([a, i], [b, j]) => {
    if (a === b) return i - j;
    if (a === null) return 1;
    if (b === null) return -1;
    return (a < b ? -1 : 1) * way;
  }).map(([, , item]) => item);
}

function equity(holder) {
  const names = Object.keys(data.curves);
  if (!data.curve_all) return;
  const place = el("div"), buttons = new Map();
  const [label, select] = choice("Show", [["", "all instruments"], ...names.map((name) => [name, name])], show);
  function show(name) {
    select.value = name;
    for (const [other, button] of buttons) button.setAttribute("aria-pressed", String(other === name));
    place.replaceChildren(...equityChart(data.time, name || "all instruments", name ? data.curves[name] : data.curve_all));
  }
  for (const name of names) {
    const values = data.curves[name].equity_bps, last = values[values.length - 1];
    const button = el("button", { type: "button" }, el("span", {}, el("b", {}, name), el("em", { class: last < 0 ? "down" : "up" }, fixed(last, 0, true))), sparkline([0, ...values]));
    button.addEventListener("click", () => show(buttons.get(name).getAttribute("aria-pressed") === "true" ? "" : name));
    buttons.set(name, button);
  }
  holder.append(el("div", { class: "tools" }, label), place, names.length > 1 ? el("div", { class: "small", role: "group", "aria-label": "Instruments" }, ...buttons.values()) : "");
  show("");
}

const sum = (values) => values.reduce((a, b) => a + b, 0);
function added(lists) {
  const made = new Array(data.time.count).fill(0);
  for (const list of lists) for (let at = 0; at < made.length; at++) made[at] += list[at];
  return made;
}
function together(all) {
  const reasons = {};
  for (const code of new Set(all.flatMap((one) => Object.keys(one.reasons))))
    reasons[code] = added(all.filter((one) => one.reasons[code]).map((one) => one.reasons[code]));
  return { decisions: added(all.map((one) => one.decisions)), eligible: added(all.map((one) => one.eligible)), reasons };
}
const shares = (parts, wholes) => wholes.map((whole, at) => (whole ? parts[at] / whole : null));

/* A table of the strip that was looked at last, made when it is asked for. */
function asTable(what, rows) {
  const place = el("div"), button = el("button", { type: "button", "aria-expanded": "false" }, "Selected strip as a table");
  button.addEventListener("click", () => {
    const open = button.getAttribute("aria-expanded") === "true";
    button.setAttribute("aria-expanded", String(!open));
    if (open) return place.replaceChildren();
    const { name, heads, lines } = rows(), caption = what + ", " + name;
    place.replaceChildren(el("div", { class: "box", tabindex: 0, role: "region", "aria-label": caption }, el("table", {}, el("caption", {}, caption),
      el("thead", {}, el("tr", {}, ...heads.map((text) => el("th", { scope: "col" }, text)))),
      el("tbody", {}, ...lines.map((cells) => el("tr", {}, ...cells.map((text, at) => el(at ? "td" : "th", at ? {} : { scope: "row" }, text))))))));
  });
  return [button, place];
}

const SHARES = [0, .01, .05, .2, .5];
function gates(holder) {
  const names = Object.keys(data.gates);
  if (!names.length) return;
  const all = together(Object.values(data.gates)), time = data.time;
  const counts = (name) => (name === ALL ? all : data.gates[name]);
  const told = (name, at) => {
    const one = counts(name), decisions = one.decisions[at];
    if (!decisions) return { title: `${name}, ${stretch(time, at)}: no decision`, lines: [] };
    const lines = Object.entries(one.reasons).map(([code, list]) => [code, list[at] / decisions]).filter(([, share]) => share > 0);
    return { title: `${name}, ${stretch(time, at)}: ${percent(one.eligible[at] / decisions, 2)} of ${counted(decisions)} eligible`, lines: lines.sort((a, b) => b[1] - a[1]) };
  };
  const whole = (name) => {
    const one = counts(name), decisions = sum(one.decisions);
    const lines = Object.entries(one.reasons).map(([code, list]) => [code, sum(list) / decisions]).sort((a, b) => b[1] - a[1]);
    return { title: `${name}, the whole time: ${percent(sum(one.eligible) / decisions, 2)} of ${counted(decisions)} eligible`, lines };
  };
  const listed = names.length > 1 ? [ALL, ...names] : names;
  const board = strips(time, listed.map((name) => {
    const one = counts(name);
    return { name, values: shares(one.eligible, one.decisions), end: percent(sum(one.eligible) / sum(one.decisions)) };
  }), { what: "Share eligible", prefix: "s", limits: SHARES, nothing: "no decision", tell: (row, at) => told(row.name, at), whole: whole(listed[0]) });
  const [button, table] = asTable("Share eligible and reasons", () => {
    const name = board.selected()[0].name, one = counts(name), lines = [];
    one.decisions.forEach((decisions, at) => {
      if (decisions) lines.push([stretch(time, at), counted(decisions), percent(one.eligible[at] / decisions, 2), told(name, at).lines.slice(0, 4).map(([code, share]) => code + " " + percent(share, 0)).join(", ")]);
    });
    return { name, heads: ["Time (UTC)", "Decisions", "Eligible", "Reasons most often"], lines };
  });
  holder.append(board, el("div", { class: "tools" }, button), table);

  const place = el("div", { class: "wide" });
  const [label] = choice("Of", listed.map((name) => [name, name]), draw);
  function draw(name) {
    const one = counts(name), whole = sum(one.decisions);
    const codes = Object.keys(one.reasons).sort((a, b) => sum(one.reasons[b]) - sum(one.reasons[a]));
    place.replaceChildren(strips(time, codes.map((code) => ({ name: code, values: shares(one.reasons[code], one.decisions), end: percent(sum(one.reasons[code]) / whole) })), {
      what: "Share of decisions with reason", prefix: "r", limits: SHARES, nothing: "no decision", low: true, most: 1,
      whole: { title: "Point at a strip for its share at that time.", lines: [] },
      tell: (row, at) => {
        const share = row.values[at];
        return { title: `${row.name}, ${name}, ${stretch(time, at)}`, lines: share === null ? [] : [[data.reason_docs[row.name] || row.name, share]] };
      },
    }));
  }
  holder.append(el("h3", {}, "Reasons over time"), el("div", { class: "tools" }, label), place);
  draw(listed[0]);
}

function weights(holder) {
  const found = data.allocation, time = data.time;
  if (!found) return;
  const names = Object.keys(found.weight), place = el("div");
  const [label] = choice("Show", [["weight", "weight"], ["exposure", "exposure, share of the account"]], draw);
  const actions = ["published", "held", "cleared"];
  const action = {
    name: "action", end: percent(sum(found.published) / sum(found.epochs), 0),
    paint(context, width, height, mark) {
      const shown = colours(actions), ratio = window.devicePixelRatio || 1, edge = (at) => Math.round((at / time.count) * width * ratio) / ratio;
      for (let at = 0; at < time.count; at++) {
        const x = edge(at), wide = edge(at + 1) - x;
        if (!found.epochs[at]) { hatch(context, x, wide, height); continue; }
        let from = height;
        actions.forEach((name, number) => {
          const tall = (found[name][at] / found.epochs[at]) * height;
          context.fillStyle = shown[number]; context.fillRect(x, from - tall, wide, tall); from -= tall;
        });
      }
      if (mark !== null) { context.fillStyle = colours(["cursor"])[0]; context.fillRect(((mark + .5) / time.count) * width - 1, 0, 2, height); }
    },
  };
  function draw(what) {
    const columns = found[what], means = found["mean_" + what];
    const most = Math.max(1e-9, ...Object.values(columns).flat());
    const rows = [action, ...names.map((name) => ({ name, values: columns[name], end: percent(means[name]) }))];
    const tell = (row, at) => {
      if (!found.epochs[at]) return { title: `${stretch(time, at)}: no epoch`, lines: [] };
      const acts = actions.map((one) => `${one} ${percent(found[one][at] / found.epochs[at], 0)}`).join(", ");
      const lines = names.map((name) => [name, columns[name][at] || 0]).filter(([, n]) => n > 0).sort((a, b) => b[1] - a[1]);
      const own = row.values ? `${row.name} ${percent(row.values[at])} of ` : "";
      const said = `${own}${percent(sum(lines.map(([, n]) => n)))} in all`;
      return { title: `${stretch(time, at)}: ${said}; ${counted(found.epochs[at])} epochs, ${acts}`, lines };
    };
    const board = strips(time, rows, { what: "Mean " + what, prefix: "s", limits: [0, .1, .25, .5, .75].map((n) => n * most), nothing: "no epoch", tell, scale: most, blue: true, whole: {
      title: `The whole time: ${percent(sum(Object.values(means)))} in all; ${counted(sum(found.epochs))} epochs, ` + actions.map((one) => `${one} ${percent(sum(found[one]) / sum(found.epochs), 0)}`).join(", "),
      lines: Object.entries(means).filter(([, n]) => n > 0).sort((a, b) => b[1] - a[1]),
    } });
    const key = el("ul", { class: "legend" }, ...actions.map((name, at) => el("li", {}, canvas((context, width, height) => { context.fillStyle = colours(actions)[at]; context.fillRect(0, 0, width, height); }), "action: " + name)));
    const [button, table] = asTable("Mean " + what, () => {
      const row = board.selected()[0], lines = [];
      found.epochs.forEach((epochs, at) => {
        if (epochs) lines.push([stretch(time, at), counted(epochs), row.values ? percent(row.values[at], 2) : NONE, ...actions.map((one) => counted(found[one][at]))]);
      });
      return { name: row.name, heads: ["Time (UTC)", "Epochs", "Mean " + what, ...actions], lines };
    });
    place.replaceChildren(board, key, el("div", { class: "tools" }, button), table);
  }
  holder.append(el("div", { class: "tools" }, label), place);
  draw("weight");
}

const PAGE = 50;
function trades(holder) {
  const found = data.trades, columns = found.columns;
  if (!found.shown) return holder.append(el("p", { class: "none" }, "No trade was closed in this time."));
  const name = (list, code) => list[code];
  const heads = [
    ["Exit (UTC)", (r) => columns.as_of_ms[r], (r) => clock(columns.as_of_ms[r])],
    ["Instrument", (r) => name(data.instruments, columns.instrument[r])],
    ["Side", (r) => (columns.direction[r] > 0 ? "long" : "short")],
    ["P&L, bps", (r) => columns.pnl_bps[r], (r) => fixed(columns.pnl_bps[r], 2, true), "n", (r) => (columns.pnl_bps[r] < 0 ? "down" : "up")],
    ["Cost, bps", (r) => columns.cost_bps[r], (r) => fixed(columns.cost_bps[r], 2) + (columns.cost_assumed[r] ? " assumed" : ""), "n"],
    ["Bars", (r) => columns.bars_held[r], (r) => counted(columns.bars_held[r]), "n"],
    ["Exit reason", (r) => name(found.exit_reasons, columns.exit_reason[r])],
    ["Entry bar (UTC)", (r) => columns.entry_bar_ms[r], (r) => clock(columns.entry_bar_ms[r])],
    ["Entry", (r) => columns.entry_price[r], (r) => String(columns.entry_price[r] ?? NONE), "n"],
    ["Exit", (r) => columns.exit_price[r], (r) => String(columns.exit_price[r] ?? NONE), "n"],
    ["MAE, bps", (r) => columns.mae_bps[r], (r) => fixed(columns.mae_bps[r], 2), "n"],
    ["MFE, bps", (r) => columns.mfe_bps[r], (r) => fixed(columns.mfe_bps[r], 2), "n"],
    ["Id", (r) => columns.trade_id[r]],
  ];
  const state = { instrument: "", side: "", result: "", reason: "", column: 0, way: -1, page: 0 };
  const body = el("tbody"), said = el("span", { role: "status" }), cells = [];
  const fewer = el("button", { type: "button" }, "Previous"), more = el("button", { type: "button" }, "Next");
  const filter = (label, field, options) => choice(label, options, (value) => { state[field] = value; state.page = 0; show(); })[0];
  const codes = (list) => [["", "all"], ...list.map((text, at) => [String(at), text])];
  const traded = new Set(columns.instrument);
  heads.forEach(([text, , , kind], column) => {
    const button = el("button", { type: "button" }, text), head = el("th", { scope: "col", class: kind }, button);
    button.addEventListener("click", () => {
      state.way = state.column === column ? -state.way : kind === "n" || !column ? -1 : 1;
      state.column = column; state.page = 0; show();
    });
    cells.push(head);
  });
  function show() {
    let rows = [...columns.instrument.keys()].filter((r) => (state.instrument === "" || columns.instrument[r] === Number(state.instrument)) &&
      (state.side === "" || columns.direction[r] === Number(state.side)) && (state.reason === "" || columns.exit_reason[r] === Number(state.reason)) &&
      (state.result === "" || (state.result === "won") === columns.pnl_bps[r] > 0));
    rows = sorted(rows, heads[state.column][1], state.way);
    const pages = Math.max(1, Math.ceil(rows.length / PAGE)), first = state.page * PAGE;
    cells.forEach((head, at) => { if (at === state.column) head.setAttribute("aria-sort", state.way > 0 ? "ascending" : "descending"); else head.removeAttribute("aria-sort"); });
    body.replaceChildren(...rows.slice(first, first + PAGE).map((row) => el("tr", {}, ...heads.map(([, key, text, kind, mood], at) =>
      el(at ? "td" : "th", { scope: at ? null : "row", class: [kind, mood && mood(row)].filter(Boolean).join(" ") || null }, (text || key)(row))))));
    const profit = sum(rows.map((row) => columns.pnl_bps[row]));
    said.textContent = `${counted(rows.length)} of ${counted(found.shown)} listed, ${fixed(profit, 1, true)} bps; page ${state.page + 1} of ${pages}`;
    fewer.disabled = state.page === 0; more.disabled = state.page >= pages - 1;
  }
  fewer.addEventListener("click", () => { state.page--; show(); });
  more.addEventListener("click", () => { state.page++; show(); });
  holder.append(
    el("div", { class: "tools" },
      filter("Instrument", "instrument", [["", "all"], ...data.instruments.map((text, at) => [String(at), text]).filter(([at]) => traded.has(Number(at)))]),
      filter("Side", "side", [["", "both"], ["1", "long"], ["-1", "short"]]),
      filter("Result", "result", [["", "all"], ["won", "won"], ["lost", "not won"]]),
      filter("Exit reason", "reason", codes(found.exit_reasons))),
    el("div", { class: "box", tabindex: 0, role: "region", "aria-label": "Trades" }, el("table", {}, el("caption", {}, "Closed trades; press a heading to sort"), el("thead", {}, el("tr", {}, ...cells)), body)),
    el("div", { class: "tools" }, fewer, more, said));
  show();
}

document.querySelectorAll("table[data-sort]").forEach(sorting);
const parts = { equity, gates, weights, trades };
for (const [name, draw] of Object.entries(parts)) draw(part(name));
theme();
