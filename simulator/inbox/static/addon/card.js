/**
 * Google's Card v1 JSON as Gmail draws it: the subset that our add-on may use. A member, a widget or a value that Gmail does not
 * know, or that is not in the subset, is an error, as a mistake in it must not pass for a card.
 *
 * Source: the description of google.apps.card.v1 (PyPI google-apps-card) and Google's pages on cards (domain notes on Gmail, 1.3).
 */

import { el, icon, iconButton } from "../dom.js";
import { markup } from "./markup.js";

/** @typedef {import("./runtimes.js").FormInputs} FormInputs */
/** @typedef {import("./runtimes.js").OpenLink} OpenLink */
/** @typedef {{function: string, parameters?: {key: string, value: string}[], loadIndicator?: string}} Action */
/** @typedef {{action: Action} | {openLink: OpenLink}} OnClick */
/** @typedef {Record<string, any>} Json a part of a card, whose members are checked where they are read */
/** @typedef {Json & {sections: Json[]}} Card */
/**
 * What a card's parts need of the pane: `act` runs an action of the card that is shown, `open` a link that is not a plain one,
 * `mayOpen` says whether the add-on may lead to an address.
 * @typedef {{name: string, act: (action: Action) => void, open: (link: OpenLink) => void, mayOpen: (url: string) => boolean,
 *   image: (url: string) => string, back: (() => void) | null, menu: (anchor: HTMLElement, actions: Json[]) => void, hasMenu: boolean}} Surface
 */

const MOST_WIDGETS = 100; // of a card; Gmail ignores the rest

/** Google's icons by name -> one of ours, which say about the same; the others are a dot. @type {Record<string, import("../dom.js").IconName>} */
const ICONS = {
  BOOKMARK: "tag", CLOCK: "clock", DESCRIPTION: "page", EMAIL: "unread", EVENT_PERFORMER: "contacts", INVITE: "unread",
  MEMBERSHIP: "tag", MULTIPLE_PEOPLE: "people", PERSON: "contacts", PHONE: "phone", STAR: "star", STORE: "house", TICKET: "tag",
};
const OTHER_ICONS = [
  "AIRPLANE", "BUS", "CAR", "CONFIRMATION_NUMBER_ICON", "DOLLAR", "EVENT_SEAT", "FLIGHT_ARRIVAL", "FLIGHT_DEPARTURE", "HOTEL",
  "HOTEL_ROOM_TYPE", "MAP_PIN", "OFFER", "RESTAURANT_ICON", "SHOPPING_CART", "TRAIN", "VIDEO_CAMERA", "VIDEO_PLAY",
];

let fields = 0; // so that every label finds its own field

/** A card that Gmail would refuse. */
export class BadCard extends Error {}

/** @param {Json} json @param {string[]} known @param {string} what */
function only(json, known, what) {
  if (typeof json !== "object" || json === null) throw new BadCard(`${what} is missing, or no object.`);
  const unknown = Object.keys(json).filter((name) => !known.includes(name));
  if (unknown.length) throw new BadCard(`${what} has ${unknown.join(", ")}, which the add-on may not use.`);
}

/** @template {string} T @param {T} value @param {readonly T[]} known @param {string} what @returns {T} */
function oneOf(value, known, what) {
  if (!known.includes(value)) throw new BadCard(`${what} cannot be ${value}.`);
  return value;
}

/** One card, drawn; its form keeps what was typed for as long as the card is in the stack. */
export class CardView {
  #form;
  #heading = el("h2", { tabindex: "-1" });
  element;

