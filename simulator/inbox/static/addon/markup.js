/**
 * The small HTML that texts of a card may hold (Google's page "Format text in cards"): bold, italic, underlined, struck, coloured,
 * links and line breaks. Everything else is not drawn, and what is no markup is text.
 */

import { el } from "../dom.js";

/** @type {Record<string, keyof HTMLElementTagNameMap>} */
const PLAIN = { B: "b", I: "i", U: "u", S: "s", STRIKE: "s", DEL: "s", BR: "br", TIME: "span" };
const NEVER = new Set(["SCRIPT", "STYLE", "TEMPLATE", "NOSCRIPT", "IFRAME", "OBJECT", "TITLE", "TEXTAREA"]);

/** @param {string} text @param {(url: string, ...children: (Node | string)[]) => HTMLElement} link @returns {(Node | string)[]} */
export function markup(text, link) {
  return drawn(new DOMParser().parseFromString(`<body>${text}`, "text/html").body, link);
}

/** @param {Node} parent @param {(url: string, ...children: (Node | string)[]) => HTMLElement} link @returns {(Node | string)[]} */
function drawn(parent, link) {
  return [...parent.childNodes].flatMap((node) => {
    if (node instanceof Text) return [node.data];
    if (!(node instanceof HTMLElement) || NEVER.has(node.tagName)) return [];
    const children = drawn(node, link);
    if (node.tagName in PLAIN) return [el(PLAIN[node.tagName], {}, ...children)];
    if (node instanceof HTMLAnchorElement && node.getAttribute("href")) return [link(node.getAttribute("href") ?? "", ...children)];
    if (node instanceof HTMLFontElement && /^#[0-9a-f]{6}$/i.test(node.color)) return [coloured(node.color, children)];
    return children;
  });
}

/** The colour is that of a white page: a dark one keeps its own. @param {string} color @param {(Node | string)[]} children */
function coloured(color, children) {
  const text = el("span", { class: "coloured" }, ...children);
  text.style.setProperty("--color", color);
  return text;
}
