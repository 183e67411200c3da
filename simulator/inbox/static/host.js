/**
 * The host side of the task pane: what Outlook on the web is for an add-in.
 *
 * It frames the sidebar's page, greets the Office.js stand-in that the page loaded (static/office.js) and gives it a
 * MessagePort, tells it which item is selected, and answers its calls. Misbehaviour (static/behaviours.js) happens here.
 */

import { call, messagePath, mailboxPath } from "./api.js";
import { TOKEN_FAILURES } from "./behaviours.js";
import { Dialog } from "./dialog.js";
import { el } from "./dom.js";
import { lookOf } from "./look.js";
import { NestedAuth } from "./naa.js";

/** @typedef {import("./api.js").Detail} Detail */
/** @typedef {import("./api.js").Owner} Owner */
/** @typedef {import("./behaviours.js").Behaviours} Behaviours */
/** @typedef {{key: string, id: string | null, itemId: string | null, conversationId: string | null, inReplyTo: string | null, form: () => import("./api.js").Form, save: () => Promise<string>}} Draft */
/** @typedef {{read: Detail} | {compose: Draft} | null} Selected */
/** @typedef {{code: number, name: string, message: string}} Failure */
/** @typedef {{background: string, text: string, control: string, controlText: string}} Theme */

/** As Outlook on the web sandboxes a pane: no alert() or confirm(), links open in new tabs. */
const SANDBOX = "allow-scripts allow-same-origin allow-forms allow-popups allow-popups-to-escape-sandbox allow-downloads";
const LATE_EVENT_MS = 3000;
const LATE_ITEM_MS = 700;
const LATE_ID_MS = 1500;
const SLOW_READY_MS = 3000;
const SLOW_CALL_MS = 2000;

/** @param {number} ms */
const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

/** Office.js documents the names of these; the numbers are not documented. @param {number} code @param {string} name @param {string} message */
const failure = (code, name, message) => ({ code, name, message });

export class Host {
  #app;
  #behaviours;
  /** @type {HTMLIFrameElement | null} */
  #frame = null;
  /** @type {MessagePort | null} */
  #port = null;
  /** @type {Selected} the message that is selected in the client */
  #selected = null;
  /** @type {Selected} the message that the pane was told about */
  #told = null;
  /** @type {Theme} */
  #theme;
  #dialog;
  #nested;
  #later = new Set();

