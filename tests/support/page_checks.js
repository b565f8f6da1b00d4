/* Checks of a page as it stands in a browser. Each returns what is wrong, in words. */
const said = (node) => node.tagName.toLowerCase() + (node.id ? "#" + node.id : "") + " " + JSON.stringify(node.textContent.trim().slice(0, 40));
const isShown = (node) => node.checkVisibility({ opacityProperty: true, visibilityProperty: true }) && node.getClientRects().length > 0;

function headings() {
  const found = [...document.querySelectorAll("h1, h2, h3, h4, h5, h6")].filter(isShown), wrong = [];
  if (found.filter((one) => one.tagName === "H1").length !== 1) wrong.push("not exactly one h1");
  let before = 0;
  for (const one of found) {
    const level = Number(one.tagName[1]);
    if (level > before + 1) wrong.push(`${said(one)} comes after a heading of level ${before}`);
    if (!one.textContent.trim()) wrong.push("empty " + said(one));
    before = level;
  }
  return wrong;
}

function tables() {
  const wrong = [];
  for (const table of document.querySelectorAll("table")) {
    if (!table.caption?.textContent.trim()) wrong.push("no caption");
    for (const head of table.tHead.rows[0].cells) if (head.scope !== "col" || !head.textContent.trim()) wrong.push("column without a heading in " + table.caption.textContent);
    for (const row of table.tBodies[0].rows) {
      if (row.cells.length !== table.tHead.rows[0].cells.length) wrong.push("a row of another length in " + table.caption.textContent);
      if (row.cells[0].scope !== "row") wrong.push("a row without a heading in " + table.caption.textContent);
    }
    for (const node of table.querySelectorAll("tr, th, td, thead, tbody")) if (!node.hasAttribute("role")) wrong.push("no role: " + said(node));
  }
  return wrong;
}

function references() {
  const wrong = [], ids = [...document.querySelectorAll("[id]")].map((node) => node.id);
  for (const id of ids) if (ids.indexOf(id) !== ids.lastIndexOf(id)) wrong.push("twice: " + id);
  for (const name of ["aria-labelledby", "aria-describedby", "aria-controls", "for"])
    for (const node of document.querySelectorAll(`[${name}]`))
      for (const id of node.getAttribute(name).split(/\s+/)) if (!document.getElementById(id)) wrong.push(`${name} of ${said(node)} names nothing: ${id}`);
  for (const link of document.querySelectorAll('a[href^="#"]:not([href*="="])')) if (!document.getElementById(link.hash.slice(1))) wrong.push("leads nowhere: " + link.hash);
  return wrong;
}

function landmarks() {
  const wrong = [];
  for (const one of ["header", "nav", "main"]) if (document.querySelectorAll(`body > ${one}`).length !== 1) wrong.push("not exactly one " + one);
  if (!document.documentElement.lang) wrong.push("no language");
  const live = [...document.querySelectorAll("[aria-live], [role=alert], [role=status]")].map((node) => node.id).sort().join(" ");
  if (live !== "command-error kill-error live-kill live-signals") wrong.push("spoken aloud: " + live);
  return wrong;
}

const channels = (text) => text.match(/[\d.]+/g).map(Number);
const luminance = (rgb) => {
  const [r, g, b] = rgb.map((n) => { const part = n / 255; return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4; });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const over = (top, under, alpha) => top.map((n, at) => n * alpha + under[at] * (1 - alpha));
const gray = (rgb) => { const n = 0.2126 * rgb[0] + 0.7152 * rgb[1] + 0.0722 * rgb[2]; return [n, n, n]; };

function background(node) {
  const layers = [];
  for (let at = node; at; at = at.parentElement) {
    const [r, g, b, alpha = 1] = channels(getComputedStyle(at).backgroundColor);
    if (alpha > 0) layers.push([[r, g, b], alpha]);
    if (alpha === 1) break;
    const image = getComputedStyle(at).backgroundImage.match(/rgba?\([^)]+\)/g);
    if (image) { layers.push([channels(image[image.length - 1]).slice(0, 3), 1]); break; }
  }
  return layers.reverse().reduce((under, [colour, alpha]) => over(colour, under, alpha), [255, 255, 255]);
}

/* Every visible text against what lies behind it: at least 4.5 to 1. */
function contrast() {
  const wrong = new Set(), walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !isShown(node) || node.closest(".visually-hidden, caption, option, script, noscript")) continue;
    const style = getComputedStyle(node), svg = node instanceof SVGElement;
    let [r, g, b, alpha = 1] = channels(svg ? style.fill : style.color), behind = background(svg ? node.closest("div") : node), front = over([r, g, b], behind, alpha);
    if (node.closest("main") && getComputedStyle(document.querySelector("main")).filter.includes("grayscale")) [front, behind] = [gray(front), gray(behind)];
    const [light, dark] = [luminance(front), luminance(behind)].sort((a, b) => b - a), ratio = (light + 0.05) / (dark + 0.05);
    if (ratio < 4.5) wrong.add(`${said(node)} ${ratio.toFixed(2)} (${style.color} on ${behind.map(Math.round)})`);
  }
  return [...wrong];
}

/* Nothing wider than the window, and nothing that is cut off without a way to scroll to it. */
function overflow() {
  const wrong = [], width = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth > width) wrong.push(`the page is ${document.documentElement.scrollWidth} wide in a window of ${width}`);
  for (const node of document.querySelectorAll("main *, header *")) {
    if (!isShown(node) || node.closest(".visually-hidden, caption, thead, svg, .step-state, .skip")) continue;
    const box = node.getBoundingClientRect(), scroller = node.closest(".box");
    if (box.right > width + 1 && !(scroller && scroller.scrollWidth > scroller.clientWidth)) wrong.push(`${said(node)} ends at ${Math.round(box.right)}`);
  }
  return wrong.slice(0, 5);
}
