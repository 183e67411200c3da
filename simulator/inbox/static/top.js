/** The bar at the top: which mail client this is, whose mailbox is open, and the choice of another. */

import { el, hue, icon, initials } from "./dom.js";
import { lookOf } from "./look.js";
import { Menu } from "./menu.js";

/** @typedef {import("./api.js").Owner} Owner */

export class TopBar {
  #go;
  #title = el("h1");
  #hosted = el("span", { class: "hosted" });
  #account = el("button", { type: "button", class: "account", "aria-haspopup": "menu", onclick: () => this.#open() });
  #menu;
  /** @type {Owner[]} */
  #owners = [];
  /** @type {Owner | null} */
  #current = null;

  /** @param {HTMLElement} place @param {HTMLElement} theme @param {(address: string) => void} go open a mailbox */
  constructor(place, theme, go) {
    this.#go = go;
    place.append(this.#title, this.#hosted, el("span", { class: "tag" }, "simulator"), el("span", { class: "grow" }), theme, this.#account);
    this.#menu = new Menu(place);
  }

  /** @param {Owner[]} owners @param {Owner | null} current */
  draw(owners, current) {
    [this.#owners, this.#current] = [owners, current];
    const look = current && lookOf(current);
    document.documentElement.dataset.mail = look?.name ?? "outlook";
    this.#title.textContent = look?.title ?? "Mail";
    this.#hosted.textContent = look?.hosted ?? "";
    this.#account.replaceChildren(...(current ? [avatar(current), who(current, current.address)] : ["Choose a mailbox"]), icon("chevron"));
    this.#account.title = "Choose a mailbox";
  }

  #open() {
    const kinds = [...new Set(this.#owners.map((owner) => lookOf(owner).hosted))];
    this.#menu.open(this.#account, "Mailboxes", kinds.map((kind) => {
      const owners = this.#owners.filter((owner) => lookOf(owner).hosted === kind);
      return el("div", { role: "group", "aria-label": kind }, el("div", { class: "kind", "aria-hidden": "true" }, kind), ...owners.map((owner) => this.#item(owner)));
    }));
  }

  /** @param {Owner} owner */
  #item(owner) {
    const isCurrent = String(owner.address === this.#current?.address);
    return this.#menu.item({ role: "menuitemradio", "aria-checked": isCurrent, class: "mailbox" }, () => this.#go(owner.address),
      avatar(owner), who(owner, owner.address + (owner.provisioned ? "" : " (not set up)")));
  }
}

/** @param {Owner} owner */
const avatar = (owner) => el("span", { class: `avatar hue${hue(owner.address)}`, "aria-hidden": "true" }, initials(owner.name));

/** @param {Owner} owner @param {string} below */
const who = (owner, below) => el("span", { class: "who" }, el("span", { class: "name" }, owner.name), " ", el("span", { class: "meta" }, below));
