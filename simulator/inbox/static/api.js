/** The inbox's own JSON, and the World's back door. */

/** @typedef {{name: string, address: string}} Party */
/** @typedef {"office365" | "exchange_direct" | "google" | "exchange_impersonation"} AccessType */
/** @typedef {{address: string, name: string, access_type: AccessType, provisioned: boolean, language: string}} Owner */
/** @typedef {{name: string, color: string}} NamedColor */
/** @typedef {{sidebar_url: string, has_add_on: boolean, vendors: string[], mailboxes: Owner[], label_colors: NamedColor[]}} Config */
/** A place where messages are: at Google a label, or all mail. */
/** @typedef {{id: string, name: string, well_known: string | null, total: number, unread: number}} Folder */
/** A category, or a label of the owner's; its colour is a preset, "none", or at Google "#background #text". */
/** @typedef {{id: string, name: string, color: string, is_listed: boolean}} Category */
/**
 * @typedef {{id: string, subject: string, from: Party | null, to: Party[], received_at: string, preview: string,
 *   has_attachments: boolean, categories: string[], is_read: boolean, is_draft: boolean, folder: string, item_class: string}} Row
 */
/** @typedef {{path: string, name: string, size: number, content_type: string, content_id: string | null, inline: boolean}} Attachment */
/**
 * @typedef {Row & {sender: Party | null, cc: Party[], bcc: Party[], date: string, internet_message_id: string,
 *   conversation_id: string, item_id: string, headers: string, text: string | null, has_html: boolean,
 *   attachments: Attachment[]}} Detail
 */
/** @typedef {{revision: string, folder: string, folders: Folder[], categories: Category[], messages: Row[]}} View */
/** @typedef {{to: string, cc: string, bcc: string, subject: string, text: string, id?: string, send?: boolean, conversation_id?: string}} Form */

export class ApiError extends Error {
  /** @param {number} status @param {string} message */
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** @param {string} method @param {string} path @param {object} [body] @returns {Promise<any>} null when there is no content */
export async function call(method, path, body) {
  const response = await fetch(path, {
    method,
    headers: body ? { "Content-Type": "application/json" } : {},
    body: body && JSON.stringify(body),
  });
  if (response.status === 204) return null;
  const answer = await response.json();
  if (!response.ok) throw new ApiError(response.status, answer.error ?? "The inbox did not answer as expected.");
  return answer;
}

/** @param {string} address @param {string} id */
export const messagePath = (address, id) => `/api/mailboxes/${encodeURIComponent(address)}/messages/${encodeURIComponent(id)}`;

/** @param {string} address */
export const mailboxPath = (address) => `/api/mailboxes/${encodeURIComponent(address)}`;

/** @param {string} address @param {string} folder @param {string} seen @returns {Promise<View | null>} null when nothing changed */
export const view = (address, folder, seen) =>
  call("GET", `${mailboxPath(address)}?${new URLSearchParams({ folder, seen })}`);

/** @param {string} address @param {string} id @returns {Promise<Detail>} */
export const detail = (address, id) => call("GET", messagePath(address, id));
