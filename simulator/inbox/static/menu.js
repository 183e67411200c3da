/** A menu below a button: arrow keys move in it, Escape and a click elsewhere close it, and the focus goes back. */

import { el } from "./dom.js";

export class Menu {
  #menu;

  /** @param {HTMLElement} place a landmark, in which screen readers find it */
  constructor(place) {
    this.#menu = el("div", { class: "menu", role: "menu", popover: "auto", onkeydown: (/** @type {KeyboardEvent} */ event) => this.#key(event) });
    place.append(this.#menu);
  }

  /** @param {HTMLElement} anchor @param {string} label @param {HTMLElement[]} entries items, or groups of items */
  open(anchor, label, entries) {
    this.#menu.setAttribute("aria-label", label);
    this.#menu.replaceChildren(...entries);
    this.#menu.showPopover();
    const { left, bottom } = anchor.getBoundingClientRect();
    this.#menu.style.left = `${Math.max(4, Math.min(left, innerWidth - this.#menu.offsetWidth - 4))}px`;
    this.#menu.style.top = `${Math.max(4, Math.min(bottom + 4, innerHeight - this.#menu.offsetHeight - 4))}px`;
    (this.#items.find((item) => item.getAttribute("aria-checked") === "true" && item.role === "menuitemradio") ?? this.#items[0])?.focus();
  }

  /**
   * @param {{role?: string, "aria-checked"?: string, class?: string}} attributes @param {() => void} act
   * @param {...(Node | string | false)} children
   */
  item(attributes, act, ...children) {
    const choose = () => {
      this.#menu.hidePopover();
      act();
    };
    return el("button", { type: "button", role: "menuitem", tabindex: "-1", ...attributes, onclick: choose }, ...children);
  }

  get #items() {
    return /** @type {HTMLElement[]} */ ([...this.#menu.querySelectorAll("[role^=menuitem]")]);
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const items = this.#items;
    const at = items.findIndex((item) => item === document.activeElement);
    const moves = /** @type {Record<string, number>} */ ({ ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: -1 });
    if (!(event.key in moves)) return;
    event.preventDefault();
    items.at((moves[event.key] ?? 0) % items.length)?.focus();
  }
}
