/** What hangs on messages: Outlook's categories, in preset colours, and Gmail's labels, in colours of its palette; and their list. */

import { call, mailboxPath } from "./api.js";
import { byId, el, icon, iconButton, spoken } from "./dom.js";
import { Menu } from "./menu.js";

/** @typedef {import("./api.js").Category} Category */
/** @typedef {import("./look.js").Look} Look */
/** @typedef {{name: string, color: string}} NamedColor */

const PRESETS = [
  "Red", "Orange", "Brown", "Yellow", "Green", "Teal", "Olive", "Blue", "Purple", "Cranberry", "Steel", "Dark steel", "Gray",
  "Dark gray", "Black", "Dark red", "Dark orange", "Dark brown", "Dark yellow", "Dark green", "Dark teal", "Dark olive",
  "Dark blue", "Dark purple", "Dark cranberry",
].map((name, number) => ({ name, color: `preset${number}` }));
const READABLE = 4.5; // contrast of text, WCAG 2.2, 1.4.3

/** @param {string} a @param {string} b */
const same = (a, b) => a.toLowerCase() === b.toLowerCase();

/** @param {string} name @param {Category[]} list a name that is not in it has no colour, as in Outlook */
const colorOf = (name, list) => list.find((category) => same(category.name, name))?.color ?? "none";

/** @param {string[]} names @param {Category[]} list @param {Look} look */
export function chips(names, list, look) {
  return el("span", { class: "chips" }, spoken(`${look.tags}: `), ...names.flatMap((name, number) => [
    number > 0 && spoken(", "),
    colored(el("span", { class: "chip", title: name }, name), colorOf(name, list)),
  ]));
}

/** The mark of a colour beside a name. @param {string} color */
export const swatch = (color) => colored(el("span", { class: "swatch" }), color);

/** @template {HTMLElement} Part @param {Part} part @param {string} color a preset, "none", or "#background #text" */
function colored(part, color) {
  const [background = "", text = ""] = color.split(" ");
  part.classList.add(text ? "painted" : color);
  // Gmail's palette allows pairs that cannot be read; Gmail shows them all the same.
  part.style.setProperty("--paint", text && background);
  part.style.setProperty("--paint-text", text && readable(background, text));
  return part;
}

/** The text's colour if it can be read on this ground, else black or white. @param {string} background @param {string} text */
function readable(background, text) {
  const contrast = (/** @type {string} */ color) => {
    const [light, dark] = [luminance(background), luminance(color)].sort((a, b) => b - a);
    return (light + 0.05) / (dark + 0.05);
  };
  if (contrast(text) >= READABLE) return text;
  return contrast("#ffffff") >= contrast("#000000") ? "#ffffff" : "#000000";
}

/** Relative luminance (WCAG 2.2). @param {string} color "#rrggbb" */
function luminance(color) {
  const [red = 0, green = 0, blue = 0] = [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16) / 255)
    .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

export class CategoryMenu {
  #actions;
  #menu = new Menu(byId("reading"));

  /** @param {{set: (name: string, on: boolean) => void, manage: () => void}} actions */
  constructor(actions) {
    this.#actions = actions;
  }

  /** @param {HTMLElement} anchor @param {Look} look @param {Category[]} list @param {string[]} names the message's */
  open(anchor, look, list, names) {
    const known = list.filter((category) => category.is_listed || names.some((name) => same(name, category.name))).map(({ name }) => name);
    const all = [...known, ...names.filter((name) => !known.some((k) => same(k, name)))];
    this.#menu.open(anchor, look.tags, [
      ...all.map((name) => {
        const on = names.some((n) => same(n, name));
        return this.#menu.item({ role: "menuitemcheckbox", "aria-checked": String(on) }, () => this.#actions.set(name, !on),
          swatch(colorOf(name, list)), el("span", { class: "name" }, name));
      }),
      this.#menu.item({ class: "manage" }, this.#actions.manage, look.manage),
    ]);
  }
}

export class CategoryManager {
  #changed;
  /** @type {NamedColor[]} */
  labelColors = [];

  /** @param {() => Promise<void>} changed */
  constructor(changed) {
    this.#changed = changed;
  }

  /** @param {string} address @param {Look} look @param {Category[]} categories */
  open(address, look, categories) {
    const path = `${mailboxPath(address)}/categories`;
    const colors = look.hasLabels ? this.labelColors : PRESETS;
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
    const named = (/** @type {Category} */ { id, name }) => {
      if (!look.hasLabels) return el("span", { class: "name" }, name); // Outlook's keep their names
      const input = el("input", { class: "name", value: name, "aria-label": `Name of ${name}`, onchange: () => void act("PATCH", `${path}/${id}`, { name: input.value }) });
      return input;
    };
    const draw = (/** @type {Category[]} */ all) => {
      list.replaceChildren(...all.map((category) => el("li", {},
        swatch(category.color), named(category),
        colorSelect(colors, category.color, `Color of ${category.name}`, (color) => void act("PATCH", `${path}/${category.id}`, { color })),
        iconButton("deleteditems", `Delete ${category.name}`, () => void act("DELETE", `${path}/${category.id}`, undefined)))));
    };
    const name = el("input", { name: "name", required: true, "aria-label": `Name of the ${look.newTag.toLowerCase()}`, placeholder: look.newTag });
    const color = colorSelect(colors, colors[7]?.color ?? "none", `Color of the ${look.newTag.toLowerCase()}`, () => {});
    const form = el("form", { class: "add", onsubmit: (/** @type {Event} */ event) => {
      event.preventDefault();
      void act("POST", path, { name: name.value, color: color.value });
      name.value = "";
    } }, name, color, el("button", { class: "primary" }, icon("plus"), "Add"));
    const dialog = el("dialog", { class: "manager", "aria-label": look.tags, onclose: () => dialog.remove() },
      el("div", { class: "title" }, el("h2", {}, look.tags), iconButton("close", "Close", () => dialog.close())), list, form, problem);
    draw(categories);
    document.body.append(dialog);
    dialog.showModal();
  }
}

/** @param {NamedColor[]} colors @param {string} value @param {string} label @param {(color: string) => void} choose */
function colorSelect(colors, value, label, choose) {
  const other = value === "none" || colors.some(({ color }) => color === value) ? [] : [{ name: "As it is", color: value }];
  const select = el("select", { "aria-label": label, onchange: () => choose(select.value) },
    el("option", { value: "none" }, "No color"), ...[...colors, ...other].map(({ name, color }) => el("option", { value: color }, name)));
  select.value = value;
  return select;
}
