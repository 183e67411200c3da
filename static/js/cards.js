/** The people and records of a message: one place per address; the first card is open, the others are folded to one line. */

/** @import {Card, Field, Part, Place, PlacedCard, Ui} from "./types.js" */
import { el, facts, icon, mailto, outside, tel } from "./dom.js";
import { cardsOf, keyOf } from "./places.js";
import { initials, visible } from "./text.js";

/** @param {Place[]} places @param {Map<string, boolean>} opened what the person opened or folded, by card @param {Ui} ui @returns {Part[]} */
export function placeParts(places, opened, ui) {
  const [first] = cardsOf(places);
  if (first && !opened.has(keyOf(first))) opened.set(keyOf(first), true); // and it stays so when another one comes first
  return places.map((place) => ({ key: `at ${place.key}`, is: place, build: () => (place.cards.length > 0 ? found : notFound)(place, opened, ui) }));
}

/** @param {Place} place @param {Map<string, boolean>} opened @param {Ui} ui */
function found({ key, address, cards }, opened, ui) {
  const nodes = cards.map((placed) => cardNode(placed, opened, ui));
  if (cards.length === 1 && key) return el("li", nodes);
  const title = key ? visible(address) : ui.t("also_linked");
  const count = el("span.meta", ui.t("records", { n: cards.length }));
  return el("li.group", el("h2", el("span.ellipsis", { title, dir: "auto" }, title), count), nodes);
}

/** @param {Place} place @param {Map<string, boolean>} _ @param {Ui} ui */
function notFound({ address, name, checking }, _, { t }) {
  const [title, second] = [visible(name || address), visible(address)];
  return el(
    "li.unknown",
    el("span.avatar", { "aria-hidden": "true" }, "?"),
    el("span.who", el("span.ellipsis", { title, dir: "auto" }, title), second !== title && el("span.meta.ellipsis", { title: second, dir: "auto" }, second)),
    el("span.tag", t(checking ? "checking" : "not_found")),
  );
}

/** @param {PlacedCard} placed @param {Map<string, boolean>} opened @param {Ui} ui */
function cardNode({ card, reasons }, opened, { t, locale }) {
  const { type, title, fields = [], url, linked } = card;
  const key = keyOf(card);
  const isOpen = opened.get(key) ?? false;
  const name = visible(title);
  const why = reasons.slice(0, 3).map((reason) => {
    const value = reason.label === "account_of" ? visible(reason.title) : el("a", { href: mailto(reason.address) }, visible(reason.address));
    return /** @type {[string, Node | string]} */ ([t(reason.label), value]);
  });
  const what = fields.slice(0, 4).map((field) => /** @type {[string, Node | string]} */ ([locale.named("field", field.name, field.label), valueOf(field)]));
  const body = el(
    "div.card-body",
    { id: `body-${key.replace(/\W/g, "-")}`, hidden: !isOpen },
    facts([...why, ...what]),
    outside(url, t("open_in_c4c"), t("open_named", { name })),
  );
  const head = el(
    "button.card-head",
    { type: "button", "aria-expanded": String(isOpen), "aria-controls": body.id, "data-focus": key },
    el(type === "account" ? "span.avatar.square" : "span.avatar", { "aria-hidden": "true" }, initials(name)),
    el("span.name", { title: name, dir: "auto" }, name),
    linked && el("span.tag.linked", icon("link"), t("linked")),
    el("span.tag", locale.named("type", type, type)),
    icon("chevron"),
  );
  head.addEventListener("click", () => {
    opened.set(key, body.hidden);
    head.setAttribute("aria-expanded", String(body.hidden));
    body.hidden = !body.hidden;
  });
  return el("article.card", el("h3", head), body);
}

/** @param {Field} field */
function valueOf({ name, value }) {
  const href = ["phone", "mobile"].includes(name) ? tel(value) : /^\S+@\S+$/.test(value) ? mailto(value) : null;
  return href ? el("a", { href }, visible(value)) : visible(value);
}
