/**
 * The Office dialog: a window, or a frame over the client, that a pane opened by displayDialogAsync.
 *
 * As Outlook on the web, the host asks before it opens a window (unless the pane said not to), and only one dialog is open.
 */

import { el } from "./dom.js";

const CLOSED_BY_USER = 12006;
const NOT_LOADED = 12002;
const WATCH_MS = 300;

export class Dialog {
  #raise;
  /** @type {Window | null} */
  #window = null;
  /** @type {HTMLDialogElement | null} */
  #overlay = null;
  /** @type {MessagePort | null} */
  #port = null;
  #watch = 0;
  #isAsking = false;

  /** @param {(type: string, details: object) => void} raise an event in the pane */
  constructor(raise) {
    this.#raise = raise;
  }

  /** @param {MessageEventSource | null} source */
  isSource(source) {
    return this.#window !== null && source === this.#window;
  }

  /** @param {string} url @param {{height?: number, width?: number, displayInIframe?: boolean, promptBeforeOpen?: boolean}} options percentages of the screen */
  async open(url, { height = 80, width = 80, displayInIframe = false, promptBeforeOpen = true }) {
    if (this.#window || this.#isAsking) throw { code: 12007, name: "DialogAlreadyOpened", message: "A dialog box is already opened from this host window." };
    if (displayInIframe) {
      this.#openFrame(url, width, height);
      return;
    }
    this.#isAsking = true;
    const allowed = !promptBeforeOpen || (await this.#ask(url));
    this.#isAsking = false;
    if (!allowed) throw { code: 12009, name: "DialogIgnored", message: "The user chose to ignore the dialog box." };
    const features = `popup,width=${(screen.availWidth * width) / 100},height=${(screen.availHeight * height) / 100}`;
    this.#window = window.open(url, "office-dialog", features);
    if (!this.#window) throw { code: 12011, name: "PopupBlocked", message: "The browser blocks the dialog box." };
    this.#watch = window.setInterval(() => {
      if (this.#window?.closed) this.#closedByUser();
    }, WATCH_MS);
  }

  /** @param {MessageEventSource | null} source @param {string} origin @param {object} welcome */
  welcome(source, origin, welcome) {
    const { port1, port2 } = new MessageChannel();
    this.#port?.close(); // a dialog that went through several pages greets anew on each
    this.#port = port1;
    port1.onmessage = ({ data }) => {
      if (data.call !== "messageParent") return;
      const [message, target] = data.args;
      if (!target || target === "*" || target === origin) this.#raise("dialogMessageReceived", { message, origin });
      port1.postMessage({ id: data.id, value: null });
    };
    /** @type {Window} */ (source).postMessage({ office: "welcome", welcome }, origin, [port2]);
  }

  /** @param {string} message */
  tell(message) {
    this.#port?.postMessage({ event: "raise", type: "dialogParentMessageReceived", details: { message } });
  }

  close() {
    clearInterval(this.#watch);
    this.#port?.close();
    this.#port = null;
    const opened = this.#window;
    this.#window = null;
    this.#overlay?.remove();
    if (!this.#overlay) opened?.close();
    this.#overlay = null;
  }

  /** The window stays, with a page of the browser's own in it. */
  fail() {
    this.#window?.location.replace("about:blank");
    this.#raise("dialogEventReceived", { error: NOT_LOADED });
  }

  #closedByUser() {
    this.close();
    this.#raise("dialogEventReceived", { error: CLOSED_BY_USER });
  }

  /** @param {string} url @param {number} width @param {number} height */
  #openFrame(url, width, height) {
    const frame = el("iframe", { src: url, title: "Add-in dialog" });
    const close = el("button", { type: "button", onclick: () => this.#closedByUser() }, "Close");
    this.#overlay = el("dialog", { class: "office-dialog", oncancel: () => this.#closedByUser() }, el("div", { class: "title" }, "SAP Cloud for Customer", close), frame);
    this.#overlay.style.width = `${width}vw`;
    this.#overlay.style.height = `${height}vh`;
    document.body.append(this.#overlay);
    this.#overlay.showModal();
    this.#window = frame.contentWindow;
  }

  /** @param {string} url @returns {Promise<boolean>} */
  #ask(url) {
    return new Promise((resolve) => {
      const prompt = el("dialog", { class: "prompt", onclose: () => { prompt.remove(); resolve(prompt.returnValue === "allow"); } },
        el("p", {}, "SAP Cloud for Customer wants to display a new window."),
        el("p", { class: "muted" }, new URL(url).origin),
        el("form", { method: "dialog", class: "buttons" },
          el("button", { value: "allow", class: "primary" }, "Allow"),
          el("button", { value: "ignore" }, "Ignore")));
      document.body.append(prompt);
      prompt.showModal();
    });
  }
}
