/** The save sheet: what of an e-mail goes to C4C. What is typed goes straight into the draft. */
import { stateLine } from "./bar.js";
import { button, el, icon, iconButton, refocus, show } from "./dom.js";
import { details, sentence } from "./notices.js";
import { cardsOf, keyOf } from "./places.js";

const NAME_LENGTH = 255; // characters that C4C keeps of a subject or a file's name

/** @type {DrawSheet} */
export function drawSheet(place, behind, { sheet, places }, ui) {
  const isOpening = sheet && place.hidden;
  const { activeElement } = document;
  const hasFocus = place.contains(activeElement);
  if (isOpening) place.dataset.opener = activeElement?.getAttribute("data-focus") ?? "";
  place.hidden = !sheet;
  behind.inert = Boolean(sheet);
  show(place, sheet ? parts(sheet, cardsOf(places), ui) : []);
  if (isOpening) place.querySelector("h2")?.focus();
  if (!sheet && hasFocus) refocus(behind, place.dataset.opener);
}

/** @type {SheetParts<Part>} */
function parts(sheet, cards, ui) {
  const { purpose, draft, preview, trouble, saving } = sheet;
  const { t, actions } = ui;
  const title = () => el("h2", { id: "sheet-title", tabindex: -1 }, t(purpose === "save" ? "save" : "change_links"));
  const head = { key: "head", is: purpose, build: () => el("header", iconButton("back", t("back"), actions.close), title()) };
  const links = { key: "links", is: cards, build: () => group("linked_records", records(sheet, cards, ui), "no_records", ui) };
  const end = { key: "end", is: [saving, trouble, !preview], build: () => foot(sheet, ui) };
  if (purpose === "links") return [head, links, end];
  const field = () => el("label.field", t("subject"), textField(draft.subject, (words) => (draft.subject = words)));
  const build = () => files(sheet, ui);
  return [head, { key: "subject", is: 0, build: field }, links, { key: "files", is: [preview, !preview && !trouble], build }, end];
}

/** @type {SheetParts<HTMLElement>} */
function records({ draft, purpose }, cards, { t, text }) {
  return cards.map((card) => {
    const isFixed = purpose === "links" && card.linked; // C4C keeps it
    const box = checkbox(draft.unlinked, keyOf(card), !isFixed);
    return el("li", choice(box, card.title, isFixed ? t("already_linked") : "", el("span.tag", text.named("type", card.type, card.type))));
  });
}

/** @type {Draw<SheetState>} */
function files({ draft, preview, trouble }, ui) {
  if (!preview) return group("attachments", trouble ? [] : [el("li.bone"), el("li.bone")], "attachments_failed", ui);
  const { allowed = true, reason } = preview.eml ?? {};
  const copy = el("li", choice(checkbox(draft.unticked, "eml", allowed), ui.t("eml"), allowed ? ui.t("eml_hint") : reason));
  return group("attachments", [...preview.attachments.map((file) => fileRow(file, draft, ui)), copy], "attachments_failed", ui);
}

/** @type {FileRow} */
function fileRow({ ref, name, size_bytes, inline, allowed, reason }, draft, { t, text }) {
  const box = checkbox(draft.unticked, ref, allowed);
  box.checked &&= allowed;
  const row = el("li.row", choice(box, draft.names.get(ref) ?? name, allowed ? inline && t("inline") : reason, el("span.meta", text.size(size_bytes))));
  const rename = () => {
    const input = textField(draft.names.get(ref) ?? name, (words) => draft.names.set(ref, words));
    input.ariaLabel = t("name_of", { name });
    box.ariaLabel = name; // its label gives way to the field
    row.replaceChildren(box, input);
    input.focus();
    input.setSelectionRange(0, Math.max(0, name.lastIndexOf(".")));
  };
  if (allowed) row.append(iconButton("pencil", t("rename", { name }), rename));
  return row;
}

/** @type {Draw<SheetState>} */
function foot({ purpose, draft, saving, trouble, preview }, ui) {
  const { t, actions } = ui;
  const isUnread = purpose === "save" && !preview;
  const isWaiting = saving || (isUnread && !trouble);
  const label = t(saving ? "saving" : isUnread && trouble ? "retry" : purpose === "links" ? "save_links" : "save");
  const main = button(label, "confirm", () => !isWaiting && (isUnread ? actions.preview() : actions.confirm()), "primary");
  if (isWaiting) main.ariaDisabled = "true";
  const why = trouble && el("div", { role: "alert" }, stateLine("bad", icon("alert"), sentence(trouble, t)), details(trouble, ui));
  const row = el("div.row", main, button(t("cancel"), "cancel", actions.close));
  return el("footer", why, preview?.follow_thread && choice(checkbox(draft.unticked, "thread"), t("follow")), row);
}

/** @type {Group} */
const group = (title, rows, otherwise, { t }) => el("fieldset", el("legend", t(title)), rows[0] ? el("ul", rows) : el("p.meta", t(otherwise)));

/** @type {TextField} */
function textField(value, typed) {
  const input = el("input", { type: "text", value, maxlength: NAME_LENGTH, dir: "auto", input: () => typed(input.value) });
  return input;
}

/** @type {Checkbox} */
function checkbox(off, name, enabled = true) {
  const box = el("input", { type: "checkbox", checked: !off.has(name), disabled: !enabled, change: () => off[box.checked ? "delete" : "add"](name) });
  return box;
}

/** @type {Choice} */
function choice(box, words, hint, more) {
  return el("label.choice", box, el("span.who", el("span", { dir: "auto" }, words), hint && el("span.meta", hint)), more);
}
