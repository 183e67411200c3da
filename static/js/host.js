/** The mail client: the only file that knows Office.js. It changes nothing in the mailbox. */
import { ApiError } from "./api.js";

const HEADERS_MS = 300; // they only help to recognise automatic mail
const POLL_MS = 1_500; // clients miss ItemChanged (office-js issues 974, 3470, 6287, 6833)
const NO_SINGLE_SIGN_ON = [13000, 13003, 13012]; // not supported; not for this account; not on this platform

export class Host {
  #mailbox = Office.context.mailbox;
  #draft = {};
  #drafts = 0;

  /** Wait for the mail client; null outside of one. */
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

  /** What the selected item is known by in this page; cheap. @returns {string | null} */
  get identity() {
    const { item } = this.#mailbox;
    if (!item || isMessage(item)) return item?.itemId || null;
    if (item !== this.#draft) this.#drafts++;
    this.#draft = item;
    return `draft ${this.#drafts}`;
  }

  /** Sender and subject, without waiting; null for a draft. @returns {Headline | null} */
  get headline() {
    const { item } = this.#mailbox;
    return item && isMessage(item) ? { from: person(item.from), subject: item.subject || "" } : null;
  }

  /** null when there is none, or another one by now. @returns {Promise<Item | null>} */
  async readItem() {
    const { item } = this.#mailbox;
    const { identity } = this;
    if (!item || !identity) return null;
    const mode = isMessage(item) ? "read" : "compose";
    const wire = isMessage(item) ? await this.#readMessage(item) : await this.#readDraft(item);
    return this.identity === identity ? { identity, mode, wire } : null;
  }

  /** Call back when another item may be selected. @param {() => void} changed */
  onItemChange(changed) {
    if (supports("1.5")) this.#mailbox.addHandlerAsync(Office.EventType.ItemChanged, changed);
    addEventListener("focus", changed);
    document.addEventListener("visibilitychange", changed);
    setInterval(() => document.visibilityState === "visible" && changed(), POLL_MS);
  }

  /** Call back when the people of the selected draft change. @param {() => void} changed */
  onRecipientsChange(changed) {
    const { item } = this.#mailbox;
    if (!item || isMessage(item) || !supports("1.7")) return;
    /** @type {Office.MessageCompose} */ (item).addHandlerAsync(Office.EventType.RecipientsChanged, changed);
  }

  /** @param {() => void} changed */
  onThemeChange(changed) {
    if (supports("1.14")) this.#mailbox.addHandlerAsync(Office.EventType.OfficeThemeChanged, changed);
  }

  /** A token for this server. Raises: ApiError. @param {boolean} ask the client may open its sign-in; only after a click */
  async token(ask) {
    // An Outlook manifest cannot demand it (identity-api-requirement-sets.md).
    if (!supports("1.3", "IdentityAPI")) throw new ApiError("no_sso");
    try {
      return await Office.auth.getAccessToken({ allowSignInPrompt: ask, allowConsentPrompt: ask });
    } catch (error) {
      throw new ApiError(NO_SINGLE_SIGN_ON.includes(/** @type {any} */ (error)?.code) ? "no_sso" : "sign_in_needed");
    }
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
    const profile = this.#mailbox.userProfile;
    const mailbox = profile.emailAddress;
    // "enterprise" is an Exchange server of one's own, which knows no REST ids.
    if (supports("1.6") && profile.accountType === "enterprise") return { id, id_form: "ews", mailbox };
    return { id: this.#mailbox.convertToRestId(id, Office.MailboxEnums.RestVersion.v2_0), id_form: "rest", mailbox };
  }
}

/** @param {string} version */
const supports = (version, set = "Mailbox") => Office.context.requirements?.isSetSupported(set, version);

/** The subject of a draft is an object with getAsync. @type {IsMessage} */
function isMessage(item) {
  return !("subject" in item) || typeof item.subject !== "object";
}

/** A name that cannot be seen is none. @type {PersonOf} */
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
