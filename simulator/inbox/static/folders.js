/** The left pane: whose mailboxes there are, how the product reaches them, and the folders of the one that is open. */

import { el, hue, icon, initials } from "./dom.js";

/** @typedef {import("./api.js").Owner} Owner */

const PROVIDERS = {
  office365: "Microsoft 365",
  exchange_direct: "Exchange, direct logon",
  exchange_impersonation: "Exchange, impersonation",
  google: "Google",
};
const ORDER = ["inbox", "drafts", "sentitems", "deleteditems"];
const ICONS = /** @type {const} */ (["inbox", "drafts", "sentitems", "deleteditems"]);

/**
 * @param {HTMLElement} place @param {Owner[]} owners
 * @param {{address: string, view: import("./api.js").View} | null} current @param {(address: string, folder: string) => void} go
 */
export function drawMailboxes(place, owners, current, go) {
  const focused = document.activeElement instanceof HTMLElement && place.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  place.replaceChildren(...owners.map((owner) => mailbox(owner, owner.address === current?.address ? current.view : null, go)));
  if (focused) [...place.querySelectorAll("button")].find((b) => b.dataset.key === focused)?.focus();
}

/** @param {Owner} owner @param {import("./api.js").View | null} view @param {(address: string, folder: string) => void} go */
function mailbox(owner, view, go) {
  const head = el("button", {
    type: "button", class: "mailbox", title: owner.address, "aria-expanded": String(view !== null), "data-key": owner.address,
    onclick: () => go(owner.address, "inbox"),
  },
    el("span", { class: `avatar hue${hue(owner.address)}`, "aria-hidden": "true" }, initials(owner.name)),
    el("span", { class: "who" },
      el("span", { class: "name" }, owner.name),
      el("span", { class: "meta" }, PROVIDERS[owner.access_type] + (owner.provisioned ? "" : ", not provisioned"))));
  return el("section", { "aria-label": owner.name, class: view ? "open" : null }, head, view && folders(owner, view, go));
}

/** @param {Owner} owner @param {import("./api.js").View} view @param {(address: string, folder: string) => void} go */
function folders(owner, view, go) {
  const rank = (/** @type {import("./api.js").Folder} */ f) => (f.well_known ? ORDER.indexOf(f.well_known) : ORDER.length);
  const sorted = [...view.folders].sort((a, b) => rank(a) - rank(b) || a.name.localeCompare(b.name));
  return el("ul", { class: "folders" }, ...sorted.map((folder) => {
    const known = ICONS.find((name) => name === folder.well_known) ?? "folder";
    const isCurrent = folder.id === view.folder;
    return el("li", {}, el("button", {
      type: "button", "aria-current": isCurrent ? "page" : null, "data-key": owner.address + folder.id,
      onclick: () => go(owner.address, folder.well_known ?? folder.id),
    },
      icon(known), el("span", { class: "name" }, folder.name),
      folder.unread > 0 && el("span", { class: "count", "aria-label": `${folder.unread} unread` }, String(folder.unread))));
  }));
}
