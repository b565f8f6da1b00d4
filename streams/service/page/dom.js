/* Creates elements, and writes to them only where something changes. */
const SVG = new Set(["svg", "path", "line", "text", "g", "rect", "circle"]);

export const byId = (id) => document.getElementById(id);

/** Make an element; attributes that are null, undefined or false are left out. */
export function el(tag, attributes, ...children) {
  const made = SVG.has(tag) ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) attr(made, name, value);
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/** Set a text only when it differs. */
export function put(node, text) {
  const wanted = text === null || text === undefined ? "" : String(text);
  if (node.textContent !== wanted) node.textContent = wanted;
  return node;
}

/** Set an attribute only when it differs; null, undefined and false remove it. */
export function attr(node, name, value) {
  if (value === null || value === undefined || value === false) {
    if (node.hasAttribute(name)) node.removeAttribute(name);
    return;
  }
  const wanted = value === true ? "" : String(value);
  if (node.getAttribute(name) !== wanted) node.setAttribute(name, wanted);
}

/** Write a sentence in which commands are between backticks. */
export function prose(node, text) {
  const wanted = text === null || text === undefined ? "" : String(text);
  if (node.said === wanted) return;
  node.said = wanted;
  node.replaceChildren(...wanted.split("`").map((part, at) => (at % 2 ? el("code", {}, part) : part)).filter((part) => part !== ""));
}

export function show(node, shown) {
  if (node.hidden === shown) node.hidden = !shown;
}

/**
 * Keep one child per item, by key, in the order of the items: children are made, moved and removed
 * only where that is needed, so that focus, selection and scrolling stay where they are.
 */
export function keyed(parent, items, key, make, fill) {
  const kept = parent.kept || (parent.kept = new Map());
  const names = items.map(key), wanted = new Set(names);
  for (const [name, part] of kept) {
    if (wanted.has(name)) continue;
    part.node.remove();
    kept.delete(name);
  }
  let place = parent.firstElementChild;
  items.forEach((item, at) => {
    let part = kept.get(names[at]);
    if (!part) kept.set(names[at], part = make(item));
    if (place === part.node) place = place.nextElementSibling;
    else parent.insertBefore(part.node, place);
    fill(part, item, at);
  });
}

/**
 * Make a table in a box that scrolls by itself. The first column heads its row. Roles are written
 * out because narrow screens lay the rows out as cards, which otherwise removes the semantics of a table.
 */
export function table(caption, columns, kind) {
  const head = el("tr", { role: "row" }, ...columns.map(([name, align]) =>
    el("th", { scope: "col", role: "columnheader", class: align }, name)));
  const body = el("tbody", { role: "rowgroup" });
  const made = el("table", { role: "table", class: kind }, el("caption", {}, caption),
    el("thead", { role: "rowgroup" }, head), body);
  const node = el("div", { class: "box", role: "region", "aria-label": caption }, made);
  // a box that scrolls must be reachable with the keyboard; one that does not scroll takes no focus
  const look = () => attr(node, "tabindex", node.scrollWidth > node.clientWidth || node.scrollHeight > node.clientHeight ? 0 : null);
  const observer = new ResizeObserver(look);
  observer.observe(node);
  observer.observe(made);
  return { node, body };
}

/** Make a row of a table of these columns: name, alignment, and a shorter name for narrow screens. */
export function row(columns) {
  const cells = columns.map(([name, align, label], at) => at
    ? el("td", { role: "cell", class: align, "data-label": label ?? name })
    : el("th", { scope: "row", role: "rowheader", class: align }));
  return { node: el("tr", { role: "row" }, ...cells), cells };
}

/** Fill a list of definitions: names stay, values change. */
export function figures(list, pairs) {
  keyed(list, pairs, ([name]) => name, ([name]) => {
    const value = el("dd", {});
    return { node: el("div", {}, el("dt", {}, name), value), value };
  }, (part, [, text, title]) => {
    if (typeof text === "function") text(part.value);
    else put(part.value, text);
    attr(part.value, "title", title);
  });
}
