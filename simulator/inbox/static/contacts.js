/** The contacts of the mailbox that is open, over the client: what the server mirrors, to be watched and edited. */

import { ApiError, call, mailboxPath } from "./api.js";
import { announce, el, icon, iconButton } from "./dom.js";

/** @typedef {import("./api.js").Category} Category */
/** @typedef {import("./look.js").Look} Look */
/** @typedef {Record<string, string> & {id: string, place: string, categories: string[]}} Card */
/** @typedef {{places: {id: string, name: string}[], place: string, contacts: Card[]}} Shelf */

const POLL_MS = 1000;
const FIELDS = /** @type {const} */ ([
  ["given_name", "First name"], ["surname", "Last name"], ["company", "Company"], ["job_title", "Job title"],
  ["email", "E-mail"], ["business_phone", "Phone"], ["mobile_phone", "Mobile"], ["notes", "Notes"],
]);

/** @param {Card} card */
const nameOf = (card) => [card.given_name, card.surname].filter(Boolean).join(" ") || card.company || card.email || "(no name)";

export class Contacts {
  #path;
  #look;
  #categories;
  /** @type {Shelf} */ #shelf = { places: [], place: "", contacts: [] };
  /** @type {Card | null} */ #card = null; // null: a new one
  #seen = "";
  #timer = 0;
  #place = el("select", { "aria-label": "Folder", onchange: () => void this.#go() });
  #count = el("span", { class: "meta" });
  #list = el("ul", { class: "cards", "aria-label": "Contacts" });
  #form = el("form", { "aria-label": "Contact", onsubmit: (/** @type {Event} */ event) => void this.#save(event) });
  #problem = el("p", { class: "problem", role: "alert" });
  #dialog;

  /** @param {string} address @param {Look} look @param {Category[]} categories */
  constructor(address, look, categories) {
    this.#path = `${mailboxPath(address)}/contacts`;
    this.#look = look;
    this.#categories = categories;
    const close = iconButton("close", "Close", () => this.#dialog.close());
    const add = el("button", { type: "button", onclick: () => this.#edit(null) }, icon("plus"), "New contact");
    this.#dialog = el("dialog", { class: "contacts", "aria-label": "Contacts", onclose: () => this.#end() },
      el("div", { class: "title" }, el("h2", {}, "Contacts"), close),
      el("div", { class: "heading" }, this.#place, this.#count, el("span", { class: "grow" }), add),
      el("div", { class: "columns" }, this.#list, el("div", {}, this.#form, this.#problem)));
  }

  async open() {
    document.body.append(this.#dialog);
    this.#dialog.showModal();
    await this.#refresh();
    this.#edit(null);
    this.#poll();
  }

  #end() {
    clearInterval(this.#timer);
    this.#dialog.remove();
  }

  #poll() {
    this.#timer = window.setInterval(() => document.hidden || void this.#refresh(), POLL_MS);
  }

  async #go() {
    await this.#refresh();
    this.#edit(null);
  }

  async #refresh() {
    const shelf = await call("GET", `${this.#path}?${new URLSearchParams({ place: this.#place.value })}`).catch(() => null);
    const seen = JSON.stringify(shelf);
    if (!shelf || seen === this.#seen) return;
    [this.#shelf, this.#seen] = [shelf, seen];
    this.#place.replaceChildren(...this.#shelf.places.map(({ id, name }) => el("option", { value: id }, name)));
    this.#place.value = this.#shelf.place;
    this.#count.textContent = String(this.#shelf.contacts.length);
    this.#draw();
  }

  #draw() {
    const focused = document.activeElement instanceof HTMLElement && this.#list.contains(document.activeElement) ? document.activeElement.dataset.id : null;
    this.#list.replaceChildren(...this.#shelf.contacts.map((card) => el("li", {},
      el("button", { type: "button", "data-id": card.id, "aria-current": card.id === this.#card?.id ? "true" : null, onclick: () => this.#edit(card) },
        el("span", { class: "name" }, nameOf(card)),
        el("span", { class: "meta" }, [card.company, ...card.categories].filter(Boolean).join(", "))))));
    if (!this.#shelf.contacts.length) this.#list.append(el("li", { class: "empty" }, this.#look.emptyPlace));
    if (focused) [...this.#list.querySelectorAll("button")].find(({ dataset }) => dataset.id === focused)?.focus();
  }

  /** @param {Card | null} card */
  #edit(card) {
    this.#card = card;
    this.#problem.textContent = "";
    const field = (/** @type {string} */ name, /** @type {string} */ label) => {
      const input = name === "notes" ? el("textarea", { name, rows: 3 }, card?.[name] ?? "") : el("input", { name, value: card?.[name] ?? "", autocomplete: "off" });
      return el("label", {}, el("span", { class: "meta" }, label), input);
    };
    const folders = () => {
      const select = el("select", { name: "place" }, ...this.#shelf.places.map(({ id, name }) => el("option", { value: id }, name)));
      select.value = card?.place ?? this.#shelf.place;
      return el("label", {}, el("span", { class: "meta" }, "Folder"), select);
    };
    this.#form.replaceChildren(
      ...FIELDS.map(([name, label]) => field(name, label)),
      ...(this.#look.hasLabels ? [] : [folders()]),
      ...(card ? [this.#tags(card)] : []),
      el("div", { class: "buttons" },
        el("button", { class: "primary" }, card ? "Save" : "Create"),
        card && el("button", { type: "button", onclick: () => void this.#act("DELETE", "Contact deleted") }, "Delete")));
    this.#draw();
  }

  /** @param {Card} card */
  #tags(card) {
    const listed = this.#look.hasLabels ? this.#shelf.places.map(({ name }) => name).slice(2) : this.#categories.map(({ name }) => name);
    return el("fieldset", {}, el("legend", { class: "meta" }, this.#look.tags), ...[...new Set([...listed, ...card.categories])].map((name) =>
      el("label", {}, el("input", { type: "checkbox", name: "category", value: name, checked: card.categories.includes(name) }), name)));
  }

  /** @param {Event} event */
  async #save(event) {
    event.preventDefault();
    const data = new FormData(this.#form);
    const values = Object.fromEntries([...data].filter(([name, value]) => name !== "category" && value !== (this.#card?.[name] ?? "")));
    if (this.#card) await this.#act("PATCH", "Contact saved", { ...values, categories: data.getAll("category") });
    else await this.#act("POST", "Contact created", { place: this.#shelf.place, ...values });
  }

  /** @param {string} method @param {string} done @param {object} [body] */
  async #act(method, done, body) {
    try {
      await call(method, this.#card ? `${this.#path}/${encodeURIComponent(this.#card.id)}` : this.#path, body);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      this.#problem.textContent = error.message;
      return;
    }
    announce(done);
    await this.#refresh();
    this.#edit(this.#shelf.contacts.find(({ id }) => id === this.#card?.id) ?? null);
  }
}
