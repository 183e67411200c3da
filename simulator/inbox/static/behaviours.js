/** How badly the host may behave. Each is something real Outlooks were seen doing; the pane cannot tell which is switched on. */

/** @typedef {{id: string, label: string, hint: string}} Behaviour */

/** @type {Behaviour[]} */
export const BEHAVIOURS = [
  { id: "late-item-changed", label: "Late ItemChanged", hint: "The item changes at once, the event comes 3 s later" },
  { id: "no-item-changed", label: "No ItemChanged", hint: "The item changes, the event never comes" },
  { id: "early-item-changed", label: "Early ItemChanged", hint: "The event comes while the item is null; the item follows 0.7 s later, silently" },
  { id: "frozen-item", label: "Frozen item", hint: "Neither the item nor the event; the pane keeps the old message" },
  { id: "reload-pane", label: "Reload instead of event", hint: "The pane is loaded anew for each message" },
  { id: "null-item", label: "Item is null", hint: "As on encrypted and system messages" },
  { id: "skip-reports", label: "Not active on reports", hint: "Delivery reports and receipts leave the pane on the old message" },
  { id: "late-item-id", label: "Late item id", hint: "itemId is null for 1.5 s" },
  { id: "empty-headers", label: "Empty headers", hint: "getAllInternetHeadersAsync succeeds with an empty string" },
  { id: "slow-ready", label: "Slow start", hint: "Office.onReady takes 3 s" },
  { id: "slow-calls", label: "Slow calls", hint: "Every asynchronous call takes 2 s" },
  { id: "stale-theme", label: "Stale theme", hint: "A theme change is neither told nor readable" },
  { id: "no-theme-event", label: "No theme event", hint: "The new theme is readable, OfficeThemeChanged never comes" },
  { id: "no-identity-api", label: "No IdentityAPI", hint: "getAccessToken is not supported" },
  { id: "no-naa", label: "No NestedAppAuth", hint: "As in older clients" },
  { id: "on-premises-sign-in", label: "On-premises sign-in", hint: "Neither IdentityAPI nor NestedAppAuth; an Exchange mailbox gives identity tokens" },
  { id: "no-storage", label: "Storage blocked", hint: "localStorage throws, cookies stay empty" },
  { id: "no-popups", label: "Dialogs refused", hint: "displayDialogAsync fails with 12009" },
  { id: "blocked-popups", label: "Dialogs blocked", hint: "displayDialogAsync fails with 12011" },
  { id: "broken-dialogs", label: "Broken dialogs", hint: "The dialog's page cannot be loaded: event 12002" },
  { id: "browser-window", label: "OpenBrowserWindowApi", hint: "As Outlook for Windows and Mac have it" },
  { id: "read-write-mailbox", label: "Permission ReadWriteMailbox", hint: "The master category list can be read" },
];

/** What getAccessToken can fail with (learn.microsoft.com, "Troubleshoot error messages for single sign-on"). */
/** @type {Record<string, string>} */
export const TOKEN_FAILURES = {
  13001: "The user is not signed in to Office.",
  13002: "The user aborted sign-in or consent.",
  13003: "The kind of user is not supported.",
  13004: "The resource is invalid.",
  13005: "The grant is invalid.",
  13006: "Client error.",
  13007: "Office could not get an access token for the add-in.",
  13010: "The browser's zones do not match.",
  13012: "The platform does not support getAccessToken.",
};

/** How nested app authentication can fail: what is switched on here -> the bridge's status (@azure/msal-browser, src/naa/BridgeStatusCode.ts). */
/** @type {Record<string, string>} */
export const NAA_FAILURES = {
  interaction: "USER_INTERACTION_REQUIRED", // until the person agrees
  account: "ACCOUNT_UNAVAILABLE",
  network: "NO_NETWORK",
  disabled: "DISABLED",
  transient: "TRANSIENT_ERROR",
  persistent: "PERSISTENT_ERROR",
  silent: "", // no answer, ever
  bridgeless: "", // the set is announced, the bridge is missing (AzureAD/microsoft-authentication-library-for-js issue 7723)
};

export const MAILBOX_SETS = ["1.3", "1.5", "1.8", "1.13", "1.14"];
export const LANGUAGES = ["en", "de"];
/** How Google runs the add-on that Gmail shows in the sidebar's place. */
/** @type {Record<string, string>} */
export const ADD_ONS = { "apps-script": "Add-on, Apps Script", http: "Add-on, HTTP" };

/** The set of switched-on behaviours, read from and written to the page's address. */
export class Behaviours extends EventTarget {
  #on;

  /** @param {string} text ids, separated by commas; besides those listed: `token-<code>`, `naa-<failure>`, `mailbox-<set>`, `language-<code>`, `addon-<runtime>` */
  constructor(text) {
    super();
    this.#on = new Set(text.split(",").map((id) => id.trim()).filter(Boolean));
  }

  /** Ids that mean nothing: a test that misspells one must not pass for it. */
  get unknown() {
    const choices = { token: Object.keys(TOKEN_FAILURES), naa: Object.keys(NAA_FAILURES), mailbox: MAILBOX_SETS, language: LANGUAGES, addon: Object.keys(ADD_ONS) };
    const known = [...BEHAVIOURS.map(({ id }) => id), ...Object.entries(choices).flatMap(([prefix, values]) => values.map((value) => `${prefix}-${value}`))];
    return [...this.#on].filter((id) => !known.includes(id));
  }

  /** @param {string} id */
  has(id) {
    return this.#on.has(id);
  }

  /** @param {string} id @param {boolean} on */
  set(id, on) {
    if (on) this.#on.add(id);
    else this.#on.delete(id);
    this.dispatchEvent(new Event("change"));
  }

  /** The value after a prefix, e.g. of "token-13001", or "". @param {string} prefix */
  choice(prefix) {
    return [...this.#on].find((id) => id.startsWith(prefix))?.slice(prefix.length) ?? "";
  }

  /** @param {string} prefix @param {string} value "" for none */
  choose(prefix, value) {
    for (const id of [...this.#on]) if (id.startsWith(prefix)) this.#on.delete(id);
    if (value) this.#on.add(prefix + value);
    this.dispatchEvent(new Event("change"));
  }

  get size() {
    return this.#on.size;
  }

  /** @override */
  toString() {
    return [...this.#on].sort().join(",");
  }
}
