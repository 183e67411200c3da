/** Categories: chips with Outlook's preset colours and their names, the menu on a message, and the master list. */

import { call, mailboxPath } from "./api.js";
import { el, icon, iconButton } from "./dom.js";

/** @typedef {import("./api.js").Category} Category */

const COLORS = [
  "Red", "Orange", "Brown", "Yellow", "Green", "Teal", "Olive", "Blue", "Purple", "Cranberry", "Steel", "Dark steel", "Gray",
  "Dark gray", "Black", "Dark red", "Dark orange", "Dark brown", "Dark yellow", "Dark green", "Dark teal", "Dark olive",
  "Dark blue", "Dark purple", "Dark cranberry",
];

/** @param {string} a @param {string} b */
const same = (a, b) => a.toLowerCase() === b.toLowerCase();

/** @param {string[]} names @param {Category[]} master a name that is not in it has no colour, as in Outlook */
export function chips(names, master) {
  return el("span", { class: "chips" }, ...names.map((name) => {
    const color = master.find((category) => same(category.name, name))?.color ?? "none";
    return el("span", { class: `chip ${color}`, title: name }, name);
  }));
}

export class CategoryMenu {
  #actions;
  #menu = el("div", { class: "menu", role: "menu", "aria-label": "Categories", popover: "auto" });

  /** @param {{set: (name: string, on: boolean) => void, manage: () => void}} actions */
  constructor(actions) {
    this.#actions = actions;
    this.#menu.addEventListener("keydown", (event) => this.#key(event));
    document.body.append(this.#menu);
  }

  /** @param {HTMLElement} anchor @param {Category[]} master @param {string[]} names the message's */
  open(anchor, master, names) {
    const known = master.map((category) => category.name);
    const all = [...known, ...names.filter((name) => !known.some((k) => same(k, name)))];
    this.#menu.replaceChildren(
      ...all.map((name) => {
        const on = names.some((n) => same(n, name));
        const color = master.find((category) => same(category.name, name))?.color ?? "none";
        return el("button", { type: "button", role: "menuitemcheckbox", "aria-checked": String(on), onclick: () => this.#choose(name, !on) },
          el("span", { class: `swatch ${color}` }), el("span", {}, name));
      }),
      el("button", { type: "button", role: "menuitem", class: "manage", onclick: () => { this.#menu.hidePopover(); this.#actions.manage(); } }, "Manage categories"));
    const { left, bottom } = anchor.getBoundingClientRect();
    this.#menu.style.left = `${Math.min(left, innerWidth - 300)}px`;
    this.#menu.style.top = `${bottom + 4}px`;
    this.#menu.showPopover();
    /** @type {HTMLElement | null} */ (this.#menu.firstElementChild)?.focus();
  }

  /** @param {string} name @param {boolean} on */
  #choose(name, on) {
    this.#menu.hidePopover();
    this.#actions.set(name, on);
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const items = /** @type {HTMLElement[]} */ ([...this.#menu.children]);
    const at = items.findIndex((item) => item === document.activeElement);
    items[(at + step + items.length) % items.length]?.focus();
  }
}

export class CategoryManager {
  #changed;
  /** @type {HTMLDialogElement | null} */
  #dialog = null;

  /** @param {() => Promise<void>} changed */
  constructor(changed) {
    this.#changed = changed;
  }

  /** @param {string} address @param {Category[]} master */
  open(address, master) {
    const path = `${mailboxPath(address)}/categories`;
    const list = el("ul", { class: "master" });
    const problem = el("p", { class: "problem", role: "alert" });
    const act = async (/** @type {string} */ method, /** @type {string} */ target, /** @type {object | undefined} */ body) => {
      problem.textContent = "";
      try {
        await call(method, target, body);
      } catch (error) {
        problem.textContent = error instanceof Error ? error.message : String(error);
      }
      await this.#changed();
      draw(await call("GET", mailboxPath(address)).then((view) => view.categories));
    };
    const draw = (/** @type {Category[]} */ categories) => {
      list.replaceChildren(...categories.map((category) => el("li", {},
        el("span", { class: `swatch ${category.color}` }), el("span", { class: "name" }, category.name),
        colorSelect(category.color, `Color of ${category.name}`, (color) => void act("PATCH", `${path}/${category.id}`, { color })),
        iconButton("deleteditems", `Delete ${category.name}`, () => void act("DELETE", `${path}/${category.id}`, undefined)))));
    };
    const name = el("input", { name: "name", required: true, "aria-label": "Name of the new category", placeholder: "New category" });
    const color = colorSelect("preset7", "Color of the new category", () => {});
    const form = el("form", { class: "add", onsubmit: (/** @type {Event} */ event) => {
      event.preventDefault();
      void act("POST", path, { name: name.value, color: color.value });
      name.value = "";
    } }, name, color, el("button", { class: "primary" }, icon("plus"), "Add"));
    this.#dialog = el("dialog", { class: "manager", "aria-label": "Categories", onclose: () => this.#dialog?.remove() },
      el("header", {}, el("h2", {}, "Categories"), iconButton("close", "Close", () => this.#dialog?.close())), list, form, problem);
    draw(master);
    document.body.append(this.#dialog);
    this.#dialog.showModal();
  }
}

/** @param {string} value @param {string} label @param {(color: string) => void} choose */
function colorSelect(value, label, choose) {
  const select = el("select", { "aria-label": label, onchange: () => choose(select.value) },
    el("option", { value: "none" }, "No color"),
    ...COLORS.map((name, index) => el("option", { value: `preset${index}` }, name)));
  select.value = value;
  return select;
}
