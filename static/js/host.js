/** The mail client: the only file that knows Office.js. It changes nothing in the mailbox. */
import { ApiError } from "./api.js";

const HEADERS_MS = 300; // they only help to recognise automatic mail
const POLL_MS = 1_500; // clients miss ItemChanged (office-js issues 974, 3470, 6287, 6833)
const CLOSED = 12006; // by the person (dialog-handle-errors-events.md)

export class Host {
  #mailbox = Office.context.mailbox;
  #draft = {};
  #drafts = 0;

  /** null outside of a mail client */
  static async open() {
    if (!("Office" in globalThis)) return null;
    await Office.onReady();
    return Office.context?.mailbox ? new Host() : null;
  }

  get language() {
    return Office.context.displayLanguage;
  }

  /** null: the client does not tell */
  get theme() {
    return supports("1.14") ? brightness(Office.context.officeTheme?.bodyBackgroundColor) : null;
  }

  get identity() {
    const { item } = this.#mailbox;
    if (!item || isMessage(item)) return item?.itemId || null;
    if (item !== this.#draft) this.#drafts++;
    this.#draft = item;
    return `draft ${this.#drafts}`;
  }

  /** null for a draft */
  get headline() {
    const { item } = this.#mailbox;
    return item && isMessage(item) ? { from: person(item.from), subject: item.subject || "" } : null;
  }

  /** @returns {Promise<Item | null>} */
  async readItem() {
    const { item } = this.#mailbox;
    const { identity } = this;
    if (!item || !identity) return null;
    const mode = isMessage(item) ? "read" : "compose";
    const wire = isMessage(item) ? await this.#readMessage(item) : await this.#readDraft(item);
    return this.identity === identity ? { identity, mode, wire } : null;
  }

  /** @type {On} */
  onItemChange = (changed) => {
    if (supports("1.5")) this.#mailbox.addHandlerAsync(Office.EventType.ItemChanged, changed);
    addEventListener("focus", changed);
    document.addEventListener("visibilitychange", changed);
    setInterval(() => document.hidden || changed(), POLL_MS);
  };

  /** Of the selected draft. @type {On} */
  onRecipientsChange = (changed) => {
    const { item } = this.#mailbox;
    if (!item || isMessage(item) || !supports("1.7")) return;
    /** @type {Office.MessageCompose} */ (item).addHandlerAsync(Office.EventType.RecipientsChanged, changed);
  };

  /** @type {On} */
  onThemeChange = (changed) => {
    if (supports("1.14")) this.#mailbox.addHandlerAsync(Office.EventType.OfficeThemeChanged, changed);
  };

  get nestsApps() {
    return supports("1.1", "NestedAppAuth");
  }

  /** @type {Way} */
  officeToken = async (ask) => {
    // An Outlook manifest cannot demand it (identity-api-requirement-sets.md).
    if (!supports("1.3", "IdentityAPI")) return "";
    return Office.auth.getAccessToken({ allowSignInPrompt: ask, allowConsentPrompt: ask }).catch(({ code }) => {
      // not signed in; broke it off; an earlier question is open
      if (/1300[128]/.test(code)) throw new ApiError("sign_in_needed");
      return "";
    });
  };

  /** @type {Way} */
  exchangeToken = async () => {
    // A client that stops before 1.6 does not tell, and belongs to a server of one's own.
    if (supports("1.6") && !this.#isEnterprise) return "";
    return (await value((callback) => this.#mailbox.getUserIdentityTokenAsync(callback))) ?? "";
  };

  /** @type {Way} */
  dialogToken = async (ask) => {
    if (!supports("1.1", "DialogApi")) return "";
    if (!ask) throw new ApiError("sign_in_needed");
    const url = `${location.origin}/pane/sign-in`;
    const dialog = await value((callback) => Office.context.ui.displayDialogAsync(url, { height: 70, width: 40 }, callback));
    if (!dialog) throw new ApiError("dialog_blocked");
    return new Promise((resolve, reject) => {
      const heard = (/** @type {any} */ { message, origin = location.origin, error }) => {
        if (origin !== location.origin) return;
        if (error !== CLOSED) dialog.close();
        if (error) reject(new ApiError(error === CLOSED ? "dialog_closed" : "dialog_blocked"));
        else resolve(JSON.parse(message).token);
      };
      dialog.addEventHandler(Office.EventType.DialogMessageReceived, heard);
      dialog.addEventHandler(Office.EventType.DialogEventReceived, heard);
    });
  };

  /** @type {Visit} */
  visit = async (path) => {
    const url = location.origin + path;
    if (supports("1.1", "OpenBrowserWindowApi")) Office.context.ui.openBrowserWindow(url);
    else open(url, "_blank", "noopener");
    await new Promise((resolve) => addEventListener("focus", resolve, { once: true }));
  };

  get #isEnterprise() {
    return supports("1.6") && this.#mailbox.userProfile.accountType === "enterprise";
  }

  /** @param {Office.MessageRead} item */
  async #readMessage(item) {
    const late = new Promise((resolve) => setTimeout(resolve, HEADERS_MS, ""));
    const all = supports("1.8") && value((callback) => item.getAllInternetHeadersAsync(callback));
    const headers = await Promise.race([all, late]); // "" for sent items, too (office-js issue 6796)
    return {
      ...this.#ids(item.itemId),
      internet_message_id: item.internetMessageId,
      conversation_id: item.conversationId,
      subject: item.subject || "",
      from: person(item.from),
      to: people(item.to),
      cc: people(item.cc),
      headers: headers || "",
      item_class: item.itemClass,
    };
  }

  /** @param {Office.MessageCompose} item */
  async #readDraft(item) {
    const lists = [item.to, item.cc, item.bcc].map((list) => value((callback) => list.getAsync(callback)).then(people));
    const [to = [], cc = [], bcc = []] = await Promise.all(lists);
    const subject = (await value((callback) => item.subject.getAsync(callback))) ?? "";
    const from = person(this.#mailbox.userProfile);
    return { ...this.#ids("draft"), subject, from, to, cc, bcc };
  }

  /** @param {string} id @returns {Ids} */
  #ids(id) {
    const mailbox = this.#mailbox.userProfile.emailAddress;
    // An Exchange server of one's own knows no REST ids.
    if (this.#isEnterprise) return { id, id_form: "ews", mailbox };
    return { id: this.#mailbox.convertToRestId(id, Office.MailboxEnums.RestVersion.v2_0), id_form: "rest", mailbox };
  }
}

/** @param {string} version */
const supports = (version, set = "Mailbox") => Office.context.requirements?.isSetSupported(set, version);

/** @type {IsMessage} */
function isMessage(item) {
  return !("subject" in item) || typeof item.subject !== "object";
}

/** @type {PersonOf} */
function person(of) {
  const name = of?.displayName ?? "";
  return { name: /[^\p{C}\p{M}\p{Z}]/u.test(name) ? name : "", address: of?.emailAddress || "" };
}

/** @param {Office.EmailAddressDetails[]} [all] */
const people = (all = []) => all.map((each) => person(each)).filter(({ address }) => address);

/** @type {ValueOf} */
const value = (get) => new Promise((resolve) => get((result) => resolve(result.value)));

/** Outlook has no isDarkTheme. @param {string} [color] */
function brightness(color = "") {
  if (!/^#[\da-f]{6}$/i.test(color)) return null;
  const [red, green, blue] = [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16));
  return 0.21 * red + 0.72 * green + 0.07 * blue < 128 ? "dark" : "light";
}
