/** Light, dark or high contrast: of the client's page, and what it tells add-ins as Office theme. */

import { el } from "./dom.js";

/** @typedef {"auto" | "light" | "dark" | "contrast"} Choice */

const CHOICES = { auto: "Automatic", light: "Light", dark: "Dark", contrast: "High contrast" };
const OFFICE = {
  light: { background: "#FFFFFF", text: "#242424", control: "#FFFFFF", controlText: "#242424" },
  dark: { background: "#1F1F1F", text: "#FFFFFF", control: "#292929", controlText: "#FFFFFF" },
  contrast: { background: "#000000", text: "#FFFFFF", control: "#000000", controlText: "#FFFF00" },
};

export class Theme extends EventTarget {
  #prefersDark = matchMedia("(prefers-color-scheme: dark)");
  /** @type {Choice} */
  choice = "auto";

  select = el("select", { "aria-label": "Theme", onchange: () => this.choose(this.select.value) },
    ...Object.entries(CHOICES).map(([value, label]) => el("option", { value }, label)));

  /** @param {string} choice */
  constructor(choice) {
    super();
    this.#prefersDark.addEventListener("change", () => this.#apply());
    this.choice = /** @type {Choice} */ (choice in CHOICES ? choice : "auto");
    this.select.value = this.choice;
    this.#apply();
  }

  /** @param {string} choice */
  choose(choice) {
    this.choice = /** @type {Choice} */ (choice);
    this.#apply();
  }

  get #shown() {
    if (this.choice !== "auto") return this.choice;
    return this.#prefersDark.matches ? "dark" : "light";
  }

  /** What Office.context.officeTheme holds. */
  get office() {
    return OFFICE[this.#shown];
  }

  #apply() {
    document.documentElement.dataset.theme = this.#shown;
    this.dispatchEvent(new Event("change"));
  }
}
