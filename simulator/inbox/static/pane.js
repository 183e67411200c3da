/** The frame around the add-in or add-on: open and close, pin, and a width from 300 to 600 pixels that this tab remembers. */

import { byId, el, iconButton } from "./dom.js";

const [NARROWEST, WIDEST] = [300, 600];

export class Pane {
  #guest;
  #changed;
  #place = byId("pane");
  #splitter = byId("splitter");
  #content = el("div", { class: "content" });
  #pin = iconButton("pin", "Pin", () => this.#setPinned(!this.isPinned), { "aria-pressed": "true" });
  #isSuspended = false;
  isPinned = true;
  wasOpen = sessionStorage.getItem("pane") === "open";

  /** @param {import("./guest.js").Guest} guest @param {() => void} changed */
  constructor(guest, changed) {
    this.#guest = guest;
    this.#changed = changed;
    this.#place.append(el("header", {}, el("strong", {}, "SAP Cloud for Customer"), el("span", { class: "grow" }), this.#pin,
      iconButton("close", "Close", () => this.close())), this.#content);
    this.#splitter.addEventListener("pointerdown", (event) => this.#drag(event));
    this.#splitter.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: 10, ArrowRight: -10 }[event.key];
      if (step) this.#setWidth(this.#width + step);
    });
    this.#setWidth(Number(sessionStorage.getItem("pane-width")) || 320);
  }

  get isOpen() {
    return this.#guest.isOpen;
  }

  open() {
    this.#place.hidden = false;
    this.#guest.open(this.#content);
    sessionStorage.setItem("pane", "open");
    this.#changed();
  }

  close() {
    this.#guest.close();
    this.#place.hidden = true;
    sessionStorage.removeItem("pane");
    this.#changed();
  }

  /** Close for as long as a message is written: a pin in read mode does not carry over to compose. */
  suspend() {
    this.#isSuspended = this.isPinned;
    this.#guest.close();
    this.#place.hidden = true;
  }

  resume() {
    this.#guest.close();
    if (this.#isSuspended) this.#guest.open(this.#content);
    this.#place.hidden = !this.#isSuspended;
    this.#isSuspended = false;
  }

  /** @param {boolean} pinned */
  #setPinned(pinned) {
    this.isPinned = pinned;
    this.#pin.setAttribute("aria-pressed", String(pinned));
  }

  get #width() {
    return Number(this.#splitter.getAttribute("aria-valuenow"));
  }

  /** @param {number} width */
  #setWidth(width) {
    const kept = Math.round(Math.max(NARROWEST, Math.min(WIDEST, width)));
    this.#place.style.width = `${kept}px`;
    for (const [name, value] of [["valuenow", kept], ["valuemin", NARROWEST], ["valuemax", WIDEST]]) {
      this.#splitter.setAttribute(`aria-${name}`, String(value));
    }
    sessionStorage.setItem("pane-width", String(kept));
  }

  /** @param {PointerEvent} event */
  #drag(event) {
    const [from, width] = [event.clientX, this.#width];
    const move = (/** @type {PointerEvent} */ moved) => this.#setWidth(width + from - moved.clientX);
    const stop = () => {
      document.body.classList.remove("dragging");
      this.#splitter.removeEventListener("pointermove", move);
    };
    this.#splitter.setPointerCapture(event.pointerId);
    this.#splitter.addEventListener("pointermove", move);
    this.#splitter.addEventListener("pointerup", stop, { once: true });
    document.body.classList.add("dragging");
  }
}
