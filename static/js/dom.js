/** Elements without markup: a text is always a text node, an address always a checked one. Nothing here parses HTML. */
import { visible } from "./text.js";

export const el = /** @type {El} */ (
  (spec, ...children) => {
    const [tag = "", ...classes] = spec.split(".");
    const node = document.createElement(tag);
    if (classes[0]) node.className = classes.join(" ");
    for (const child of children.flat()) {
      if (typeof child === "string") node.append(visible(child));
      else if (child instanceof Node) node.append(child);
      else if (child) Object.entries(child).forEach(([name, value]) => set(node, name, value));
    }
    return node;
  }
);

/** @type {SetOn} */
function set(node, name, value) {
  if (typeof value === "function") return node.addEventListener(name, /** @type {EventListener} */ (value));
  const text = name === "href" ? followable(String(value)) : value === true ? "" : (value ?? false);
  if (text === false || text === null || name.startsWith("on")) return;
  node.setAttribute(name, name === "value" ? String(text) : visible(String(text)));
}

/** @type {Address} */
export function followable(address) {
  const url = URL.canParse(address) ? new URL(address) : null;
  return url && ["https:", "http:", "mailto:", "tel:"].includes(url.protocol) ? url.href : null;
}

/** @type {Mailto} */
export const mailto = (address) => `mailto:${encodeURIComponent(address).replaceAll("%40", "@")}`;

/** @type {Address} */
export function tel(number) {
  const digits = number.replace(/(?!^)\+|[^\d+]/g, "");
  return /\d{3}/.test(digits) ? `tel:${digits}` : null;
}

/** @type {NewTab} */
export function newTab(href, label, name) {
  if (!followable(href)) return "";
  return el("a.new-tab", { href, target: "_blank", rel: "noopener noreferrer", "aria-label": name }, label, icon("open"));
}

/** @type {WeakMap<Element, string>} */
const drawnFrom = new WeakMap();

/** @type {Show} */
export function show(parent, parts) {
  const focused = parent.contains(document.activeElement) ? document.activeElement : null;
  const before = new Map(Array.from(parent.children, (child) => [child.getAttribute("data-key"), child]));
  const nodes = parts.map(({ key, is, build }) => {
    const value = JSON.stringify(is) ?? "";
    const old = before.get(key);
    if (old && drawnFrom.get(old) === value) return old;
    const node = build();
    node.dataset.key = key;
    drawnFrom.set(node, value);
    return node;
  });
  for (const child of [...parent.children]) if (!nodes.includes(child)) child.remove();
  nodes.forEach((node, index) => node === parent.children[index] || parent.insertBefore(node, parent.children[index] ?? null));
  if (focused && !focused.isConnected) refocus(parent, focused.getAttribute("data-focus"));
}

/** @type {Refocus} */
export function refocus(parent, name) {
  const namesake = name ? parent.querySelector(`[data-focus="${CSS.escape(name)}"]`) : null;
  /** @type {HTMLElement} */ (namesake ?? parent).focus({ preventScroll: true });
}

/** @type {Icon} */
export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS(svg.namespaceURI, "use");
  use.setAttribute("href", `#icon-${name}`);
  svg.setAttribute("class", `icon ${name}`);
  svg.ariaHidden = "true";
  svg.append(use);
  return svg;
}

/** @type {IconButton} */
export const iconButton = (name, label, click) =>
  el("button.icon-button", { "aria-label": label, title: label, "data-focus": name, click }, icon(name));

/** @type {Button} */
export const button = (label, focus, click, kind = "") =>
  el("button", { class: `button ${kind}`, "data-focus": focus, click }, label);

/** @param {Fact[]} rows */
export const facts = (rows) => el("dl.facts", rows.map(([term, value]) => el("div", el("dt", term), el("dd", { dir: "auto" }, value))));
