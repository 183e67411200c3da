/** The left pane: the folders of the mailbox that is open, or its labels as a tree. */

import { swatch } from "./categories.js";
import { el, icon, iconButton, renew, spoken } from "./dom.js";

/** @typedef {import("./api.js").Folder} Folder */
/** @typedef {import("./api.js").View} View */
/** @typedef {import("./look.js").Look} Look */
/** @typedef {{go: (folder: string) => void, write: () => void, manage: () => void, contacts: () => void}} Actions */
/** @typedef {{folder: Folder, name: string, children: Branch[]}} Branch */

const ICONS = /** @type {const} */ (["inbox", "drafts", "sentitems", "deleteditems", "archive"]);
const UNCOUNTED = ["sentitems", "deleteditems", "archive"]; // Gmail tells no number there
const ORDER = ["inbox", "drafts", "sentitems", "deleteditems", "archive"];

/** @param {HTMLElement} place @param {Look} look @param {View} view @param {Actions} actions */
export function drawFolders(place, look, view, actions) {
  const focused = document.activeElement instanceof HTMLElement && place.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  const rank = (/** @type {Folder} */ f) => (f.well_known ? ORDER.indexOf(f.well_known) : ORDER.length);
  const sorted = [...view.folders].sort((a, b) => rank(a) - rank(b) || a.name.localeCompare(b.name));
  const own = look.hasLabels ? sorted.filter((folder) => !folder.well_known) : [];
  const flat = sorted.filter((folder) => !own.includes(folder)).map((folder) => ({ folder, name: folder.name, children: [] }));
  renew(place, el("div", {},
    el("button", { type: "button", class: "write primary", "data-key": "write", onclick: actions.write }, icon("drafts"), el("span", { class: "name" }, look.write)),
    branches(look.hasLabels ? "Places" : look.places, flat, look, view, actions),
    ...(look.hasLabels ? [
      el("div", { class: "heading" }, el("h2", {}, look.places), el("span", { class: "grow" }), iconButton("plus", look.manage, actions.manage, { "data-key": "manage" })),
      own.length ? branches(look.places, tree(own), look, view, actions) : el("p", { class: "meta" }, "No labels yet"),
    ] : []),
    el("button", { type: "button", class: "contacts-button", "data-key": "contacts", onclick: actions.contacts }, icon("contacts"), el("span", { class: "name" }, "Contacts"))));
  if (focused) [...place.querySelectorAll("button")].find((button) => button.dataset.key === focused)?.focus();
}

/**
 * Hang each label under the one whose name its own begins with: only a "/" in the name makes Gmail's tree.
 * @param {Folder[]} labels sorted by name @returns {Branch[]}
 */
export function tree(labels) {
  const all = labels.map((folder) => ({ folder, name: folder.name, children: /** @type {Branch[]} */ ([]) }));
  const isUnder = (/** @type {Branch} */ child, /** @type {Branch} */ parent) => child.folder.name.startsWith(`${parent.folder.name}/`);
  return all.filter((branch) => {
    const parent = all.filter((other) => isUnder(branch, other)).sort((a, b) => b.folder.name.length - a.folder.name.length)[0];
    if (!parent) return true;
    branch.name = branch.folder.name.slice(parent.folder.name.length + 1);
    parent.children.push(branch);
    return false;
  });
}

/** @param {string} label @param {Branch[]} list @param {Look} look @param {View} view @param {Actions} actions @returns {HTMLElement} */
function branches(label, list, look, view, actions) {
  return el("ul", { class: "folders", "aria-label": label }, ...list.map(({ folder, name, children }) => {
    const known = ICONS.find((one) => one === folder.well_known);
    const color = look.hasLabels && !known ? view.categories.find((category) => category.id === folder.id)?.color ?? "none" : null;
    const isCounted = folder.unread > 0 && !(look.hasLabels && UNCOUNTED.includes(folder.well_known ?? ""));
    return el("li", {},
      el("button", {
        type: "button", title: folder.name, "aria-current": folder.id === view.folder ? "page" : null, "data-key": folder.id,
        onclick: () => actions.go(folder.well_known ?? folder.id),
      },
        color === null ? icon(known ?? "folder") : swatch(color), el("span", { class: "name" }, name),
        isCounted && el("span", { class: "count" }, String(folder.unread), spoken(" unread"))),
      children.length > 0 && branches(folder.name, children, look, view, actions));
  }));
}
