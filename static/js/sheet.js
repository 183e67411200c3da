/**
 * The save sheet: what of an e-mail goes to C4C. It lies over the pane, takes the focus when a person opens it and gives it
 * back when it closes. What is chosen and typed goes straight into the draft, which outlives the sheet.
 */

/** @import {Attachment, Card, Draft, Key, Part, SheetState, State, Ui} from "./types.js" */
import { spinner, stateLine } from "./bar.js";
import { button, el, icon, iconButton, refocus, show } from "./dom.js";
import { details, sentence } from "./notices.js";
import { cardsOf, keyOf } from "./places.js";
import { visible } from "./text.js";

const SUBJECT_LENGTH = 255; // characters that C4C keeps of an activity's subject

/** Draw the sheet into `place`, or take it away. @param {HTMLElement} place @param {HTMLElement} behind what it covers @param {State} state @param {Ui} ui */
export function drawSheet(place, behind, { sheet, places }, ui) {
  const wasOpen = !place.hidden;
  if (!sheet) {
    if (!wasOpen) return;
    const hadFocus = place.contains(document.activeElement);
    const opener = place.dataset.opener;
    place.hidden = true;
    place.replaceChildren();
    behind.inert = false;
    if (hadFocus) refocus(behind, opener);
    return;
  }
  if (!wasOpen) place.dataset.opener = document.activeElement?.getAttribute("data-focus") ?? "";
  place.hidden = false;
  behind.inert = true;
  show(place, parts(sheet, cardsOf(places), ui));
  if (!wasOpen) place.querySelector("h2")?.focus();
}

/** @param {SheetState} sheet @param {Card[]} cards @param {Ui} ui @returns {Part[]} */
function parts(sheet, cards, ui) {
  const { purpose, draft, preview, trouble, saving } = sheet;
  const { t, sidebar } = ui;
  const isSave = purpose === "save";
  const head = () =>
    el("header", iconButton("back", t("back"), () => sidebar.close()), el("h2", { id: "sheet-title", tabindex: -1 }, t(isSave ? "save" : "change_links")));
  const all = [
    { key: "head", is: purpose, build: head },
    isSave && { key: "subject", is: 0, build: () => subject(draft, ui) },
    { key: "records", is: cards, build: () => group("linked_records", records(cards, sheet, ui), "no_records", ui) },
    isSave && { key: "files", is: [preview, !trouble], build: () => files(sheet, ui) },
    isSave && { key: "eml", is: 0, build: () => eml(draft, ui) },
    { key: "foot", is: [saving, trouble, !preview], build: () => foot(sheet, ui) },
  ];
  return all.filter((part) => part !== false);
}

/** @param {Draft} draft @param {Ui} ui */
function subject(draft, { t }) {
  return el("label.field", t("subject"), textField(draft.subject, SUBJECT_LENGTH, (text) => (draft.subject = text)));
}

/** @param {Card[]} cards @param {SheetState} sheet @param {Ui} ui */
function records(cards, { draft, purpose }, { t, locale }) {
  return cards.map((card) => {
    const isFixed = purpose === "links" && card.linked; // C4C keeps a link that is there
    const box = checkbox(!draft.unlinked.has(keyOf(card)), !isFixed, (ticked) => draft.unlinked[ticked ? "delete" : "add"](keyOf(card)));
    return el("li", choice(box, card.title, isFixed ? t("already_linked") : "", el("span.tag", locale.named("type", card.type, card.type))));
  });
}

/** @param {SheetState} sheet @param {Ui} ui */
function files({ draft, preview, trouble }, ui) {
  if (preview) return group("attachments", preview.attachments.map((file) => fileRow(file, draft, ui)), "no_attachments", ui);
  return group("attachments", trouble ? [] : [el("li.bone"), el("li.bone")], "attachments_failed", ui);
}

/** @param {Attachment} file @param {Draft} draft @param {Ui} ui */
function fileRow({ ref, name, size_bytes, inline, allowed, reason }, draft, { t, locale }) {
  const box = checkbox(allowed && !draft.unticked.has(ref), allowed, (ticked) => draft.unticked[ticked ? "delete" : "add"](ref));
  const hint = allowed ? (inline ? t("inline") : "") : reason || t("not_allowed");
  const row = el("li.row", choice(box, draft.names.get(ref) ?? name, hint, el("span.meta", locale.size(size_bytes))));
  if (!allowed) return row;
  const rename = iconButton("pencil", t("rename", { name: visible(name) }), () => {
    const input = textField(draft.names.get(ref) ?? name, 200, (text) => draft.names.set(ref, text));
    input.setAttribute("aria-label", t("name_of", { name: visible(name) }));
    row.replaceChildren(box, input);
    input.focus();
    input.setSelectionRange(0, Math.max(0, input.value.lastIndexOf(".")));
  });
  row.append(rename);
  return row;
}

/** @param {Draft} draft @param {Ui} ui */
function eml(draft, { t }) {
  return el("p", choice(checkbox(draft.eml, true, (ticked) => (draft.eml = ticked)), t("eml"), t("eml_hint")));
}

/** @param {SheetState} sheet @param {Ui} ui */
function foot({ purpose, saving, trouble, preview }, ui) {
  const { t, sidebar } = ui;
  const isUnread = purpose === "save" && !preview;
  const isWaiting = saving || (isUnread && !trouble);
  const label = t(saving ? "saving" : isUnread && trouble ? "retry" : purpose === "links" ? "save_links" : "save");
  const main = button(label, "confirm", () => !isWaiting && (isUnread ? sidebar.preview() : sidebar.confirm()), "primary");
  if (saving) main.prepend(spinner());
  if (isWaiting) main.setAttribute("aria-disabled", "true");
  const why = trouble && sentence(trouble, ui);
  return el(
    "footer",
    trouble && el("div", { role: "alert" }, stateLine("bad", icon("alert"), isUnread ? `${why}` : t("failed", { reason: `${why}` })), details(trouble, ui)),
    el("div.row", main, button(t("cancel"), "cancel", () => sidebar.close())),
  );
}

/** @param {Key} title @param {HTMLElement[]} rows @param {Key} otherwise @param {Ui} ui */
function group(title, rows, otherwise, { t }) {
  return el("fieldset", el("legend", t(title)), rows.length > 0 ? el("ul", rows) : el("p.meta", t(otherwise)));
}

/** @param {string} value @param {number} maxlength @param {(text: string) => void} typed */
function textField(value, maxlength, typed) {
  const input = el("input", { type: "text", value, maxlength, dir: "auto", autocomplete: "off", input: () => typed(input.value) });
  return input;
}

/** @param {boolean} checked @param {boolean} enabled @param {(ticked: boolean) => void} changed */
function checkbox(checked, enabled, changed) {
  const box = el("input", { type: "checkbox", checked, disabled: !enabled, change: () => changed(box.checked) });
  return box;
}

/** @param {HTMLInputElement} box @param {string} text @param {string} hint @param {Node} [more] */
function choice(box, text, hint, more) {
  return el("label.choice", box, el("span.who", el("span", { dir: "auto" }, visible(text)), hint && el("span.meta", visible(hint))), more);
}
