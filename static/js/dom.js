/** Elements without markup: a text is always a text node, an address always a checked one. Nothing here parses HTML. */
import { visible } from "./text.js";

/** el("p.note", {title, click: f}, text, node): functions are listeners; null and false are left out. */
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

/** @type {(node: HTMLElement, name: string, value: unknown) => void} */
function set(node, name, value) {
  if (typeof value === "function") return node.addEventListener(name, /** @type {EventListener} */ (value));
  const text = name === "href" ? followable(String(value)) : value === true ? "" : (value ?? false);
  if (text === false || text === null || name.startsWith("on")) return;
  node.setAttribute(name, name === "value" ? String(text) : visible(String(text)));
}

/** null: nobody may follow it. @param {string} address */
export function followable(address) {
  const url = URL.canParse(address) ? new URL(address) : null;
  return url && ["https:", "http:", "mailto:", "tel:"].includes(url.protocol) ? url.href : null;
}

/** @param {string} address */
export const mailto = (address) => `mailto:${encodeURIComponent(address).replaceAll("%40", "@")}`;

/** @param {string} number as a person writes it */
export function tel(number) {
  const digits = number.replace(/(?!^)\+|[^\d+]/g, "");
  return /\d{3}/.test(digits) ? `tel:${digits}` : null;
}

/** @type {NewTab} */
export function newTab(href, label, name) {
  if (!followable(href)) return "";
  return el("a.new-tab", { href, target: "_blank", rel: "noopener noreferrer", "aria-label": name }, label, icon("open"));
}

/** @type {WeakMap<Element, string>} what each part was drawn from */
const drawnFrom = new WeakMap();

/**
 * What is the same as before stays the same element, with focus, selection and place; when the focused element goes, its namesake
 * (data-focus) takes the focus. @param {HTMLElement} parent @param {Part[]} parts
 */
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

/** @type {(parent: HTMLElement, name?: string | null) => void} */
export function refocus(parent, name) {
  const namesake = name ? parent.querySelector(`[data-focus="${CSS.escape(name)}"]`) : null;
  /** @type {HTMLElement} */ (namesake ?? parent).focus({ preventScroll: true });
}

const ICONS = {
  alert: "M8 2.2 14.6 13.6H1.4ZM8 6.4v3.4M8 11.6v.2",
  back: "M7.5 3 2.5 8l5 5M2.5 8h11",
  check: "M2.5 8.5 6.3 12.3 13.5 4.2",
  chevron: "M4.5 6.3 8 9.8l3.5-3.5",
  close: "M3.5 3.5l9 9M12.5 3.5l-9 9",
  mail: "M2 3.5h12v9H2ZM2 4.2l6 5 6-5",
  open: "M9.5 2.5h4v4M13.5 2.5 7.5 8.5M11.5 9.5v4h-9v-9h4",
  pencil: "M3 13l.7-3.1 7.2-7.2 2.4 2.4-7.2 7.2Z",
  refresh: "M13.2 6.2A5.6 5.6 0 1 0 13.6 9M13.5 2.8v3.5H10",
};

/** @param {keyof typeof ICONS} name */
export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const path = document.createElementNS(svg.namespaceURI, "path");
  path.setAttribute("d", ICONS[name]);
  svg.setAttribute("class", `icon ${name}`);
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.ariaHidden = "true";
  svg.append(path);
  return svg;
}

/** @type {IconButton} */
export const iconButton = (name, label, click) =>
  el("button.icon-button", { type: "button", "aria-label": label, title: label, "data-focus": name, click }, icon(name));

/** @type {Button} */
export const button = (label, focus, click, kind = "") =>
  el("button", { type: "button", class: `button ${kind}`, "data-focus": focus, click }, label);

/** @param {Fact[]} rows */
export const facts = (rows) => el("dl.facts", rows.map(([term, value]) => el("div", el("dt", term), el("dd", { dir: "auto" }, value))));