  /**
   * @param {{owner: () => Owner, sidebarUrl: () => string, openItem: (id: string) => void, closePane: () => void}} app
   * @param {Behaviours} behaviours @param {Theme} theme
   */
  constructor(app, behaviours, theme) {
    this.#app = app;
    this.#behaviours = behaviours;
    this.#theme = theme;
    this.#nested = new NestedAuth(app.owner);
    this.#dialog = new Dialog((type, details) => this.#raise(type, details));
    addEventListener("message", (event) => void this.#greet(event));
  }

  get isOpen() {
    return this.#frame !== null;
  }

  // -- What the client does ---------------------------------------------------------------------------------------------

  /** @param {HTMLElement} container */
  open(container) {
    this.close();
    const url = new URL(this.#app.sidebarUrl());
    // The real host adds this parameter; pages must cope with it.
    url.searchParams.set("_host_Info", "Outlook$Web$16.01$en-US$$$$0");
    this.#frame = el("iframe", {
      title: "SAP Cloud for Customer",
      sandbox: SANDBOX,
      // Read by the stand-in before any script of the page runs.
      name: JSON.stringify({ storage: this.#behaviours.has("no-storage") ? "blocked" : "open" }),
      src: url.href,
    });
    container.replaceChildren(this.#frame);
  }

  close() {
    for (const timer of this.#later) clearTimeout(timer);
    this.#later.clear();
    this.#dialog.close();
    this.#port?.close();
    this.#port = null;
    this.#frame?.remove();
    this.#frame = null;
    this.#told = null;
  }

  /** Tell the pane that another item is selected, as well or badly as the host can. @param {Selected} selected */
  select(selected) {
    this.#selected = selected;
    const container = this.#frame?.parentElement;
    if (!container) return;
    const on = (/** @type {string} */ id) => this.#behaviours.has(id);
    if (on("frozen-item") || (on("skip-reports") && isReport(selected))) return;
    if (on("reload-pane")) {
      this.open(container);
    } else if (on("early-item-changed")) {
      this.#tell(null);
      this.#raise("olkItemSelectedChanged");
      this.#after(LATE_ITEM_MS, () => this.#tell(selected));
    } else {
      this.#tell(selected);
      if (on("no-item-changed")) return;
      this.#after(on("late-item-changed") ? LATE_EVENT_MS : 0, () => this.#raise("olkItemSelectedChanged"));
    }
  }

  /** The item that is selected has new data (a draft was saved, a category set): nothing is told, calls see it. @param {Selected} selected */
  refresh(selected) {
    if (keyOf(this.#told) === keyOf(selected)) this.#told = selected;
    this.#selected = selected;
  }

  /** @param {{to: boolean, cc: boolean, bcc: boolean}} changed */
  recipientsChanged(changed) {
    this.#raise("olkRecipientsChanged", { changedRecipientFields: { ...changed, optionalAttendees: false, requiredAttendees: false, resources: false } });
  }

  /** @param {Theme} theme */
  setTheme(theme) {
    this.#theme = theme;
    if (this.#behaviours.has("stale-theme")) return;
    this.#port?.postMessage({ event: "theme", theme });
    if (!this.#behaviours.has("no-theme-event")) this.#raise("officeThemeChanged");
  }

  // -- Talking to the pane ----------------------------------------------------------------------------------------------

  /** @param {number} ms @param {() => void} act */
  #after(ms, act) {
    const timer = setTimeout(() => {
      this.#later.delete(timer);
      act();
    }, ms);
    this.#later.add(timer);
  }

  /** @param {Selected} selected */
  #tell(selected) {
    this.#told = this.#behaviours.has("null-item") ? null : selected;
    const item = described(this.#told);
    const idIsLate = this.#behaviours.has("late-item-id") && item?.mode === "read";
    this.#port?.postMessage({ event: "item", item: idIsLate ? { ...item, itemId: null } : item });
    if (idIsLate) {
      this.#after(LATE_ID_MS, () => {
        if (keyOf(this.#told) === item.key) this.#port?.postMessage({ event: "item", item });
      });
    }
  }

  /** @param {string} type @param {object} [details] */
  #raise(type, details = {}) {
    this.#port?.postMessage({ event: "raise", type, details });
  }

  /** @param {MessageEvent} event */
  async #greet(event) {
    if (event.data?.office !== "hello") return;
    const origin = new URL(this.#app.sidebarUrl()).origin;
    if (event.origin !== origin) return;
    if (this.#dialog.isSource(event.source)) {
      this.#dialog.welcome(event.source, origin, { ...this.#welcome(), kind: "dialog", item: null });
      return;
    }
    const frame = this.#frame;
    if (!frame || event.source !== frame.contentWindow) return;
    if (this.#behaviours.has("slow-ready")) await pause(SLOW_READY_MS);
    if (frame !== this.#frame) return;
    const { port1, port2 } = new MessageChannel();
    this.#port?.close();
    this.#port = port1;
    port1.onmessage = ({ data }) => void this.#answer(port1, data);
    this.#told = this.#behaviours.has("null-item") ? null : this.#selected;
    const welcome = { ...this.#welcome(), kind: "pane", item: described(this.#told) };
    frame.contentWindow?.postMessage({ office: "welcome", welcome }, origin, [port2]);
    if (this.#behaviours.has("late-item-id")) this.#tell(this.#selected);
  }

  #welcome() {
    const owner = this.#app.owner();
    const { office } = lookOf(owner);
    const set = this.#behaviours.choice("mailbox-") || office.mailboxSet;
    // Single sign-on is for mailboxes at Microsoft 365 (learn.microsoft.com, "Implement single sign-on in your add-in" for Outlook).
    // The demo's people have accounts at Entra wherever their mailboxes are, so here all have it, unless told otherwise.
    const language = this.#behaviours.choice("language-") || owner.language;
    const on = (/** @type {string} */ id) => this.#behaviours.has(id);
    const nestsApps = office.nestsApps && !on("no-naa") && !on("on-premises-sign-in");
    return {
      sets: {
        Mailbox: set,
        DialogApi: "1.2",
        DialogOrigin: "1.1",
        ...(!on("no-identity-api") && !on("on-premises-sign-in") && { IdentityAPI: "1.3" }),
        ...(nestsApps && { NestedAppAuth: "1.1" }),
        ...(on("browser-window") && { OpenBrowserWindowApi: "1.1" }),
      },
      hasBridge: nestsApps && this.#behaviours.choice("naa-") !== "bridgeless",
      profile: {
        name: owner.name,
        address: owner.address,
        timeZone: "W. Europe Standard Time",
        accountType: office.accountType,
      },
      language: language === "en" ? "en-US" : `${language}-${language.toUpperCase()}`,
      theme: this.#theme,
      version: office.version,
    };
  }

  /** @param {MessagePort} port @param {{id: number, call: string, args: any[], item: string | null}} asked */
  async #answer(port, { id, call: name, args, item }) {
    if (this.#behaviours.has("slow-calls")) await pause(SLOW_CALL_MS);
    try {
      port.postMessage({ id, value: await this.#perform(name, args, item) });
    } catch (error) {
      if (isFailure(error)) port.postMessage({ id, error });
      else port.postMessage({ id, error: failure(9020, "GenericResponseError", String(error)) });
    }
  }

  // -- The calls --------------------------------------------------------------------------------------------------------

  /** @param {string} name @param {any[]} args @param {string | null} item @returns {Promise<any>} */
  async #perform(name, args, item) {
    switch (name) {
      case "getAccessToken": return this.#token();
      case "getUserIdentityToken": return this.#identityToken();
      case "nestedAppAuth": return this.#nested.answer(args[0], this.#behaviours.choice("naa-"));
      case "openBrowserWindow": return void window.open(args[0], "_blank", "noopener");
      case "closeContainer": return this.#app.closePane();
      case "openMessage": return this.#app.openItem(args[0]);
      case "openDialog": return this.#openDialog(args[0], args[1]);
      case "closeDialog": return this.#dialog.close();
      case "messageChild": return this.#dialog.tell(args[0]);
      case "getMasterCategories": return this.#masterCategories();
      default:
    }
    const told = this.#told;
    if (!told || keyOf(told) !== item) throw failure(9034, "APICallFailedDueToItemChange", "The selected item has been changed.");
    return "compose" in told ? this.#performOnDraft(told.compose, name, args) : this.#performOnMessage(told.read, name, args);
  }

  /** @param {Detail} message @param {string} name @param {any[]} args @returns {Promise<any>} */
  async #performOnMessage(message, name, args) {
    const path = messagePath(this.#app.owner().address, message.id);
    switch (name) {
      case "getHeaders": return this.#headers(message);
      case "getFile": return base64(await bytes(`${path}/mime`));
      case "getBody": return body(message, path, args[0]);
      case "getAttachment": return attachment(message, path, args[0]);
      case "getCategories": return this.#categoriesOf(path);
      case "addCategories": return this.#addCategories(path, args[0]);
      case "removeCategories": return void (await call("POST", `${path}/categories`, { remove: args[0] }));
      default: throw failure(9020, "GenericResponseError", `The host has no ${name} on a message that is read.`);
    }
  }

  /** @param {Draft} draft @param {string} name @param {any[]} args @returns {Promise<any>} */
  async #performOnDraft(draft, name, args) {
    switch (name) {
      case "getRecipients": return parties(draft.form()[/** @type {"to" | "cc" | "bcc"} */ (args[0])]);
      case "getSubject": return draft.form().subject;
      case "getBody": return args[0] === "html" ? htmlOf(draft.form().text) : draft.form().text;
      case "save": return draft.save();
      case "getItemId":
        if (!draft.itemId) throw failure(9025, "ItemNotSaved", "The ID can't be retrieved until the item is saved.");
        return draft.itemId;
      default: throw failure(9020, "GenericResponseError", `The host has no ${name} on a message that is written.`);
    }
  }

  async #token() {
    const code = this.#behaviours.choice("token-") || (this.#welcome().sets.IdentityAPI ? "" : "13012");
    if (code) {
      throw failure(Number(code), "AccessTokenError", TOKEN_FAILURES[code] ?? "No access token.");
    }
    return (await call("POST", "/api/token", { mailbox: this.#app.owner().address })).token;
  }

  /** Exchange Online gives none any more, and says so this way (@types/office-js, getUserIdentityTokenAsync). */
  async #identityToken() {
    const owner = this.#app.owner();
    if (lookOf(owner).office.accountType !== "enterprise") throw failure(9018, "GenericTokenError", "An internal error has occurred.");
    return (await call("POST", "/api/identity-token", { mailbox: owner.address, url: this.#app.sidebarUrl() })).token;
  }

  /** Outlook gives "" for the user's own sent messages (office-js issue 6796). @param {Detail} message */
  #headers(message) {
    const own = !this.#hasLabels && message.from?.address.toLowerCase() === this.#app.owner().address.toLowerCase();
    return own || this.#behaviours.has("empty-headers") ? "" : message.headers;
  }

  get #hasLabels() {
    return lookOf(this.#app.owner()).hasLabels;
  }

  /** Labels stand for categories; their colours are none of Outlook's. */
  async #masterList() {
    const view = await call("GET", mailboxPath(this.#app.owner().address));
    const all = /** @type {import("./api.js").Category[]} */ (view.categories);
    return this.#hasLabels ? all.map((label) => ({ ...label, color: "none" })) : all;
  }

  /** Needs more than the ReadWriteItem of the product's manifest. */
  async #masterCategories() {
    if (!this.#behaviours.has("read-write-mailbox")) {
      throw failure(7000, "PermissionDenied", "You don't have sufficient permissions for this action.");
    }
    return this.#masterList();
  }

  /** @param {string} path */
  async #categoriesOf(path) {
    const master = await this.#masterList();
    const message = /** @type {Detail} */ (await call("GET", path));
    return message.categories.map((name) => master.find((c) => same(c.name, name)) ?? { name, color: "none" });
  }

  /** @param {string} path @param {string[]} names */
  async #addCategories(path, names) {
    const master = await this.#masterList();
    if (!Array.isArray(names) || !names.length || !names.every((name) => master.some((c) => same(c.name, name)))) {
      throw failure(9042, "InvalidCategory", "Invalid categories were provided.");
    }
    await call("POST", `${path}/categories`, { add: names });
  }

  /** @param {string} url @param {{height?: number, width?: number, displayInIframe?: boolean, promptBeforeOpen?: boolean}} options */
  async #openDialog(url, options) {
    if (new URL(url).origin !== new URL(this.#app.sidebarUrl()).origin) {
      throw failure(12004, "DomainNotTrusted", "The domain of the URL passed to displayDialogAsync is not trusted.");
    }
    if (this.#behaviours.has("no-popups")) throw failure(12009, "DialogIgnored", "The user chose to ignore the dialog box.");
    if (this.#behaviours.has("blocked-popups")) throw failure(12011, "PopupBlocked", "The browser blocks the dialog box.");
    await this.#dialog.open(url, options);
    if (this.#behaviours.has("broken-dialogs")) this.#after(0, () => this.#dialog.fail());
  }
}

/** @param {Selected} selected */
function keyOf(selected) {
  if (!selected) return null;
  return "read" in selected ? selected.read.id : selected.compose.key;
}

/** @param {Selected} selected */
function isReport(selected) {
  return selected !== null && "read" in selected && /^(REPORT\.|IPM\.Report\.)/i.test(selected.read.item_class);
}

/** What the stand-in builds its item from. @param {Selected} selected */
function described(selected) {
  if (!selected) return null;
  if ("compose" in selected) {
    const { key, conversationId, inReplyTo } = selected.compose;
    return { key, mode: /** @type {const} */ ("compose"), conversationId, inReplyTo };
  }
  const message = selected.read;
  return {
    key: message.id,
    mode: /** @type {const} */ ("read"),
    itemId: message.item_id,
    itemClass: message.item_class,
    subject: message.subject,
    from: message.from,
    sender: message.sender,
    to: message.to,
    cc: message.cc,
    internetMessageId: message.internet_message_id,
    conversationId: message.conversation_id,
    created: message.received_at,
    attachments: message.attachments.map((file) => ({
      id: attachmentId(message, file.path),
      name: file.name,
      size: file.size,
      contentType: file.content_type,
      contentId: file.content_id,
      inline: file.inline,
    })),
  };
}

/** @param {Detail} message @param {string} path */
const attachmentId = (message, path) => `${message.item_id}.${path}`;

/** @param {string} a @param {string} b */
const same = (a, b) => String(a).toLowerCase() === String(b).toLowerCase();

/** @param {unknown} error @returns {error is Failure} */
const isFailure = (error) => typeof error === "object" && error !== null && "code" in error && typeof error.code === "number";

/** @param {string} path */
async function bytes(path) {
  const response = await fetch(path);
  if (!response.ok) throw failure(9020, "GenericResponseError", "The mailbox did not answer.");
  return new Uint8Array(await response.arrayBuffer());
}

/** @param {Uint8Array} content */
function base64(content) {
  const pieces = [];
  for (let at = 0; at < content.length; at += 0x6000) pieces.push(btoa(String.fromCharCode(...content.subarray(at, at + 0x6000))));
  return pieces.join("");
}

/** @param {string} text */
function htmlOf(text) {
  const page = document.implementation.createHTMLDocument("");
  page.body.textContent = text;
  return new XMLSerializer().serializeToString(page);
}

/** @param {Detail} message @param {string} path @param {string} coercion */
async function body(message, path, coercion) {
  if (coercion === "html") return message.has_html ? (await fetch(`${path}/html`)).text() : htmlOf(message.text ?? "");
  if (coercion !== "text") throw failure(1000, "UnsupportedCoercionType", "The specified coercion type is not supported.");
  if (message.text !== null || !message.has_html) return message.text ?? "";
  const page = new DOMParser().parseFromString(await (await fetch(`${path}/html`)).text(), "text/html");
  return page.body.textContent ?? "";
}

/** @param {Detail} message @param {string} path @param {string} id */
async function attachment(message, path, id) {
  const file = message.attachments.find((candidate) => attachmentId(message, candidate.path) === id);
  if (!file) throw failure(9003, "InvalidAttachmentId", "The attachment does not exist.");
  return { content: base64(await bytes(`${path}/attachments/${file.path}`)), format: "base64" };
}

/** Read a recipients field: addresses with or without names, commas in quotes. @param {string} text */
export function parties(text) {
  const found = [];
  for (const piece of text.match(/(?:"(?:[^"\\]|\\.)*"|[^,;"])+/g) ?? []) {
    const [, name, address] = piece.trim().match(/^(?:(.*?)\s*<([^<>]*)>)$/) ?? [null, "", piece.trim()];
    if (address?.includes("@")) found.push({ name: (name ?? "").replace(/^"|"$/g, "").replace(/\\(.)/g, "$1"), address: address.trim() });
  }
  return found;
}
