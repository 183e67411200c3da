/**
 * The mail client: the only file that knows Office.js. It reads the selected item, tells when another one may be selected, and
 * gives token, theme and language. It changes nothing in the mailbox.
 */

/** @import {Headline, Item, Person, WireItem} from "./types.js" */

const READY_MS = 15_000;
const HEADERS_MS = 300; // headers only help to recognise automatic mail; the server can do without
const HEADERS_LENGTH = 60_000; // characters
const SETTLE_MS = 400; // people are added to a draft one after the other
const POLL_MS = 1_500; // clients miss ItemChanged (office-js issues 974, 3470, 6287, 6833)

// getAccessToken: not supported; not for this kind of account; not on this platform
const NO_SINGLE_SIGN_ON = [13000, 13003, 13012];

export class HostError extends Error {
  /** @param {"sign_in_needed" | "no_sso"} code */
  constructor(code) {
    super(code);
    this.code = code;
  }
}

export class Host {
  #mailbox = Office.context.mailbox;
  /** @type {WeakMap<object, string>} */ #drafts = new WeakMap();
  #draftCount = 0;

  /** Wait for the mail client; null when this page was opened outside of one. */
  static async open() {
    if (!("Office" in globalThis)) return null;
    await Promise.race([Office.onReady(), wait(READY_MS)]);
    return Office.context?.mailbox ? new Host() : null;
  }

  get language() {
    return Office.context.displayLanguage || navigator.language;
  }

  /** @returns {"light" | "dark" | null} null when the client does not tell */
  get theme() {
    return supports("1.14") ? brightness(Office.context.officeTheme?.bodyBackgroundColor) : null;
  }

  /** What the selected item is known by in this page. Cheap; asked before every write. @returns {string | null} */
  get identity() {
    const item = this.#mailbox.item;
    if (!item || isMessage(item)) return item?.itemId || null;
    const name = this.#drafts.get(item) ?? `draft ${++this.#draftCount}`;
    this.#drafts.set(item, name);
    return name;
  }

  /** Sender and subject, without waiting; null for a draft. @returns {Headline | null} */
  get headline() {
    const item = this.#mailbox.item;
    return item && isMessage(item) ? { from: person(item.from), subject: item.subject || "" } : null;
  }

  /** Read the selected item; null when there is none, or another one by now. @returns {Promise<Item | null>} */
  async readItem() {
    const { item } = this.#mailbox;
    const { identity } = this;
    if (!item || !identity) return null;
    const isRead = isMessage(item);
    const wire = isRead ? await this.#message(item) : await this.#draft(/** @type {Office.MessageCompose} */ (item));
    return this.identity === identity ? { identity, mode: isRead ? "read" : "compose", wire } : null;
  }

  /** Call back whenever another item may be selected; it may also be the same. @param {() => void} changed */
  onItemChange(changed) {
    if (supports("1.5")) this.#mailbox.addHandlerAsync(Office.EventType.ItemChanged, changed);
    addEventListener("focus", changed);
    document.addEventListener("visibilitychange", changed);
    setInterval(() => document.visibilityState === "visible" && changed(), POLL_MS);
  }

