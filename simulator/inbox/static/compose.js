/** A minimal compose window: recipients, subject, text; save as draft, send within the World. */

import { ApiError, call, mailboxPath } from "./api.js";
import { el, icon } from "./dom.js";
import { paneButton } from "./message.js";

/** @typedef {import("./api.js").Form} Form */
/** @typedef {{done: () => void, changed: () => void, recipients: (which: {to: boolean, cc: boolean, bcc: boolean}) => void, pane: import("./pane.js").Pane | null}} Actions */

const SETTLE_MS = 300; // a recipient counts as entered after this pause in typing

export class Compose {
  #address;
  #actions;
  #form;
  #problem = el("p", { class: "problem", role: "alert" });
  #timer = 0;
  #settled;
  #conversationId;
  /** @type {import("./host.js").Draft} */
  draft;

  /**
   * @param {HTMLElement} place @param {string} address @param {Partial<Form>} start
   * @param {{itemId: string | null, inReplyTo: string | null}} origin @param {Actions} actions
   */
  constructor(place, address, start, origin, actions) {
    this.#address = address;
    this.#actions = actions;
    this.#conversationId = start.conversation_id ?? null;
    this.draft = {
      key: `compose-${crypto.randomUUID()}`,
      id: start.id ?? null,
      itemId: origin.itemId,
      conversationId: this.#conversationId,
      inReplyTo: origin.inReplyTo,
      form: () => this.#values(),
      save: () => this.#save(false),
    };
    this.#form = el("form", { class: "compose", "aria-label": "New message", onsubmit: (/** @type {Event} */ event) => void this.#send(event), oninput: () => this.#typed() },
      el("div", { class: "toolbar" },
        el("button", { class: "primary" }, icon("send"), "Send"),
        el("button", { type: "button", onclick: () => void this.#keep() }, icon("drafts"), "Save draft"),
        el("button", { type: "button", onclick: () => actions.done() }, icon("close"), "Close"),
        el("span", { class: "grow" }), actions.pane && paneButton(actions.pane)),
      this.#problem,
      ...(/** @type {const} */ (["to", "cc", "bcc"])).map((name) => field(name, { to: "To", cc: "Cc", bcc: "Bcc" }[name], start[name])),
      field("subject", "Subject", start.subject),
      el("textarea", { name: "text", "aria-label": "Message text", rows: 14 }, start.text ?? ""));
    this.#settled = this.#values();
    place.replaceChildren(this.#form);
    const first = start.to ? this.#form.querySelector("textarea") : this.#form.querySelector("input");
    first?.focus();
  }

  drawPaneButton() {
    this.#form.querySelector(".pane-button")?.setAttribute("aria-pressed", String(this.#actions.pane?.isOpen));
  }

  /** @returns {Form} */
  #values() {
    const data = new FormData(this.#form);
    const text = (/** @type {string} */ name) => String(data.get(name) ?? "");
    return {
      to: text("to"), cc: text("cc"), bcc: text("bcc"), subject: text("subject"), text: text("text"),
      ...(this.draft.id ? { id: this.draft.id } : {}), ...(this.#conversationId ? { conversation_id: this.#conversationId } : {}),
    };
  }

  #typed() {
    clearTimeout(this.#timer);
    this.#timer = window.setTimeout(() => {
      const [was, is] = [this.#settled, this.#values()];
      this.#settled = is;
      const which = { to: was.to !== is.to, cc: was.cc !== is.cc, bcc: was.bcc !== is.bcc };
      if (which.to || which.cc || which.bcc) this.#actions.recipients(which);
    }, SETTLE_MS);
  }

  /** @param {boolean} send @returns {Promise<string>} what Office.js calls its item id */
  async #save(send) {
    const stored = await call("POST", `${mailboxPath(this.#address)}/messages`, { ...this.#values(), send });
    this.draft.id = stored.id;
    this.draft.itemId = stored.item_id;
    this.#actions.changed();
    return stored.item_id;
  }

  async #keep() {
    await this.#save(false);
    this.#problem.textContent = "Saved to Drafts.";
  }

  /** @param {Event} event */
  async #send(event) {
    event.preventDefault();
    try {
      await this.#save(true);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      this.#problem.textContent = error.message;
      return;
    }
    this.#actions.done();
  }
}

/** @param {string} name @param {string} label @param {string} [value] */
function field(name, label, value = "") {
  return el("label", { class: "field" }, el("span", {}, label), el("input", { name, value, autocomplete: "off" }));
}
