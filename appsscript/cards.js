/**
 * Google's Card v1 JSON, which the HTTP runtime shows as it is, drawn by CardService. Only what our server sends is known here:
 * a widget, a member or a step that is not fails, since a card with a hole in it would look whole.
 */

/** @typedef {(json: any) => any} Draw */
/** @typedef {{pushCard?: Card, updateCard?: Card, pop?: true, popToRoot?: true}} Step */
/** @typedef {{header?: any, sections: {widgets: any[]}[], fixedFooter?: any, cardActions?: any[]}} Card */
/** @typedef {{navigations?: Step[], notification?: {text: string}, link?: any}} Actions */

const CARD_WIDGETS = 100; // Google drops the rest in silence (google.apps.card.v1.Card, sections)

/**
 * Call on `part` the method that stands for each member of the JSON, with the value or with what is drawn of it; a method that
 * adds, once for each of a list. What a click does are members of their own in CardService. Returns the part.
 * @template T
 * @param {T} part @param {any} json @param {Record<string, keyof T | [keyof T, (value: any) => unknown]>} methods
 */
function fill(part, json, methods) {
  const { onClick, ...members } = json;
  for (const [member, value] of Object.entries({ ...members, ...onClick })) {
    if (!Object.keys(methods).includes(member)) throw new Error(`${member} is not drawn here`);
    const [method, draw] = /** @type {[string, ((value: any) => unknown)?]} */ ([methods[member]].flat());
    for (const one of method.startsWith("add") ? value : [value]) /** @type {any} */ (part)[method](draw ? draw(one) : one);
  }
  return part;
}

/** Find a value of one of CardService's enums. @param {Record<string, any>} values @returns {Draw} */
const among = (values) => (name) => {
  if (values[name] === undefined) throw new Error(`${name} is not known`);
  return values[name];
};

/** What a trigger answers: cards and nothing else. @param {Step[]} steps */
function drawPushed(steps) {
  return steps.map(({ pushCard, ...others }) => {
    if (!pushCard || Object.keys(others).length) throw new Error("a trigger only pushes cards");
    return drawCard(pushCard);
  });
}

/** What a click answers. @param {Actions} json @param {boolean} isChanged whether cards that Gmail keeps are out of date */
function drawResponse(json, isChanged) {
  const response = fill(CardService.newActionResponseBuilder(), json, {
    navigations: ["setNavigation", drawNavigation],
    notification: ["setNotification", ({ text }) => CardService.newNotification().setText(text)],
    link: ["setOpenLink", drawLink],
  });
  return response.setStateChanged(isChanged).build();
}

/** @param {Step[]} steps */
function drawNavigation(steps) {
  const navigation = CardService.newNavigation();
  for (const step of steps) {
    if (step.pop) navigation.popCard();
    else if (step.popToRoot) navigation.popToRoot();
    else fill(navigation, step, { pushCard: ["pushCard", drawCard], updateCard: ["updateCard", drawCard] });
  }
  return navigation;
}

/** @param {Card} json */
function drawCard(json) {
  const count = json.sections.reduce((sum, { widgets }) => sum + widgets.length, 0);
  if (count > CARD_WIDGETS) throw new Error(`${count} widgets are more than a card holds`);
  const card = fill(CardService.newCardBuilder(), json, {
    header: ["setHeader", drawHeader], sections: ["addSection", drawSection], fixedFooter: ["setFixedFooter", drawFooter],
    cardActions: ["addCardAction", drawCardAction],
  });
  return card.build();
}

/** @type {Draw} */
const drawHeader = (json) =>
  fill(CardService.newCardHeader(), json, { title: "setTitle", subtitle: "setSubtitle", imageUrl: "setImageUrl" });

/** @type {Draw} */
const drawSection = (json) =>
  fill(CardService.newCardSection(), json, {
    header: "setHeader", collapsible: "setCollapsible", uncollapsibleWidgetsCount: "setNumUncollapsibleWidgets",
    widgets: ["addWidget", drawWidget],
  });

/** @type {Draw} */
const drawFooter = (json) =>
  fill(CardService.newFixedFooter(), json, {
    primaryButton: ["setPrimaryButton", drawButton], secondaryButton: ["setSecondaryButton", drawButton],
  });

/** @type {Draw} */
const drawCardAction = (json) => fill(CardService.newCardAction(), json, { actionLabel: "setText", ...CLICKS });

/** @type {Draw} */
const drawButton = (json) => fill(CardService.newTextButton(), json, { text: "setText", ...CLICKS });

/** @type {Draw} */
const drawAction = (json) =>
  fill(CardService.newAction(), json, {
    function: "setFunctionName", loadIndicator: ["setLoadIndicator", among(CardService.LoadIndicator)],
    parameters: ["setParameters", (all) => Object.fromEntries(all.map((/** @type {any} */ { key, value }) => [key, value]))],
  });

/** @type {Draw} */
const drawIcon = (json) => fill(CardService.newIconImage(), json, { knownIcon: ["setIcon", among(CardService.Icon)] });

/** @type {Draw} */
const drawLink = (json) =>
  fill(CardService.newOpenLink(), json, {
    url: "setUrl", openAs: ["setOpenAs", among(CardService.OpenAs)], onClose: ["setOnClose", among(CardService.OnClose)],
  });

/** @type {{action: ["setOnClickAction", Draw], openLink: ["setOpenLink", Draw]}} */
const CLICKS = { action: ["setOnClickAction", drawAction], openLink: ["setOpenLink", drawLink] };

/** @type {Draw} */
function drawWidget(json) {
  const kind = Object.keys(json).join();
  if (!Object.keys(WIDGETS).includes(kind)) throw new Error(`${kind} is not drawn here`);
  return WIDGETS[kind](json[kind]);
}

/** @type {Record<string, Draw>} */
const WIDGETS = {
  textParagraph: (json) => fill(CardService.newTextParagraph(), json, { text: "setText" }),
  decoratedText: (json) =>
    fill(CardService.newDecoratedText(), json, {
      topLabel: "setTopLabel", text: "setText", bottomLabel: "setBottomLabel", wrapText: "setWrapText",
      startIcon: ["setStartIcon", drawIcon], button: ["setButton", drawButton], ...CLICKS,
    }),
  buttonList: (json) => fill(CardService.newButtonSet(), json, { buttons: ["addButton", drawButton] }),
  textInput: (json) =>
    fill(CardService.newTextInput(), json, { name: "setFieldName", label: "setTitle", hintText: "setHint", value: "setValue" }),
  selectionInput: ({ items, ...json }) => {
    const type = /** @type {["setType", Draw]} */ (["setType", among(CardService.SelectionInputType)]);
    const input = fill(CardService.newSelectionInput(), json, { name: "setFieldName", label: "setTitle", type });
    for (const { text, value, selected } of items) input.addItem(text, value, selected === true);
    return input;
  },
  divider: () => CardService.newDivider(),
};
