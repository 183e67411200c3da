/**
 * A stand-in for what Google's Apps Script gives our Gmail shim (appsscript/): CardService, UrlFetchApp, GmailApp, ScriptApp.
 *
 * It is as strict as the runtime: a method has the name and the parameters that @types/google-apps-script gives it (a test
 * compares SIGNATURES with them), anything else throws. It needs neither Node nor a page, so that the inbox and the tests use
 * the same. How to use it:
 *
 *     const globals = appsScript({ exchange, identityToken, urlFetchWhitelist, messages });
 *     // Run appsscript/*.js with these globals in scope, as classic scripts that share one global scope, then call a trigger:
 *     const answer = answerOf(onMessage(event));
 *
 * `answerOf` gives what Google's HTTP runtime gets as JSON for the same, so that one renderer draws both runtimes:
 *
 *     of a Card or Card[]           {"action": {"navigations": [{"pushCard": CARD}, ...]}}
 *     of a click's response         {"renderActions": {"action": {"navigations": [{"pushCard"|"updateCard": CARD} | {"pop": true} |
 *                                     {"popToRoot": true}], "notification": {"text"}, "link": {"url", "openAs"?, "onClose"?}}},
 *                                     "stateChanged"?: true}
 *
 * and CARD (also `card.toJson()`) is Google's Card v1 JSON: {"header", "sections": [{"header", "widgets", "collapsible",
 * "uncollapsibleWidgetsCount"}], "fixedFooter", "cardActions"}; what a click does is {"openLink": {...}} or {"action": {"function",
 * "parameters": [{"key", "value"}], "loadIndicator"}} with the name of the shim's function to call next. Texts hold Google's small
 * HTML. Of CardService's methods those are here that the shim calls; the others would be added as @types has them.
 */

/** @typedef {{status: number, headers: Record<string, string>, text: string}} HttpAnswer */
/** @typedef {{method: string, headers: Record<string, string>, body: string}} HttpRequest */
/** A message's headers as GmailApp gives them: `from`, `to` and `cc` as they were sent. */
/** @typedef {{from: string, to: string, cc: string, subject: string, headers: Record<string, string>}} MessageHeaders */
/**
 * @typedef {object} Surroundings
 * @property {(url: string, request: HttpRequest) => HttpAnswer} exchange Calls a server; throws when no answer comes. It blocks, as
 *   UrlFetchApp does, and does not follow redirects.
 * @property {string | null} identityToken The person's Google ID token; null without the scope openid.
 * @property {string[]} urlFetchWhitelist The manifest's.
 * @property {Record<string, {accessToken: string, message: MessageHeaders}>} messages By id, each with the token that its event carries.
 */

/** Their names are the same in Card v1 JSON. */
const ENUMS = {
  Icon: [
    "NONE", "AIRPLANE", "BOOKMARK", "BUS", "CAR", "CLOCK", "CONFIRMATION_NUMBER_ICON", "DOLLAR", "DESCRIPTION", "EMAIL",
    "EVENT_PERFORMER", "EVENT_SEAT", "FLIGHT_ARRIVAL", "FLIGHT_DEPARTURE", "HOTEL", "HOTEL_ROOM_TYPE", "INVITE", "MAP_PIN",
    "MEMBERSHIP", "MULTIPLE_PEOPLE", "OFFER", "PERSON", "PHONE", "RESTAURANT_ICON", "SHOPPING_CART", "STAR", "STORE", "TICKET",
    "TRAIN", "VIDEO_CAMERA", "VIDEO_PLAY",
  ],
  LoadIndicator: ["SPINNER", "NONE"],
  OnClose: ["NOTHING", "RELOAD", "RELOAD_ADD_ON"],
  OpenAs: ["FULL_SIZE", "OVERLAY"],
  SelectionInputType: ["CHECK_BOX", "RADIO_BUTTON", "DROPDOWN", "SWITCH", "MULTI_SELECT"],
};

/** Interfaces of which CardService has several kinds; only those that the add-on may use are here. */
/** @type {Record<string, string[]>} */
const KINDS = {
  Button: ["TextButton"],
  Widget: ["ButtonSet", "DecoratedText", "Divider", "SelectionInput", "TextInput", "TextParagraph"],
};

const CLICKS = { setOnClickAction: ["Action"], setOpenLink: ["OpenLink"] };
const CARD_WIDGETS = 100; // "the rest are ignored" (Google's Card message, field sections)
const CARD_SECTIONS = 100;

