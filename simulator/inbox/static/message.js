/** The message pane: toolbar, headers, files and body. HTML bodies are framed where no script runs. */

import { messagePath } from "./api.js";
import { chips } from "./categories.js";
import { el, hue, icon, iconButton, initials, renew, size } from "./dom.js";
import { lookOf } from "./look.js";

/** @typedef {import("./api.js").Detail} Detail */
/** @typedef {import("./api.js").Party} Party */
/** @typedef {import("./look.js").Look} Look */
/**
 * @typedef {{pane: () => import("./pane.js").Pane | null, owner: () => import("./api.js").Owner, back: () => void, folders: () => import("./api.js").Folder[],
 *   categories: () => import("./api.js").Category[], reply: (all: boolean) => void, remove: () => void,
 *   move: (folder: string) => void, setRead: (isRead: boolean) => void, categorise: (anchor: HTMLElement) => void}} Actions
 */

export class MessageView {
  #place;
  #actions;
  /** @type {Detail | null} */
  #message = null;
  /** @type {HTMLElement | null} the body, kept while only the headers are drawn anew */
  #body = null;

  /** @param {HTMLElement} place @param {Actions} actions */
  constructor(place, actions) {
    this.#place = place;
    this.#actions = actions;
  }

  /** @param {Detail | null} [message] absent: the same again */
  draw(message = this.#message) {
    if (message?.id !== this.#message?.id) this.#body = null;
    this.#message = message;
    if (!message) {
      this.drawNotice("No message is selected", "Choose one from the list.");
      return;
    }
    const look = lookOf(this.#actions.owner());
    const path = messagePath(this.#actions.owner().address, message.id);
    this.#body ??= body(message, path);
    const [toolbar, head] = [this.#toolbar(message, look), header(message, this.#actions.categories(), look)];
    const [oldToolbar, oldHead] = this.#place.children;
    if (this.#place.lastElementChild === this.#body && oldToolbar && oldHead) {
      renew(oldToolbar, toolbar); // the body stays where it is, too: a frame that is moved loads anew
      renew(oldHead, head);
    } else {
      this.#place.replaceChildren(...[toolbar, head, files(message, path)].filter((part) => part !== null), this.#body);
    }
  }

  drawPaneButton() {
    this.#place.querySelector(".pane-button")?.setAttribute("aria-pressed", String(this.#actions.pane()?.isOpen));
  }

  /** @param {string} title @param {string} text */
  drawNotice(title, text) {
    this.#message = null;
    this.#body = null;
    this.#place.replaceChildren(el("div", { class: "notice" }, icon("unread"), el("h2", {}, title), el("p", { class: "muted" }, text)));
  }

  /** @param {Detail} message @param {Look} look */
  #toolbar(message, look) {
    const { reply, remove, setRead, categorise, move, folders, back } = this.#actions;
    const pane = this.#actions.pane();
    const tagButton = el("button", { type: "button", "aria-haspopup": "menu", onclick: () => categorise(tagButton) }, icon("tag"), look.tag);
    const places = folders();
    const archive = look.hasLabels && message.folder === "INBOX" && places.find((folder) => folder.well_known === "archive");
    const target = el("select", { "aria-label": "Move to", onchange: () => move(target.value) },
      el("option", { value: "" }, "Move to"), ...targets(message, places, look).map((folder) => el("option", { value: folder.id }, folder.name)));
    return el("div", { class: "toolbar", role: "toolbar", "aria-label": "Message actions" },
      iconButton("back", "Back to the list", back, { class: "icon-button back" }),
      el("button", { type: "button", onclick: () => reply(false) }, icon("reply"), "Reply"),
      iconButton("replyAll", "Reply all", () => reply(true)),
      archive && iconButton("archive", "Archive", () => move(archive.id)),
      iconButton("deleteditems", "Delete", remove),
      iconButton("unread", message.is_read ? "Mark as unread" : "Mark as read", () => setRead(!message.is_read)),
      tagButton, target, el("span", { class: "grow" }),
      pane && paneButton(pane));
  }
}

/**
 * Where a person can put a message. In Gmail what was sent, or is a draft, stays so: it can have a label or be thrown away.
 * @param {Detail} message @param {import("./api.js").Folder[]} places @param {Look} look
 */
function targets(message, places, look) {
  const others = places.filter((folder) => folder.id !== message.folder && !(look.hasLabels && message.categories.includes(folder.name)));
  if (!look.hasLabels) return others;
  const isOwn = ["SENT", "DRAFT"].includes(message.folder);
  const never = ["sentitems", "drafts", "archive", ...(isOwn ? ["inbox"] : [])];
  return others.filter(({ well_known }) => !well_known || !never.includes(well_known));
}

/** @param {import("./pane.js").Pane} pane */
export function paneButton(pane) {
  const label = "View context of SAP Cloud for Customer";
  return el("button", { type: "button", class: "pane-button", "aria-pressed": String(pane.isOpen), title: label, onclick: () => (pane.isOpen ? pane.close() : pane.open()) },
    el("span", { class: "sap", "aria-hidden": "true" }, "C4C"), el("span", { class: "label" }, label));
}

/** @param {Detail} message @param {import("./api.js").Category[]} categories @param {Look} look */
function header(message, categories, look) {
  const { from, sender } = message;
  const who = from ? from.name || from.address : "(no sender)";
  const onBehalf = sender && from && sender.address.toLowerCase() !== from.address.toLowerCase();
  const sent = new Date(message.received_at).toLocaleString(undefined, { dateStyle: "full", timeStyle: "short" });
  return el("header", { class: "head" },
    el("h2", { class: "subject" }, message.subject || "(no subject)"),
    message.categories.length > 0 && chips(message.categories, categories, look),
    el("div", { class: "sender" },
      el("span", { class: `avatar hue${hue(from?.address ?? "")}`, "aria-hidden": "true" }, initials(who)),
      el("div", { class: "parties" },
        el("div", {}, el("strong", {}, who), from && from.address !== who && el("span", { class: "muted" }, ` <${from.address}>`),
          onBehalf && el("span", { class: "muted" }, ` sent by ${sender.name || sender.address}`)),
        recipients("To", message.to), recipients("Cc", message.cc), recipients("Bcc", message.bcc)),
      el("time", { class: "muted", datetime: message.received_at }, sent)),
    details(message, look));
}

/** @param {string} label @param {Party[]} parties */
function recipients(label, parties) {
  if (!parties.length) return null;
  return el("div", { class: "recipients" }, el("span", { class: "muted" }, `${label}: `),
    ...parties.flatMap((party, index) => [index ? "; " : "", el("span", { title: party.address }, party.name || party.address)]));
}

/** @param {Detail} message @param {Look} look */
function details(message, look) {
  const ids = {
    outlook: [["Item class", message.item_class], ["Immutable id", message.id], ["EWS id", message.item_id]],
    exchange: [["Item class", message.item_class], ["EWS id", message.item_id]],
    gmail: [["Message id", message.item_id], ["Thread id", message.conversation_id]],
  };
  const facts = [["Message-ID", message.internet_message_id || "none"], ...ids[look.name]];
  return el("details", {}, el("summary", {}, "Internet headers and ids"),
    el("dl", {}, ...facts.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)])),
    el("pre", { tabindex: "0", "aria-label": "Internet headers" }, message.headers));
}

/** @param {Detail} message @param {string} path */
function files(message, path) {
  const shown = message.attachments.filter((file) => !file.inline);
  if (!shown.length) return null;
  return el("ul", { class: "files", "aria-label": "Attachments" }, ...shown.map((file) => el("li", {},
    el("a", { href: `${path}/attachments/${file.path}`, download: file.name },
      icon("clip"), el("span", { class: "name" }, file.name), el("span", { class: "meta" }, size(file.size))))));
}

/** @param {Detail} message @param {string} path */
function body(message, path) {
  if (!message.has_html) return el("div", { class: "body text" }, message.text ?? "");
  // Same origin so that its height can be read; without allow-scripts nothing in it runs.
  const frame = el("iframe", { class: "body html", title: "Message body", sandbox: "allow-same-origin", src: `${path}/html` });
  frame.addEventListener("load", () => {
    const page = frame.contentDocument;
    if (!page) return;
    for (const link of page.links) link.target = "_blank";
    frame.style.height = `${page.documentElement.scrollHeight + 16}px`;
  });
  return frame;
}