  /** @param {Card} json @param {Surface} surface */
  constructor(json, surface) {
    only(json, ["header", "sections", "fixedFooter", "cardActions"], "A card");
    const title = json.header?.title || surface.name;
    this.#form = el("form", { class: "sections", autocomplete: "off", onsubmit: (/** @type {Event} */ event) => event.preventDefault() }, ...sections(json.sections ?? [], surface));
    this.element = el("article", { class: "addon-card", "aria-label": title }, this.#head(json, surface), this.#form, json.fixedFooter && footer(json.fixedFooter, surface));
  }

  focus() {
    this.#heading.focus();
  }

  /** What is entered, as an event tells it: without the fields that are empty. @returns {FormInputs} */
  get inputs() {
    /** @type {FormInputs} */
    const inputs = {};
    for (const [name, value] of new FormData(this.#form)) {
      if (value !== "") (inputs[name] ??= { stringInputs: { value: [] } }).stringInputs.value.push(String(value));
    }
    return inputs;
  }

  /** @param {Card} json @param {Surface} surface */
  #head({ header, cardActions = [] }, surface) {
    if (header) only(header, ["title", "subtitle", "imageUrl"], "A card's header");
    if (header && !header.title) throw new BadCard("A card's header needs a title.");
    for (const action of cardActions) only(action, ["actionLabel", "onClick"], "A card action");
    this.#heading.textContent = header?.title ?? surface.name;
    const menu = iconButton("more", "More", () => surface.menu(menu, cardActions), { "aria-haspopup": "menu" });
    return el("header", {},
      surface.back && iconButton("back", "Back", surface.back),
      header?.imageUrl && el("img", { src: surface.image(header.imageUrl), alt: "" }),
      el("div", { class: "titles" }, this.#heading, header?.subtitle && el("p", { class: "meta" }, header.subtitle)),
      (cardActions.length > 0 || surface.hasMenu) && menu);
  }
}

/** @param {Json[]} all @param {Surface} surface */
function sections(all, surface) {
  let room = MOST_WIDGETS;
  return all.map((json) => {
    only(json, ["header", "widgets", "collapsible", "uncollapsibleWidgetsCount"], "A section");
    const widgets = (json.widgets ?? []).slice(0, room).map((/** @type {Json} */ one) => widget(one, surface));
    room -= widgets.length;
    const kept = json.collapsible ? (json.uncollapsibleWidgetsCount ?? 0) : widgets.length;
    const more = el("div", { class: "more", hidden: true }, ...widgets.slice(kept));
    return el("section", {}, json.header && el("h3", {}, ...markup(json.header, linkOf(surface))), ...widgets.slice(0, kept),
      kept < widgets.length && more, kept < widgets.length && unfold(more));
  });
}

/** @param {HTMLElement} more */
function unfold(more) {
  const toggle = el("button", { type: "button", class: "unfold", "aria-expanded": "false", onclick: () => {
    more.hidden = !more.hidden;
    toggle.setAttribute("aria-expanded", String(!more.hidden));
    toggle.textContent = more.hidden ? "Show more" : "Show less";
  } }, "Show more");
  return toggle;
}

/** @type {Record<string, (json: any, surface: Surface) => HTMLElement>} */
const WIDGETS = {
  textParagraph: (json, surface) => {
    only(json, ["text"], "A text");
    return el("p", { class: "text" }, ...markup(json.text, linkOf(surface)));
  },
  decoratedText,
  buttonList: (json, surface) => {
    only(json, ["buttons"], "A list of buttons");
    return el("div", { class: "buttons" }, ...json.buttons.map((/** @type {Json} */ one) => button(one, surface)));
  },
  textInput: (json) => textInput(json),
  selectionInput: (json) => selectionInput(json),
  divider: (json) => {
    only(json, [], "A divider");
    return el("hr");
  },
};

/** @param {Json} json @param {Surface} surface */
function widget(json, surface) {
  const [kind, ...others] = Object.keys(json);
  if (!kind || others.length || !Object.hasOwn(WIDGETS, kind)) throw new BadCard(`There is no widget ${Object.keys(json).join(", ")}.`);
  return WIDGETS[kind](json[kind], surface);
}

/** @param {any} json @param {Surface} surface */
function decoratedText(json, surface) {
  only(json, ["startIcon", "topLabel", "text", "bottomLabel", "wrapText", "button", "onClick"], "A decorated text");
  if (!json.text) throw new BadCard("A decorated text needs a text.");
  const link = linkOf(surface);
  const texts = el("div", { class: json.wrapText ? "texts" : "texts cut" },
    json.topLabel && el("div", { class: "meta" }, ...markup(json.topLabel, link)),
    el("div", { class: "text" }, ...markup(json.text, link)),
    json.bottomLabel && el("div", { class: "meta bottom" }, ...markup(json.bottomLabel, link)));
  const main = json.onClick ? clickable(json.onClick, surface, { class: "main" }, texts) : texts;
  return el("div", { class: "decorated" }, json.startIcon && startIcon(json.startIcon), main, json.button && button(json.button, surface));
}

/** @param {Json} json */
function startIcon(json) {
  only(json, ["knownIcon"], "An icon");
  if (!(json.knownIcon in ICONS) && !OTHER_ICONS.includes(json.knownIcon)) throw new BadCard(`There is no icon ${json.knownIcon}.`);
  return el("span", { class: "start" }, icon(ICONS[json.knownIcon] ?? "dot"));
}

/** @param {Json} json @param {Surface} surface @param {"outlined" | "filled"} [style] */
function button(json, surface, style = "outlined") {
  only(json, ["text", "onClick"], "A button");
  if (!json.text || !json.onClick) throw new BadCard("A button needs a text and something to do.");
  return clickable(json.onClick, surface, { class: `button ${style}` }, json.text);
}

/**
 * A link where a click leads elsewhere, else a button.
 * @param {OnClick} onClick @param {Surface} surface @param {Record<string, any>} attributes @param {...(Node | string)} children
 */
function clickable(onClick, surface, attributes, ...children) {
  only(onClick, ["action", "openLink"], "A click");
  if ("openLink" in onClick) {
    const wish = onClick.openLink;
    only(wish, ["url", "openAs", "onClose"], "A link");
    oneOf(wish.openAs ?? "FULL_SIZE", ["FULL_SIZE", "OVERLAY"], "openAs");
    oneOf(wish.onClose ?? "NOTHING", ["NOTHING", "RELOAD"], "onClose");
    return link(wish, surface, attributes, ...children);
  }
  checkAction(onClick.action);
  return el("button", { type: "button", ...attributes, onclick: () => surface.act(onClick.action) }, ...children);
}

/** @param {Action} action */
export function checkAction(action) {
  only(action, ["function", "parameters", "loadIndicator"], "An action");
  if (!action.function) throw new BadCard("An action needs a function.");
  oneOf(action.loadIndicator ?? "SPINNER", ["SPINNER", "NONE"], "A load indicator");
  for (const parameter of action.parameters ?? []) only(parameter, ["key", "value"], "A parameter");
}

/** @param {OpenLink} wish @param {Surface} surface @param {Record<string, any>} attributes @param {...(Node | string)} children */
function link(wish, surface, attributes, ...children) {
  const isPlain = surface.mayOpen(wish.url) && wish.onClose !== "RELOAD" && wish.openAs !== "OVERLAY";
  const href = surface.mayOpen(wish.url) ? wish.url : "#";
  return el("a", { ...attributes, href, target: "_blank", rel: "noopener noreferrer", onclick: (/** @type {Event} */ event) => {
    if (isPlain) return;
    event.preventDefault();
    surface.open(wish);
  } }, ...children);
}

/** Links in texts. @param {Surface} surface */
const linkOf = (surface) => (/** @type {string} */ url, /** @type {(Node | string)[]} */ ...children) => link({ url }, surface, {}, ...children);

/** @param {any} json */
function textInput(json) {
  only(json, ["name", "label", "hintText", "value"], "A text input");
  if (!json.name || !(json.label || json.hintText)) throw new BadCard("A text input needs a name, and a label or a hint.");
  const id = `field-${(fields += 1)}`;
  const hint = json.label && json.hintText && el("div", { class: "meta", id: `${id}-hint` }, json.hintText);
  return el("div", { class: "field" }, el("label", { for: id }, json.label || json.hintText),
    el("input", { id, type: "text", name: json.name, value: json.value ?? "", "aria-describedby": hint && hint.id }), hint);
}

/** @param {any} json */
function selectionInput(json) {
  only(json, ["name", "label", "type", "items"], "A selection");
  if (!json.name || !json.items?.length) throw new BadCard("A selection needs a name and something to choose.");
  if (json.items.length > MOST_WIDGETS) throw new BadCard("A selection has at most 100 items.");
  for (const item of json.items) only(item, ["text", "value", "selected"], "An item");
  const type = oneOf(json.type ?? "CHECK_BOX", ["CHECK_BOX", "RADIO_BUTTON", "DROPDOWN"], "A selection's type");
  if (type === "DROPDOWN") return dropdown(json);
  const kind = type === "CHECK_BOX" ? "checkbox" : "radio";
  const choices = json.items.map((/** @type {Json} */ { text, value, selected }) =>
    el("label", {}, el("input", { type: kind, name: json.name, value, checked: selected }), el("span", {}, text)));
  return json.label ? el("fieldset", {}, el("legend", {}, json.label), ...choices) : el("div", { class: "choices" }, ...choices);
}

/** @param {any} json */
function dropdown(json) {
  const id = `field-${(fields += 1)}`;
  const options = json.items.map((/** @type {Json} */ { text, value, selected }) => el("option", { value, selected }, text));
  return el("div", { class: "field" }, el("label", { for: id }, json.label || json.name), el("select", { id, name: json.name }, ...options));
}

/** @param {Json} json @param {Surface} surface */
function footer(json, surface) {
  only(json, ["primaryButton", "secondaryButton"], "A footer");
  if (!json.primaryButton) throw new BadCard("A footer needs a primary button.");
  return el("footer", {}, json.secondaryButton && button(json.secondaryButton, surface), button(json.primaryButton, surface, "filled"));
}