/** Interface -> method -> types of its parameters, as @types/google-apps-script spells them. */
/** @type {Record<string, Record<string, string[]>>} */
export const SIGNATURES = {
  Action: { setFunctionName: ["string"], setLoadIndicator: ["LoadIndicator"], setParameters: ["{ [key: string]: string }"] },
  ActionResponse: {},
  ActionResponseBuilder: {
    build: [], setNavigation: ["Navigation"], setNotification: ["Notification"], setOpenLink: ["OpenLink"], setStateChanged: ["boolean"],
  },
  ButtonSet: { addButton: ["Button"] },
  Card: {},
  CardAction: { setText: ["string"], ...CLICKS },
  CardBuilder: {
    addCardAction: ["CardAction"], addSection: ["CardSection"], build: [], setFixedFooter: ["FixedFooter"], setHeader: ["CardHeader"],
  },
  CardHeader: { setImageUrl: ["string"], setSubtitle: ["string"], setTitle: ["string"] },
  CardSection: {
    addWidget: ["Widget"], setCollapsible: ["boolean"], setHeader: ["string"], setNumUncollapsibleWidgets: ["Integer"],
  },
  DecoratedText: {
    setBottomLabel: ["string"], setButton: ["Button"], setStartIcon: ["IconImage"], setText: ["string"], setTopLabel: ["string"],
    setWrapText: ["boolean"], ...CLICKS,
  },
  Divider: {},
  FixedFooter: { setPrimaryButton: ["TextButton"], setSecondaryButton: ["TextButton"] },
  IconImage: { setIcon: ["Icon"] },
  Navigation: { popCard: [], popToRoot: [], pushCard: ["Card"], updateCard: ["Card"] },
  Notification: { setText: ["string"] },
  OpenLink: { setOnClose: ["OnClose"], setOpenAs: ["OpenAs"], setUrl: ["string"] },
  SelectionInput: {
    addItem: ["any", "any", "boolean"], setFieldName: ["string"], setTitle: ["string"], setType: ["SelectionInputType"],
  },
  TextButton: { setText: ["string"], ...CLICKS },
  TextInput: { setFieldName: ["string"], setHint: ["string"], setTitle: ["string"], setValue: ["string"] },
  TextParagraph: { setText: ["string"] },
};

/** What CardService's reference calls required, or without which a click, a link or a text has no sense. */
/** @type {Record<string, string[]>} */
const REQUIRED = {
  Action: ["setFunctionName"],
  CardAction: ["setText"],
  CardHeader: ["setTitle"],
  DecoratedText: ["setText"],
  FixedFooter: ["setPrimaryButton"],
  IconImage: ["setIcon"],
  Notification: ["setText"],
  OpenLink: ["setUrl"],
  SelectionInput: ["setFieldName", "setType"],
  TextButton: ["setText"],
  TextInput: ["setFieldName"],
  TextParagraph: ["setText"],
};

/** An enum's value: not a string, so that a string in its place is refused. */
class Value {
  /** @param {string} type @param {string} name */
  constructor(type, name) {
    this.type = type;
    this.name = name;
    Object.freeze(this);
  }

  toString() {
    return this.name;
  }

  toJson() {
    return this.name;
  }
}

/** One object of CardService. What was called on it is kept in `calls`: method -> arguments of each call, in their order. */
class Part {
  /** @type {[string, any[]][]} */
  #calls = [];

  /** @param {string} type */
  constructor(type) {
    this.type = type;
    for (const [method, parameters] of Object.entries(SIGNATURES[type])) {
      /** @param {...any} args */
      const call = (...args) => {
        check(`${type}.${method}`, parameters, args);
        if (method === "build") return new Built(this);
        this.#calls.push([method, args]);
        return this;
      };
      Object.defineProperty(this, method, { value: call });
    }
    Object.freeze(this);
  }

  /** What the last call of a method was given; undefined if it was not called. @param {string} method @returns {any} */
  last(method) {
    return this.#calls.findLast(([name]) => name === method)?.[1][0];
  }

  /** The arguments of each call of a method. @param {string} method @returns {any[][]} */
  all(method) {
    return this.#calls.filter(([name]) => name === method).map(([, args]) => args);
  }

  /** @returns {[string, any[]][]} */
  get calls() {
    return this.#calls;
  }

  /** @returns {any} Card v1 JSON */
  toJson() {
    for (const method of REQUIRED[this.type] ?? []) {
      if (this.last(method) === undefined) throw new Error(`CardService.${this.type} needs ${method}.`);
    }
    return WRITERS[this.type](this);
  }
}

/** What a builder's build() gives: a Card or a response. It is written at once, so that what is missing fails where it is built. */
class Built {
  /** @param {Part} builder */
  constructor(builder) {
    this.type = builder.type.replace("Builder", "");
    const json = builder.toJson();
    this.toJson = () => structuredClone(json);
    Object.freeze(this);
  }
}

