/** The people and records of a message: the first card is open, the others are folded to one line. */
import { el, facts, icon, mailto, newTab, tel } from "./dom.js";
import { cardsOf, keyOf } from "./places.js";
import { initials } from "./text.js";

/** @type {DrawParts<Place[]>} */
export function placeParts(places, ui) {
  const [first] = cardsOf(places);
  if (first && ui.opened.size === 0) ui.opened.set(keyOf(first), true); // also when another one comes before it
  return places.map((place) => ({ key: place.key, is: place, build: () => (place.cards.length > 0 ? found : notFound)(place, ui) }));
}

/** @type {Draw<Place>} */
function found({ key, address, cards }, ui) {
  const isAlone = cards.length === 1 && key;
  const nodes = cards.map((placed) => el("article", cardParts(placed, ui, isAlone ? "h2" : "h3")));
  if (isAlone) return el("li", nodes);
  const title = key ? address : ui.t("also_linked");
  return el("li.group", el("h2", short(title), el("span.meta", ui.t("records", { n: cards.length }))), nodes);
}

/** @type {Draw<Place>} */
function notFound({ address, name, tag }, { t }) {
  const second = name && name !== address && short(address, "span.meta");
  const who = el("span.who", short(name || address), second);
  return el("li.unknown", el("span.avatar", { "aria-hidden": "true" }, "?"), who, el("span.tag", t(tag || "not_found")));
}

/** @type {DrawCard} */
function cardParts({ card, reasons }, { t, text, opened }, level) {
  const { type, title: name, fields = [], url = "", linked } = card;
  const key = keyOf(card);
  const isOpen = opened.get(key) ?? false;
  const rows = reasons.slice(0, 3).map(({ label, value }) => row(t(label), value, label === "account_of" ? null : mailto(value)));
  for (const { name, label, value } of fields.slice(0, 4)) {
    const href = ["phone", "mobile"].includes(name) ? tel(value) : /^\S+@\S+$/.test(value) ? mailto(value) : null;
    rows.push(row(text.named("field", name, label), text.field(name, value), href));
  }
  const link = newTab(url, t("open_in_c4c"), t("open_named", { name }));
  const body = el("div.card-body", { id: `body-${key.replace(/\W/g, "-")}`, hidden: !isOpen }, facts(rows), link);
  const toggle = () => {
    body.hidden = !body.hidden;
    opened.set(key, !body.hidden);
    head.ariaExpanded = String(!body.hidden);
  };
  const head = el(
    "button.card-head",
    { "aria-expanded": String(isOpen), "aria-controls": body.id, "data-focus": key, click: toggle },
    el(`span.avatar.${type}`, { "aria-hidden": "true" }, initials(name)),
    el("span.name", { title: name, dir: "auto" }, name),
    el("span.tag", text.named("type", type, type), linked && el("span.good", t("linked"))),
    icon("chevron"),
  );
  return [el(level, head), body];
}

/** @type {Row} */
const row = (label, value, href) => [label, href ? el("a", { href }, value) : value];

/** @type {Short} */
const short = (text, spec = "span") => el(`${spec}.ellipsis`, { title: text, dir: "auto" }, text);
