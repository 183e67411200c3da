/** The bar at the bottom: the one primary action, or what became of it. */
import { button, el, icon, newTab } from "./dom.js";
import { details, sentence } from "./notices.js";
import { linksOf } from "./places.js";

/** @type {DrawParts<State>} */
export function barParts({ phase, context, places, item, save }, ui) {
  if (item?.mode !== "read" || (phase !== "shown" && (phase !== "failed" || save.state === "none"))) return [];
  const isQuiet = Boolean(context?.automatic);
  if (save.state === "none" && places.length === 0 && context?.notice && !isQuiet) return [];
  const facts = { save, count: linksOf(places).length, isQuiet };
  return [{ key: "bar", is: facts, build: () => bar(facts, ui) }];
}

/** @type {Draw<BarFacts>} */
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
    const change = count > 0 && button(t("change_links"), "change", () => actions.choose("links"), "plain");
    const open = newTab(save.activity?.url ?? "", t("open_in_c4c"), t("open_named", { name: t("this_email") }));
    return el("div.row", stateLine("good", icon("check"), savedText(save, ui)), el("span.row", change, open));
  }
  const at = when(save, ui);
  const since = at && ` (${at})`;
  if (save.state !== "failed") return el("div.row", stateLine("wait", el("span.spinner"), t(save.state) + since));
  const { reason, trouble } = save;
  const isLost = /offline|unreachable|timeout/.test(`${trouble?.code}`);
  const why = isLost ? t("no_answer") : trouble ? sentence(trouble, t) : reason;
  const line = stateLine("bad", icon("alert"), (why ? t("failed", { reason: why }) : t("failed_plain")) + since);
  const retry = button(t("retry"), "save", () => actions.retry(), "primary");
  return el("div.row", line, el("span.row", retry, choose), trouble && details(trouble, ui));
}

/** @type {Say<Saving>} */
function savedText(save, ui) {
  const key = save.by === "you" ? "saved_by_you" : save.by === "colleague" ? "saved_by_colleague" : "saved";
  return ui.t(key, { when: when(save, ui) }).replace(/ +/g, " ").trim();
}

/** @type {Say<Saving>} */
const when = ({ at }, { text }) => (at ? text.when(new Date(at)) : "");

/** @type {StateLine} */
export const stateLine = (tone, sign, words) => el("p", { class: `state ${tone}` }, sign, el("span", words));