/** @param {string} name of the method @param {string[]} parameters their types @param {any[]} args */
function check(name, parameters, args) {
  const fits = args.length === parameters.length && args.every((value, place) => isA(value, parameters[place]));
  if (!fits) {
    const given = args.map((value) => value?.type ?? (value === null ? "null" : typeof value)).join(",");
    throw new Error(`The parameters (${given}) don't match the method signature for CardService.${name}.`);
  }
}

/** @param {any} value @param {string} type @returns {boolean} */
function isA(value, type) {
  if (type in KINDS) return value instanceof Part && KINDS[type].includes(value.type);
  if (type in ENUMS) return value instanceof Value && value.type === type;
  if (type in SIGNATURES) return (value instanceof Part || value instanceof Built) && value.type === type;
  if (type === "Integer") return Number.isInteger(value);
  if (type === "any") return ["string", "number", "boolean"].includes(typeof value);
  if (type.startsWith("{")) return isMap(value) && Object.values(value).every((one) => typeof one === "string");
  return typeof value === type;
}

/** @param {any} value */
const isMap = (value) => typeof value === "object" && value !== null && !Array.isArray(value);

/** Leave out what was not set. @param {Record<string, any>} json */
function compact(json) {
  return Object.fromEntries(Object.entries(json).filter(([, value]) => value !== undefined && !(Array.isArray(value) && !value.length)));
}

/** @param {Part} part @param {string} method */
const written = (part, method) => part.last(method)?.toJson();

/** @param {Part} part @param {string} method */
const eachWritten = (part, method) => part.all(method).map(([one]) => one.toJson());

/** The last of the ways to say what a click does wins. @param {Part} part */
function onClick(part) {
  const found = part.calls.findLast(([method]) => method in CLICKS);
  if (!found) return undefined;
  return found[0] === "setOpenLink" ? { openLink: found[1][0].toJson() } : { action: found[1][0].toJson() };
}

/** Interface -> its Card v1 JSON. */
/** @type {Record<string, (part: Part) => any>} */
const WRITERS = {
  Action: (part) =>
    compact({
      function: part.last("setFunctionName"),
      parameters: Object.entries(part.last("setParameters") ?? {}).map(([key, value]) => ({ key, value })),
      loadIndicator: written(part, "setLoadIndicator"),
    }),
  ActionResponseBuilder: (part) => {
    const action = compact({
      navigations: written(part, "setNavigation"),
      notification: written(part, "setNotification"),
      link: written(part, "setOpenLink"),
    });
    return { renderActions: { action }, ...(part.last("setStateChanged") ? { stateChanged: true } : {}) };
  },
  ButtonSet: (part) => ({ buttonList: { buttons: eachWritten(part, "addButton") } }),
  CardAction: (part) => compact({ actionLabel: part.last("setText"), onClick: onClick(part) }),
  CardBuilder: (part) => {
    const sections = eachWritten(part, "addSection");
    if (sections.length > CARD_SECTIONS) throw new Error(`A card has at most ${CARD_SECTIONS} sections.`);
    let room = CARD_WIDGETS;
    for (const section of sections) {
      section.widgets = section.widgets.slice(0, room);
      room -= section.widgets.length;
    }
    return compact({
      header: written(part, "setHeader"),
      sections,
      fixedFooter: written(part, "setFixedFooter"),
      cardActions: eachWritten(part, "addCardAction"),
    });
  },
  CardHeader: (part) =>
    compact({
      title: part.last("setTitle"),
      subtitle: part.last("setSubtitle"),
      imageUrl: part.last("setImageUrl"),
    }),
  CardSection: (part) => ({
    ...compact({
      header: part.last("setHeader"),
      collapsible: part.last("setCollapsible"),
      uncollapsibleWidgetsCount: part.last("setNumUncollapsibleWidgets"),
    }),
    widgets: eachWritten(part, "addWidget"),
  }),
  DecoratedText: (part) => ({
    decoratedText: compact({
      startIcon: written(part, "setStartIcon"),
      topLabel: part.last("setTopLabel"),
      text: part.last("setText"),
      bottomLabel: part.last("setBottomLabel"),
      wrapText: part.last("setWrapText"),
      button: written(part, "setButton"),
      onClick: onClick(part),
    }),
  }),
  Divider: () => ({ divider: {} }),
  FixedFooter: (part) =>
    compact({ primaryButton: written(part, "setPrimaryButton"), secondaryButton: written(part, "setSecondaryButton") }),
  IconImage: (part) => ({ knownIcon: written(part, "setIcon") }),
  Navigation: (part) =>
    part.calls.map(([method, [card]]) => {
      if (method === "popCard") return { pop: true };
      return card ? { [method]: card.toJson() } : { [method]: true };
    }),
  Notification: (part) => ({ text: part.last("setText") }),
  OpenLink: (part) =>
    compact({ url: part.last("setUrl"), openAs: written(part, "setOpenAs"), onClose: written(part, "setOnClose") }),
  SelectionInput: (part) => ({
    selectionInput: compact({
      name: part.last("setFieldName"),
      label: part.last("setTitle"),
      type: written(part, "setType"),
      items: part.all("addItem").map(([text, value, selected]) => ({ text: String(text), value: String(value), selected })),
    }),
  }),
  TextButton: (part) => compact({ text: part.last("setText"), onClick: onClick(part) }),
  TextInput: (part) => ({
    textInput: compact({
      name: part.last("setFieldName"),
      label: part.last("setTitle"),
      hintText: part.last("setHint"),
      value: part.last("setValue"),
    }),
  }),
  TextParagraph: (part) => ({ textParagraph: { text: part.last("setText") } }),
};