  /** Call back when the people of the selected draft have changed. @param {() => void} changed */
  onRecipientsChange(changed) {
    const { item } = this.#mailbox;
    if (!item || isMessage(item) || !supports("1.7")) return;
    let timer = 0;
    /** @type {Office.MessageCompose} */ (item).addHandlerAsync(Office.EventType.RecipientsChanged, () => {
      clearTimeout(timer);
      timer = setTimeout(() => this.#mailbox.item === item && changed(), SETTLE_MS);
    });
  }

  /** @param {() => void} changed */
  onThemeChange(changed) {
    if (supports("1.14")) this.#mailbox.addHandlerAsync(Office.EventType.OfficeThemeChanged, changed);
  }

  /** Return a token for this server. Raises: HostError. @param {boolean} ask the client may open its sign-in; only after a click */
  async token(ask) {
    // It cannot be demanded in an Outlook manifest, hence asked for here (identity-api-requirement-sets.md).
    if (!supports("1.3", "IdentityAPI")) throw new HostError("no_sso");
    try {
      return await Office.auth.getAccessToken({ allowSignInPrompt: ask, allowConsentPrompt: ask });
    } catch (error) {
      throw new HostError(NO_SINGLE_SIGN_ON.includes(/** @type {any} */ (error)?.code) ? "no_sso" : "sign_in_needed");
    }
  }

  /** @param {Office.MessageRead} item @returns {Promise<WireItem>} */
  async #message(item) {
    const { internetMessageId, conversationId, subject, from, to, cc, itemClass } = item;
    const headers = supports("1.8") ? await Promise.race([rawHeaders(item), wait(HEADERS_MS)]) : "";
    return {
      ...this.#ids(item.itemId),
      internet_message_id: internetMessageId || "",
      conversation_id: conversationId || "",
      subject: subject || "",
      from: person(from),
      to: people(to),
      cc: people(cc),
      bcc: [],
      ...(headers && { headers: headers.slice(0, HEADERS_LENGTH) }),
      ...(itemClass && { item_class: itemClass }),
    };
  }

  /** @param {Office.MessageCompose} item @returns {Promise<WireItem>} */
  async #draft({ subject, to, cc, bcc, conversationId }) {
    const [title, ...lists] = await Promise.all([value(subject), value(to), value(cc), value(bcc)]);
    const [first = [], second = [], third = []] = lists.map(people);
    const { displayName, emailAddress } = this.#mailbox.userProfile;
    return {
      ...this.#ids(""),
      internet_message_id: "",
      conversation_id: conversationId || "",
      subject: title ?? "",
      from: { name: displayName || "", address: emailAddress },
      to: first,
      cc: second,
      bcc: third,
    };
  }

  /** @param {string} id @returns {Pick<WireItem, "id" | "id_form" | "mailbox">} */
  #ids(id) {
    const { accountType, emailAddress: mailbox } = this.#mailbox.userProfile;
    // "enterprise" is an Exchange server of one's own, which knows no REST ids.
    if (supports("1.6") && accountType === "enterprise") return { id, id_form: "ews", mailbox };
    return { id: id && this.#mailbox.convertToRestId(id, Office.MailboxEnums.RestVersion.v2_0), id_form: "rest", mailbox };
  }
}

/** @param {string} version */
function supports(version, set = "Mailbox") {
  return Office.context.requirements?.isSetSupported(set, version) ?? false;
}

/** @param {object} item @returns {item is Office.MessageRead} the subject of a draft is an object with getAsync */
function isMessage(item) {
  return !("subject" in item) || typeof item.subject !== "object";
}

/** @param {Office.EmailAddressDetails | null | undefined} details @returns {Person} */
function person(details) {
  return { name: details?.displayName || "", address: details?.emailAddress || "" };
}

/** @param {Office.EmailAddressDetails[] | null | undefined} all */
function people(all) {
  return (all ?? []).map(person).filter(({ address }) => address);
}

/** @param {Office.MessageRead} item @returns {Promise<string | undefined>} also empty for sent items (office-js issue 6796) */
function rawHeaders(item) {
  return new Promise((resolve) => item.getAllInternetHeadersAsync((result) => resolve(result.value)));
}

/**
 * @template T @param {{getAsync: (callback: (result: Office.AsyncResult<T>) => void) => void}} property
 * @returns {Promise<T | undefined>}
 */
function value(property) {
  return new Promise((resolve) => property.getAsync((result) => resolve(result.value)));
}

/** @param {string | undefined} color "#rrggbb"; Outlook has no isDarkTheme @returns {"light" | "dark" | null} */
function brightness(color) {
  const [, red, green, blue] = /^#?([\da-f]{2})([\da-f]{2})([\da-f]{2})$/i.exec(color ?? "")?.map((part) => parseInt(part, 16)) ?? [];
  if (red === undefined || green === undefined || blue === undefined) return null;
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue < 128 ? "dark" : "light";
}

/** @param {number} ms @returns {Promise<undefined>} */
function wait(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
