/** The list of messages: one tab stop, arrow keys move and open, as in a mail client. */

import { chips } from "./categories.js";
import { el, icon, renew, spoken } from "./dom.js";

/** @typedef {import("./api.js").Row} Row */
/** @typedef {import("./api.js").View} View */
/** @typedef {import("./look.js").Look} Look */

export class MessageList {
  #actions;
  #filter = "";
  /** @type {View | null} */
  #view = null;
  /** @type {Look | null} */
  #look = null;
  #selected = "";
  #title = el("h2");
  #count = el("span", { class: "meta" });
  #rows;

  /** @param {HTMLElement} place @param {{open: (id: string) => void, remove: () => void}} actions */
  constructor(place, actions) {
    this.#actions = actions;
    this.#rows = el("div", {
      id: "messages", role: "listbox", "aria-label": "Messages", onkeydown: (/** @type {KeyboardEvent} */ event) => this.#key(event),
    });
    const search = el("input", { type: "search", placeholder: "Filter", "aria-label": "Filter messages", oninput: () => {
      this.#filter = search.value.toLowerCase();
      this.#redraw();
    } });
    place.append(
      el("header", {},
        el("div", { class: "heading" }, this.#title, this.#count),
        el("label", { class: "search" }, icon("search"), search)),
      this.#rows);
  }

  /** @param {Look} look @param {View} view @param {string} selected */
  draw(look, view, selected) {
    this.#look = look;
    this.#view = view;
    this.#selected = selected;
    this.#redraw();
  }

  /** @param {string} id */
  select(id) {
    this.#selected = id;
    this.#redraw();
    this.#row(id)?.scrollIntoView({ block: "nearest" });
  }

  /** The message to open when this one leaves the list. @param {string} id */
  neighbour(id) {
    const ids = this.#shown().map((row) => row.id);
    const at = ids.indexOf(id);
    return ids[at + 1] ?? ids[at - 1] ?? "";
  }

  /** @returns {Row[]} */
  #shown() {
    const text = (/** @type {Row} */ row) => [row.subject, row.from?.name, row.from?.address, ...row.categories].join(" ").toLowerCase();
    return (this.#view?.messages ?? []).filter((row) => !this.#filter || text(row).includes(this.#filter));
  }

  #redraw() {
    if (!this.#view || !this.#look) return;
    const look = this.#look;
    const rows = this.#shown();
    const hadFocus = this.#rows.contains(document.activeElement);
    const folder = this.#view.folders.find((f) => f.id === this.#view?.folder);
    const isSent = folder?.well_known === "sentitems" || folder?.well_known === "drafts";
    this.#title.textContent = folder?.name ?? "";
    this.#count.textContent = `${rows.length}`;
    const stop = rows.some((row) => row.id === this.#selected) ? this.#selected : rows[0]?.id;
    renew(this.#rows, el("div", {},
      ...rows.map((row) => this.#option(row, look, isSent, row.id === stop)),
      !rows.length && el("p", { class: "empty" }, this.#filter ? "No message matches the filter." : look.emptyPlace)));
    if (hadFocus) this.#row(stop ?? "")?.focus({ preventScroll: true });
  }

  /** @param {string} id @returns {HTMLElement | undefined} */
  #row(id) {
    return /** @type {HTMLElement[]} */ ([...this.#rows.children]).find((row) => row.dataset.id === id);
  }

  /** @param {Row} row @param {Look} look @param {boolean} isSent @param {boolean} isStop */
  #option(row, look, isSent, isStop) {
    const parties = isSent ? row.to : row.from ? [row.from] : [];
    const who = parties.map((party) => party.name || party.address).join("; ") || (isSent ? "(no recipient)" : "(no sender)");
    const subject = row.subject || "(no subject)";
    const time = when(row.received_at);
    const tags = row.categories.length > 0 && chips(row.categories, this.#view?.categories ?? [], look);
    return el("div", {
      role: "option", class: row.is_read ? "row" : "row unread", "data-id": row.id, tabindex: isStop ? "0" : "-1",
      "aria-selected": String(row.id === this.#selected),
      onclick: () => this.#actions.open(row.id),
    },
      !row.is_read && spoken("Unread "),
      el("div", { class: "line" }, el("span", { class: "who" }, row.is_draft && el("span", { class: "draft" }, "Draft "), who),
        row.has_attachments && icon("clip"), row.has_attachments && spoken(" Has attachments "), el("time", { datetime: row.received_at }, time)),
      el("div", { class: "subject" }, look.hasLabels && this.#place(row), look.hasLabels && tags, el("span", { class: "text" }, subject)),
      el("div", { class: "preview" }, row.preview || " "),
      !look.hasLabels && tags);
  }

  /** Where a message is beside the place that is shown, as Gmail tells it. @param {Row} row */
  #place(row) {
    const place = this.#view?.folders.find((folder) => folder.id === row.folder);
    const isNews = place && place.id !== this.#view?.folder && place.well_known !== "archive" && place.well_known !== "sentitems";
    return isNews ? el("span", { class: "place" }, place.name, " ") : null;
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const rows = this.#shown();
    const at = rows.findIndex((row) => row.id === /** @type {HTMLElement} */ (document.activeElement).dataset.id);
    const moves = /** @type {Record<string, number>} */ ({ ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: rows.length - 1, PageDown: at + 8, PageUp: at - 8 });
    if (event.key in moves) {
      const to = rows[Math.max(0, Math.min(rows.length - 1, moves[event.key] ?? at))];
      event.preventDefault();
      if (!to) return;
      this.#row(to.id)?.focus();
      this.#actions.open(to.id);
    } else if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      if (rows[at]) this.#actions.open(rows[at].id);
    } else if (event.key === "Delete") {
      this.#actions.remove();
    }
  }
}

/** The time for today, the day for this week, else the date. @param {string} iso */
function when(iso) {
  const [at, now] = [new Date(iso), new Date()];
  if (at.toDateString() === now.toDateString()) return at.toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit" });
  const days = (now.getTime() - at.getTime()) / 86_400_000;
  if (days >= 0 && days < 6) return at.toLocaleDateString(undefined, { weekday: "short", hour: "2-digit", minute: "2-digit" });
  const year = at.getFullYear() === now.getFullYear() ? undefined : "numeric";
  return at.toLocaleDateString(undefined, { day: "numeric", month: "short", year });
}