/** Build CardService: its enums and its factories. @returns {Record<string, any>} */
function cardService() {
  const enums = Object.entries(ENUMS).map(([type, names]) => [
    type,
    Object.freeze(Object.fromEntries(names.map((name) => [name, new Value(type, name)]))),
  ]);
  const made = Object.keys(SIGNATURES).filter((type) => !["ActionResponse", "Card"].includes(type));
  const factories = made.map((type) => [
    `new${type}`,
    /** @param {...any} args */
    (...args) => {
      check(`new${type}`, [], args);
      return new Part(type);
    },
  ]);
  return Object.freeze(Object.fromEntries([...enums, ...factories]));
}

const FETCH_OPTIONS = ["contentType", "headers", "method", "payload", "validateHttpsCertificates", "followRedirects", "muteHttpExceptions"];

/** @param {Surroundings} around */
function urlFetchApp(around) {
  /** @param {string} url @param {Record<string, any>} [options] */
  function fetch(url, options = {}) {
    const unknown = Object.keys(options).filter((name) => !FETCH_OPTIONS.includes(name));
    if (unknown.length) throw new Error(`Attribute provided with invalid value: ${unknown.join()}`);
    if (!around.urlFetchWhitelist.some((prefix) => url.startsWith(prefix))) {
      throw new Error(`The address ${url} is not in the manifest's urlFetchWhitelist.`);
    }
    const headers = { ...options.headers, "Content-Type": options.contentType ?? "application/x-www-form-urlencoded" };
    const request = { method: (options.method ?? "get").toUpperCase(), headers, body: options.payload ?? "" };
    const answer = around.exchange(url, request);
    if (answer.status >= 400 && !options.muteHttpExceptions) {
      throw new Error(`Request failed for ${url} returned code ${answer.status}.`);
    }
    if (answer.status >= 300 && answer.status < 400 && options.followRedirects !== false) {
      throw new Error("This stand-in follows no redirects.");
    }
    return { getResponseCode: () => answer.status, getContentText: () => answer.text, getHeaders: () => answer.headers };
  }
  return { fetch };
}

/** GmailApp as add-ons may use it: one message at a time, and only with the token of its event. @param {Surroundings} around */
function gmailApp(around) {
  let token = "";
  return {
    /** @param {string} accessToken */
    setCurrentMessageAccessToken(accessToken) {
      if (typeof accessToken !== "string") throw new Error("The access token is missing.");
      token = accessToken;
    },
    /** @param {string} id */
    getMessageById(id) {
      const found = around.messages[id];
      if (!found) throw new Error("Invalid argument: " + id);
      if (!token || token !== found.accessToken) {
        throw new Error("Access denied: : Missing access token for per message scopes authorization.");
      }
      const { from, to, cc, subject, headers } = found.message;
      return {
        getFrom: () => from,
        getTo: () => to,
        getCc: () => cc,
        getSubject: () => subject,
        getId: () => id,
        /** Header names are compared as they are written (reference of GmailMessage.getHeader). @param {string} name */
        getHeader: (name) => headers[name] ?? "",
      };
    },
  };
}

/** Return the globals that the shim's sources need. @param {Surroundings} around @returns {Record<string, any>} */
export function appsScript(around) {
  return {
    CardService: cardService(),
    GmailApp: gmailApp(around),
    ScriptApp: { getIdentityToken: () => around.identityToken },
    UrlFetchApp: urlFetchApp(around),
  };
}

/** Return as JSON what a function of the shim returned to Google; the shape is told at the top. @param {any} returned @returns {any} */
export function answerOf(returned) {
  const cards = Array.isArray(returned) ? returned : [returned];
  if (cards.length && cards.every((one) => isA(one, "Card"))) {
    return { action: { navigations: cards.map((card) => ({ pushCard: card.toJson() })) } };
  }
  if (isA(returned, "ActionResponse")) return returned.toJson();
  throw new Error("The value returned from Apps Script has a type that cannot be used by the add-ons platform.");
}
