/**
 * The mail clients that this page can be: what each calls things, what a person can do there, and what it is to an add-in.
 * Which one it is follows from who hosts the mailbox. Their colours and shapes are in looks.css, by `data-mail`.
 */

/** @typedef {import("./api.js").AccessType} AccessType */
/** @typedef {{accountType: string, mailboxSet: string, nestsApps: boolean, version: string}} Office what the client tells add-ins of itself */
/**
 * @typedef {{name: "outlook" | "exchange" | "gmail", title: string, hosted: string, write: string, places: string, emptyPlace: string,
 *   tags: string, tag: string, newTag: string, manage: string, hasLabels: boolean, office: Office}} Look
 */

/** @type {Look} */
const OUTLOOK = {
  name: "outlook",
  title: "Outlook",
  hosted: "Microsoft 365",
  write: "New message",
  places: "Folders",
  emptyPlace: "This folder is empty.",
  tags: "Categories",
  tag: "Categorize",
  newTag: "New category",
  manage: "Manage categories",
  hasLabels: false,
  office: { accountType: "office365", mailboxSet: "1.14", nestsApps: true, version: "20261122.1" },
};

/**
 * An Exchange server of the company's own stops at Mailbox 1.5 (office-js-docs-reference, outlook-api-requirement-sets), and
 * Outlook on the web tells its build as the version (@types/office-js, Diagnostics.hostVersion).
 * @type {Look}
 */
const EXCHANGE = {
  ...OUTLOOK,
  name: "exchange",
  title: "Outlook on the web",
  hosted: "Exchange Server",
  write: "New",
  office: { accountType: "enterprise", mailboxSet: "1.5", nestsApps: false, version: "15.2.2562.17" },
};

/** Gmail knows no Office.js; the frame gives an add-in what a browser extension could, ids and labels being Gmail's. @type {Look} */
const GMAIL = {
  name: "gmail",
  title: "Gmail",
  hosted: "Google Workspace",
  write: "Compose",
  places: "Labels",
  emptyPlace: "Nothing is here.",
  tags: "Labels",
  tag: "Label",
  newTag: "New label",
  manage: "Manage labels",
  hasLabels: true,
  office: { accountType: "gmail", mailboxSet: "1.14", nestsApps: false, version: "20261122.1" },
};

/** @type {Record<AccessType, Look>} */
const LOOKS = {
  office365: OUTLOOK,
  exchange_direct: { ...EXCHANGE, hosted: "Exchange Server, direct logon" },
  exchange_impersonation: { ...EXCHANGE, hosted: "Exchange Server, impersonation" },
  google: GMAIL,
};

/** @param {{access_type: AccessType}} owner */
export const lookOf = (owner) => LOOKS[owner.access_type];
