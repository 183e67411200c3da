/** The bar at the bottom: the one primary action, or what became of it. */

/** @import {Part, Saving, State, Ui} from "./types.js" */
import { button, el, icon, outside } from "./dom.js";
import { details, sentence } from "./notices.js";
import { linksOf } from "./places.js";
import { visible } from "./text.js";

/** @param {State} state @param {Ui} ui @returns {Part[]} none when there is nothing to save */
export function barParts({ phase, context, places, item, save }, ui) {
  if (phase !== "shown" || item?.mode !== "read" || !context) return [];
  const isNothing = places.length === 0 && !context.automatic && context.notice;
  if (isNothing && save.state === "none") return [];
  const count = linksOf(places).length;
  const isQuiet = Boolean(context.automatic);
  return [{ key: "bar", is: [save, count, isQuiet], build: () => bar(save, count, isQuiet, ui) }];
}

/** @param {Saving} save @param {number} count @param {boolean} isQuiet @param {Ui} ui */
function bar(save, count, isQuiet, ui) {
  const { t, sidebar } = ui;
  const choose = button(t("choose"), "choose", () => sidebar.choose("save"));
  choose.setAttribute("aria-label", t("choose_what"));
  switch (save.state) {
    case "none": {
      const main = button(t(isQuiet ? "save_anyway" : "save"), "save", () => sidebar.save(), isQuiet ? "" : "primary");
      if (count > 0) main.append(el("span.count", t("links", { n: count })));
      return el("div.row", main, choose);
    }
    case "saved": {
      const change = button(t("change_links"), "change", () => sidebar.choose("links"), "plain");
      const open = outside(save.activity?.url, t("open_in_c4c"), t("open_named", { name: t("this_email") }));
      return el("div.row", stateLine("good", icon("check"), savedText(save, ui)), el("span.row", change, open));
    }
    case "failed": {
      const retry = button(t("retry"), "save", () => sidebar.retry(), "primary");
      const { trouble } = save;
      return el("div.row", stateLine("bad", icon("alert"), failedText(save, ui)), el("span.row", retry, choose), trouble && details(trouble, ui));
    }
    default:
      return el("div.row", stateLine("wait", spinner(), t(save.state)));
  }
}

export const spinner = () => el("span.spinner", { "aria-hidden": "true" });

/** @param {"good" | "wait" | "bad"} tone @param {Node} sign @param {string} text */
export const stateLine = (tone, sign, text) => el("p", { class: `state ${tone}` }, sign, el("span", text));

/** @param {Saving} save @param {Ui} ui */
function savedText({ by, at }, { t, locale }) {
  const when = at && !Number.isNaN(Date.parse(at)) ? locale.when(new Date(at), new Date()) : "";
  const key = by === "you" ? "saved_by_you" : by === "colleague" ? "saved_by_colleague" : by ? "saved_by" : "saved";
  return t(key, { when, who: visible(by ?? "") }).replace(/ +/g, " ").trim();
}

/** @param {Saving} save @param {Ui} ui */
function failedText({ reason, trouble }, ui) {
  const isLost = trouble?.status === 0;
  const why = isLost ? ui.t("no_answer") : visible(reason ?? "") || (trouble && sentence(trouble, ui));
  return why ? ui.t("failed", { reason: why }) : ui.t("failed_plain");
}
