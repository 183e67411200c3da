/** The bar at the bottom: the one primary action, or what became of it. */
import { button, el, icon, newTab } from "./dom.js";
import { details, sentence } from "./notices.js";
import { linksOf } from "./places.js";

/** @type {DrawParts<State>} */
export function barParts({ phase, context, places, item, save }, ui) {
  if (phase !== "shown" || item?.mode !== "read" || !context) return [];
  const isQuiet = Boolean(context.automatic);
  if (save.state === "none" && places.length === 0 && context.notice && !isQuiet) return [];
  const facts = { save, count: linksOf(places).length, isQuiet };
  return [{ key: "bar", is: facts, build: () => bar(facts, ui) }];
}

/** @type {Draw<{save: Saving, count: number, isQuiet: boolean}>} */
function bar({ save, count, isQuiet }, ui) {
  const { t, actions } = ui;
  const choose = button(t("choose"), "choose", () => actions.choose("save"));
  choose.ariaLabel = t("choose_what");
  if (save.state === "none") {
    const main = button(t(isQuiet ? "save_anyway" : "save"), "save", () => actions.save(), isQuiet ? "" : "primary");
    if (count > 0) main.append(" ", el("span.count", t("links", { n: count })));
    return el("div.row", main, choose);
  }
  if (save.state === "saved") {
    const change = button(t("change_links"), "change", () => actions.choose("links"), "plain");
    const open = newTab(save.activity?.url ?? "", t("open_in_c4c"), t("open_named", { name: t("this_email") }));
    return el("div.row", stateLine("good", icon("check"), savedText(save, ui)), el("span.row", change, open));
  }
  if (save.state !== "failed") return el("div.row", stateLine("wait", el("span.spinner"), t(save.state)));
  const { reason, trouble } = save;
  const isLost = /offline|unreachable|timeout/.test(trouble?.code ?? "");
  const why = isLost ? t("no_answer") : reason || (trouble && sentence(trouble, t));
  const line = stateLine("bad", icon("alert"), why ? t("failed", { reason: why }) : t("failed_plain"));
  const retry = button(t("retry"), "save", () => actions.retry(), "primary");
  return el("div.row", line, el("span.row", retry, choose), trouble && details(trouble, ui));
}

/** @param {Saving} save @param {Ui} ui */
function savedText({ by, at }, { t, text }) {
  const when = at ? text.when(new Date(at), new Date()) : "";
  const key = by === "you" ? "saved_by_you" : by === "colleague" ? "saved_by_colleague" : "saved";
  return t(key, { when }).replace(/ +/g, " ").trim();
}

/** @param {"good" | "wait" | "bad"} tone @param {Node} sign @param {string} words */
export const stateLine = (tone, sign, words) => el("p", { class: `state ${tone}` }, sign, el("span", words));
