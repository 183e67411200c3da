/** Build elements: text only ever becomes text nodes. */

const SVG = "http://www.w3.org/2000/svg";

/** Icons as strokes on a 16 by 16 grid. */
const STROKES = {
  inbox: "M2.5 9.5h3l1 2h3l1-2h3M2.5 9.5l1.6-6h7.8l1.6 6v3.5h-11z",
  sentitems: "M2.5 8 13.5 3 10.5 13 7.5 9.2zM7.5 9.2 13.5 3",
  drafts: "M3 13l.6-2.8L10.8 3l2.2 2.2L5.800 12.400zM9.500 4.300l2.200 2.200",
  deleteditems: "M3 4.500h10M6.500 4.500v-1.500h3v1.500M4.200 4.500l.6 8.500h6.400l.6-8.500M6.800 7v3.500M9.200 7v3.500",
  archive: "M2.500 3.500h11v3h-11zM3.500 6.500v6.500h9v-6.500M6.500 9h3",
  back: "M9.500 3.500 5 8l4.500 4.500",
  folder: "M2.500 12.500v-9h4l1.300 1.700h5.700v7.300z",
  clip: "M12.500 7.300 8 11.800a2.500 2.500 0 0 1-3.600-3.600l4.900-4.900a1.700 1.700 0 0 1 2.400 2.400L7 10.400a.8.8 0 0 1-1.200-1.200l4.100-4.100",
  reply: "M6.500 4 3 7.500 6.500 11M3 7.500h6a4 4 0 0 1 4 4v.5",
  replyAll: "M5 4 1.500 7.500 5 11M8.500 4 5 7.500 8.500 11M5 7.500h5a4 4 0 0 1 4 4v.5",
  tag: "M8.500 2.500h5v5l-6 6-5-5zM11 5h.01",
  contacts: "M8 8.5a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5zM3 13.5a5 5 0 0 1 10 0",
  move: "M2.500 12.500v-9h4l1.300 1.700h5.700v7.300zM6 9h4.500M8.800 7.200 10.600 9l-1.800 1.800",
  unread: "M2.500 4.500h11v7.500h-11zM2.500 4.500 8 9l5.500-4.500",
  pin: "M6 2.500h4M6.700 2.500v4L5 8.500h6L9.300 6.500v-4M8 8.500v5",
  close: "M4 4l8 8M12 4l-8 8",
  plus: "M8 3v10M3 8h10",
  chevron: "M4.500 6.500 8 10l3.500-3.500",
  pane: "M2.500 3.500h11v9h-11zM9.500 3.500v9",
  send: "M2.500 8 13.500 3 10.500 13 7.500 9.200zM7.500 9.200 13.500 3",
  search: "M7 11.500a4.500 4.500 0 1 1 0-9 4.500 4.500 0 0 1 0 9zM10.300 10.300 13.500 13.500",
  more: "M8 3.500h.01M8 8h.01M8 12.500h.01",
  clock: "M8 2.500a5.500 5.500 0 1 0 0 11 5.500 5.500 0 0 0 0-11zM8 5v3l2 2",
  dot: "M8 6.500a1.500 1.500 0 1 0 0 3 1.500 1.500 0 0 0 0-3z",
  house: "M2.500 8 8 3l5.500 5M4 7v6h8V7",
  page: "M4 2.500h5.500L12 5v8.500H4zM6 7h4M6 9.500h4",
  people: "M6 8a2.200 2.200 0 1 0 0-4.400A2.200 2.200 0 0 0 6 8zM1.800 13a4.200 4.200 0 0 1 8.400 0M10.500 8.300a2 2 0 1 0-.8-3.900M12 9.800a4 4 0 0 1 2.300 3.200",
  phone: "M4 2.500h2.500l1 3-1.500 1a7 7 0 0 0 3.500 3.500l1-1.500 3 1V12a1.500 1.500 0 0 1-1.500 1.500A9.500 9.500 0 0 1 2.500 4 1.500 1.500 0 0 1 4 2.500z",
  star: "M8 2.500l1.700 3.500 3.800.5-2.800 2.700.7 3.800L8 11.200 4.600 13l.7-3.800L2.500 6.500 6.300 6z",
  wrench: "M9.700 6.300 3.500 12.500M13 4.500 11 6.500 9.500 5l2-2a3 3 0 0 0-3.300 4.300",
};

/** @typedef {keyof typeof STROKES} IconName */

/**
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag @param {Record<string, any>} [attributes] `on…` are listeners, null and false are left out
 * @param {...(Node | string | null | undefined | false)} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/**
 * Have an element's children be those of another one. What is the same stays where it is: a button that is replaced under a
 * pressed pointer is not clicked, and one that is replaced while it has the focus loses it.
 * @param {Element} old @param {Element} fresh
 */
export function renew(old, fresh) {
  const unused = [...old.children];
  const wanted = [...fresh.children].map((child) => {
    const at = unused.findIndex((present) => present.isEqualNode(child));
    return at < 0 ? child : /** @type {Element} */ (unused.splice(at, 1)[0]);
  });
  for (const child of unused) child.remove(); // first, so that none of the others has to move
  wanted.forEach((child, index) => {
    const present = old.children[index] ?? null;
    if (present !== child) old.insertBefore(child, present);
  });
}

/** @param {IconName} name */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  for (const [key, value] of Object.entries({ viewBox: "0 0 16 16", width: "16", height: "16", "aria-hidden": "true", class: "icon" })) {
    svg.setAttribute(key, value);
  }
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", STROKES[name]);
  svg.append(path);
  return svg;
}

/** @param {IconName} name @param {string} label @param {(event: Event) => void} onclick @param {Record<string, any>} [more] */
export function iconButton(name, label, onclick, more = {}) {
  return el("button", { type: "button", class: "icon-button", "aria-label": label, title: label, onclick, ...more }, icon(name));
}

/** @param {string} id @returns {HTMLElement} */
export function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`The page has no #${id}`);
  return found;
}

/** Tell a screen reader, politely. @param {string} text */
export function announce(text) {
  byId("status").textContent = text;
}

/** Text for screen readers only. @param {string} text */
export const spoken = (text) => el("span", { class: "sr-only" }, text);

/** Two letters for an avatar. @param {string} name */
export function initials(name) {
  const words = name.replace(/[^\p{L}\p{N}\s]/gu, " ").trim().split(/\s+/u);
  const [first, last] = [words[0] ?? "", words.length > 1 ? words[words.length - 1] : ""];
  return ([...first][0] ?? "?").toUpperCase() + ([...last][0] ?? "").toUpperCase();
}

/** One of eight hues, the same for the same text. @param {string} text */
export function hue(text) {
  return [...text.toLowerCase()].reduce((sum, letter) => (sum * 31 + (letter.codePointAt(0) ?? 0)) % 9973, 7) % 8;
}

/** @param {number} bytes */
export function size(bytes) {
  if (bytes < 1000) return `${bytes} bytes`;
  return bytes < 1_000_000 ? `${Math.round(bytes / 1000)} KB` : `${(bytes / 1_000_000).toFixed(1)} MB`;
}
