/** What to say when there is something to say: one sentence, one next step, at most one button. The only place that knows error codes. */

/** @import {Key, Place, State, Trouble, Ui} from "./types.js" */
/** @typedef {{tone: "info" | "wait" | "bad", title: string, next?: string | undefined, step?: "refresh" | "signIn" | undefined, trouble?: Trouble}} Notice */
import { button, el, facts, icon } from "./dom.js";
import { visible } from "./text.js";

/** @type {Record<string, [Key, Key?]>} situation -> title, next step */
const SITUATIONS = {
  offline: ["offline", "check_connection"],
  unreachable: ["unreachable", "check_connection"],
  timeout: ["timeout", "in_a_moment"],
  c4c_away: ["c4c_away", "in_a_moment"],
  busy: ["busy", "in_a_moment"],
  sign_in_needed: ["sign_in_needed", "sign_in_needed_next"],
  no_sso: ["no_sso", "no_sso_next"],
  not_provisioned: ["not_provisioned", "ask_admin"],
  no_access: ["no_access", "ask_admin"],
  item_gone: ["item_gone"],
  fault: ["fault", "fault_next"],
};
const IS_FINAL = ["no_sso", "not_provisioned", "no_access"]; // trying again does not help
/** @type {Record<number, string>} */
const BY_STATUS = { 401: "sign_in_needed", 403: "no_access", 404: "item_gone", 429: "busy", 502: "c4c_away", 503: "c4c_away", 504: "c4c_away" };

/** @param {Trouble} trouble */
const situationOf = ({ code, status }) => {
  return code in SITUATIONS ? code : code === "needs_reauth" ? "sign_in_needed" : (BY_STATUS[status] ?? "fault");
};

/** One sentence, for where there is no room for more. @param {Trouble} trouble @param {Ui} ui */
export function sentence(trouble, { t }) {
  const situation = situationOf(trouble);
  const isTold = situation === "fault" && trouble.detail && trouble.status < 500;
  return isTold ? visible(trouble.detail) : t(SITUATIONS[situation]?.[0] ?? "fault");
}

/** What fills the pane when there are no cards; null when there are. @param {State} state @param {Ui} ui @returns {Notice | null} */
export function emptyNotice({ phase, trouble, context, places, item, me }, { t }) {
  if (phase === "outside") return { tone: "info", title: t("no_host"), next: t("no_host_next") };
  if (phase === "empty") return { tone: "info", title: t("no_item"), next: t("no_item_next") };
  if (phase === "failed" && trouble) {
    const situation = situationOf(trouble);
    const [title, next] = SITUATIONS[situation] ?? ["fault"];
    const isFinal = IS_FINAL.includes(situation);
    const told = situation === "not_provisioned" ? trouble.detail : ""; // names the administrator
    const admin = isFinal && me?.admin_contact ? ` ${me.admin_contact}` : "";
    const step = isFinal ? undefined : situation === "sign_in_needed" ? "signIn" : "refresh";
    return { tone: step === "refresh" ? "bad" : "wait", title: t(title), next: told || (next && t(next) + admin), step, trouble };
  }
  if (phase !== "shown" || places.length > 0 || context?.automatic) return null;
  if (context?.notice) return { tone: "info", ...told(context.notice, t) };
  return { tone: "info", title: t("no_match"), next: item?.mode === "read" ? t("no_match_next") : undefined };
}

/** What stands above the cards. @param {State} state @param {Ui} ui @returns {Notice[]} */
export function banners({ phase, online, context, places, item }, { t, locale }) {
  if (phase !== "shown" || !context) return [];
  const { automatic, notice } = context;
  /** @type {(Notice | null | false)[]} */
  const all = [
    !online && { tone: "wait", title: t("offline"), next: t("offline_next") },
    automatic ? { tone: "info", title: locale.named("automatic", automatic.kind, t("automatic")), next: t("automatic_next") } : null,
    notice && (places.length > 0 || automatic) ? { tone: "wait", ...told(notice, t) } : null,
    item?.mode === "compose" && { tone: "info", title: t("compose_note") },
  ];
  return all.filter((each) => !!each);
}

/** @param {string} notice @param {Ui["t"]} t */
function told(notice, t) {
  return /^nothing.to.save/i.test(notice) ? { title: t("nothing_to_save"), next: t("nothing_to_save_next") } : { title: notice };
}

/** @param {Notice} notice @param {"banner" | "empty"} kind @param {Ui} ui */
export function noticePart({ tone, title, next, step, trouble }, kind, ui) {
  const { t, sidebar } = ui;
  const build = () =>
    el(
      "div",
      { class: `${kind} ${tone}` },
      icon(tone === "info" ? (kind === "empty" ? "mail" : "info") : "alert"),
      el(
        "div",
        el("p.title", visible(title)),
        next && el("p", visible(next)),
        step && button(t(step === "signIn" ? "sign_in" : "retry"), "step", () => sidebar[step]()),
        trouble && details(trouble, ui),
      ),
    );
  return { key: `${kind} ${title}`, is: [next, step, trouble], build };
}

/** The technical cause, to hand to an administrator. @param {Trouble} trouble @param {Ui} ui */
export function details({ code, status, detail, requestId }, { t }) {
  const list = facts([
    [t("code"), visible(`${code} ${status || ""}`)],
    [t("request_id"), visible(requestId) || "–"],
  ]);
  const copy = button(t("copy"), "copy", async () => {
    getSelection()?.selectAllChildren(list); // stays when the mail client does not let a frame write to the clipboard
    const done = await navigator.clipboard?.writeText(`${code} ${status} ${requestId}`).then(() => true, () => false);
    copy.textContent = t(done ? "copied" : "copy_by_hand");
  }, "plain");
  return el("details", el("summary", t("details")), detail && el("p", visible(detail)), list, copy);
}
