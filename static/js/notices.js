/** What to say when there is something to say. The only place that knows error codes. */
import { button, el, facts, icon } from "./dom.js";

const FINAL = ["no_sso", "not_provisioned", "no_access"]; // trying again does not help
const SIGN_IN = ["sign_in_needed", "not_linked", "link_refused", "dialog_closed", "dialog_blocked"];
const CODES = ["offline", "unreachable", "timeout", "busy", "item_changed", "mailbox_not_connected", ...SIGN_IN, ...FINAL];
/** @type {Record<number, string>} */
const STATUSES = { 401: "sign_in_needed", 403: "no_access", 404: "item_gone", 429: "busy", 502: "away", 503: "away", 504: "away" };

/** @type {KeyOf} */
const situationOf = ({ code, status }) => (CODES.includes(code) ? code : (STATUSES[status] ?? "fault"));

/** @type {Told} */
const told = ({ status, detail }) => status !== 500 && (document.documentElement.lang === "en" || /409|422/.test(`${status}`)) && detail;

/** @type {Sentence} */
export const sentence = (trouble, t) => told(trouble) || t(situationOf(trouble));

/** @type {EmptyNotice} */
export function emptyNotice({ phase, trouble, context, places, item }, { t }) {
  if (phase === "outside") return { tone: "info", title: t("no_host"), next: t("no_host_next") };
  if (phase === "empty") return { tone: "info", title: t("no_item"), next: t("no_item_next") };
  if (trouble && phase === "failed") {
    const situation = situationOf(trouble);
    const step = SIGN_IN.includes(situation) ? "signIn" : situation === "mailbox_not_connected" ? "connect" : !FINAL.includes(situation) && "refresh";
    const [contact] = /[^\s,]+@[^\s,]+\w/.exec(trouble.detail) ?? [];
    const next = told(trouble) || t(/** @type {Key} */ (`${situation}_next`), { contact: contact ? ` (${contact})` : "" });
    return { tone: step === "refresh" ? "bad" : "wait", title: t(situation), next, trouble, step };
  }
  if (phase !== "shown" || !context || places.length > 0 || context.automatic) return null;
  if (context.notice) return { tone: "info", ...worded(context.notice, t) };
  return { tone: "info", title: t("no_match"), next: item?.mode === "read" ? t("no_match_next") : "" };
}

/** @type {Banners} */
export function banners({ phase, late, online, context, places, item }, { t, text }) {
  if (phase === "loading" && late) return [{ tone: "wait", title: t("late"), next: t("late_next"), step: "refresh" }];
  if (phase !== "shown" || !context) return [];
  const { automatic, notice, failed } = context;
  /** @type {Notice[]} */
  const all = [];
  if (!online) all.push({ tone: "wait", title: t("offline"), next: t("stale") });
  if (automatic) all.push({ tone: "info", title: text.named("automatic", automatic.kind, t("automatic")), next: t("automatic_next") });
  if (notice && (places.length > 0 || automatic)) all.push({ tone: "wait", ...worded(notice, t) });
  if (failed?.length) all.push({ tone: "wait", title: t("partly"), next: t("partly_next") });
  if (item?.mode === "compose") all.push({ tone: "info", title: t("compose_note") });
  return all;
}

/** @type {Worded} */
function worded(notice, t) {
  if (/settings/i.test(notice)) return { title: t("mailbox_not_connected"), step: "connect" };
  if (/^nothing to save/i.test(notice)) return { title: t("nothing_to_save"), next: t("nothing_to_save_next") };
  const [, most = ""] = /^only the first (\d+)/i.exec(notice) ?? [];
  return { title: most ? t("too_many", { most }) : notice };
}

/** @type {NoticePart} */
export function noticePart(notice, kind, ui) {
  const { tone, title, next, step, trouble } = notice;
  const content = () => [
    el("p.title", title),
    next && el("p", next),
    step && button(ui.t(step === "signIn" ? "sign_in" : step === "connect" ? step : "retry"), "step", () => ui.actions[step](), "primary"),
    trouble && details(trouble, ui),
  ];
  const build = () => el(`div.${kind}.${tone}`, icon(tone === "info" ? "mail" : "alert"), el("div", content()));
  return { key: kind + title, is: notice, build };
}

/** For an administrator. @type {Draw<Trouble>} */
export function details(trouble, { t }) {
  const { code, status, detail, requestId } = trouble;
  /** @type {Fact[]} */
  const rows = [[t("code"), `${code} ${status || ""}`], [t("request_id"), requestId]];
  if (detail && !told(trouble)) rows.push([t("cause"), detail]);
  const list = facts(rows);
  const run = () => {
    getSelection()?.selectAllChildren(list);
    copy.textContent = t(document.execCommand("copy") ? "copied" : "copy_by_hand"); // navigator.clipboard is denied to frames
  };
  const copy = button(t("copy"), "copy", run, "plain");
  return el("details", el("summary", t("details")), list, copy);
}
