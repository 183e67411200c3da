/** The menu, and what the sync engine is at. Loaded once something is shown, since nobody waits for it. */
import { button, el, icon, iconButton, newTab, refocus, show } from "./dom.js";
import { sentence } from "./notices.js";

const SOON_S = 3; // between two looks while a session is under way
const LATER_S = 60;

let isBegun = false;

/** Begins it, once. @param {Ui} ui */
export function start(ui) {
  if (isBegun) return;
  isBegun = true;
  const sheet = el("link", { rel: "stylesheet", href: new URL("../css/engine.css", import.meta.url).href });
  sheet.addEventListener("load", () => new Engine(ui).start());
  document.head.append(sheet);
}

class Engine {
  #ui;
  #menu = region("menu");
  #line = region("engine");
  /** @type {EngineState | null} */ #state = null;
  #isOpen = false;
  #isListed = false;
  #said = "";
  /** The session that the person asked for here. @type {"" | "begun" | "over"} */ #asked = "";
  #turn = 0;

  /** @param {Ui} ui */
  constructor(ui) {
    this.#ui = ui;
  }

  start() {
    this.#menu.addEventListener("keydown", ({ key }) => key === "Escape" && this.#open(false));
    this.#menu.addEventListener("focusout", ({ relatedTarget: to }) => to instanceof Node && !this.#menu.contains(to) && this.#open(false));
    document.addEventListener("pointerdown", ({ target }) => target instanceof Node && !this.#menu.contains(target) && this.#open(false));
    // What passes lies above the bar (see view.js), and above our line, too.
    new ResizeObserver(() => (region("toasts").style.marginBottom = `${this.#line.offsetHeight}px`)).observe(this.#line);
    document.addEventListener("visibilitychange", () => document.hidden || this.#look());
    this.#look();
    this.#draw();
  }

  /** Only the newest look goes on. @param {true} [order] */
  async #look(order) {
    const turn = ++this.#turn;
    try {
      const state = await this.#ui.actions.sync(order);
      if (turn !== this.#turn) return;
      this.#state = state;
      if (order) this.#asked = "begun";
      if (this.#asked) this.#said = this.#told(state);
    } catch (error) {
      const trouble = /** @type {Trouble} */ (error);
      if (turn !== this.#turn) return;
      if (order) this.#said = this.#ui.text.named("force", trouble.code, sentence(trouble, this.#ui.t));
    }
    this.#draw();
    const pause = /queued|running/.test(this.#state?.state ?? "") ? SOON_S : LATER_S;
    setTimeout(() => turn === this.#turn && !document.hidden && this.#look(), pause * 1000);
  }

  /** What became of the session that was asked for, until it is over and that was shown. @param {EngineState} state */
  #told({ state, last }) {
    if (this.#asked === "begun" && /queued|running/.test(state)) return this.#ui.t("sync_running");
    this.#asked = this.#asked === "begun" ? "over" : "";
    return this.#asked && state === "done" && last ? this.#ui.t("sync_last", { when: this.#when(last.at) }) : "";
  }

  /** @param {boolean} isOpen */
  #open(isOpen) {
    if (isOpen === this.#isOpen) return;
    const hadFocus = this.#menu.contains(document.activeElement);
    this.#isOpen = isOpen;
    if (isOpen) this.#look();
    this.#draw();
    if (hadFocus) refocus(this.#menu, "menu");
  }

  /** @param {string} page */
  #visit(page) {
    this.#open(false);
    this.#ui.actions.connect(page).then(() => this.#look());
  }

  #force() {
    this.#open(false);
    this.#said = this.#ui.t("sync_asked");
    this.#draw();
    this.#look(true);
  }

  #draw() {
    const { t } = this.#ui;
    const toggle = () => {
      const opener = iconButton("menu", t("menu"), () => this.#open(!this.#isOpen));
      opener.ariaExpanded = String(this.#isOpen);
      opener.setAttribute("aria-controls", "menu-list");
      return opener;
    };
    show(this.#menu, [
      { key: "toggle", is: this.#isOpen, build: toggle },
      { key: "list", is: [this.#isOpen, this.#state], build: () => this.#list() },
    ]);
    show(this.#line, this.#lines());
  }

  #list() {
    const { t } = this.#ui;
    const isOff = this.#state?.state === "off";
    const force = isOff
      ? button(t("set_up_sync"), "force", () => this.#visit("/sync/email"), "plain")
      : button(t("force_sync"), "force", () => this.#force(), "plain");
    const settings = button(t("user_settings"), "settings", () => this.#visit("/"), "plain");
    const words = [this.#last(), this.#next()].filter(Boolean).map((line) => el("p.meta", line));
    return el("div", { id: "menu-list", hidden: !this.#isOpen }, words, force, settings);
  }

  #last() {
    const { t } = this.#ui;
    if (!this.#state) return t("sync_unknown");
    const { state, last } = this.#state;
    if (state === "off") return t("sync_off");
    if (state === "suspended") return t("sync_suspended");
    return last ? t("sync_last", { when: this.#when(last.at) }) : t("sync_never");
  }

  #next() {
    const at = this.#state?.next_at;
    return at ? this.#ui.t("sync_next", { when: this.#when(at) }) : "";
  }

  /** @param {string} at */
  #when = (at) => this.#ui.text.when(new Date(at));

  /** @returns {Part[]} */
  #lines() {
    const { t } = this.#ui;
    const state = this.#state;
    const parts = [];
    const said = this.#said || (state && quiet(state, this.#ui));
    if (said) parts.push({ key: "said", is: said, build: () => el("p.meta", this.#said ? { role: "status" } : {}, said) });
    if (state?.state === "suspended") {
      const settings = () => button(t("user_settings"), "resume", () => this.#visit("/"), "plain");
      parts.push({ key: "suspended", is: 0, build: () => el("p.row", t("sync_suspended"), settings()) });
    }
    if (state?.issues) parts.push(this.#issues(state));
    return parts;
  }

  /** @param {EngineState} state @returns {Part} */
  #issues({ issues, first_issues: first }) {
    const { t } = this.#ui;
    const build = () => {
      const flip = () => {
        this.#isListed = !this.#isListed;
        this.#draw();
      };
      const opener = button(t("issues", { n: issues }), "issues", flip, "plain");
      opener.ariaExpanded = String(this.#isListed);
      opener.setAttribute("aria-controls", "issue-list");
      opener.prepend(icon("alert"));
      const all = button(t("all_issues"), "all", () => this.#visit("/issues"), "plain");
      const rows = first.map((issue) => el("li", issueRow(issue, this.#ui)));
      return el("div", opener, el("div", { id: "issue-list", hidden: !this.#isListed }, el("ul", rows), all));
    };
    return { key: "issues", is: [issues, first, this.#isListed], build };
  }
}

/** What to say of a session that is under way, at first. @type {(state: EngineState, ui: Ui) => string} */
function quiet({ state, is_first: isFirst, done, total, left_s: left }, { t }) {
  if (state === "queued" && isFirst) return t("sync_setting_up");
  if (state !== "running") return "";
  if (!isFirst) return t("sync_running");
  const { format } = new Intl.NumberFormat(document.documentElement.lang);
  const words = [t("sync_setting_up"), total ? t("sync_done_of", { done: format(done), total: format(total) }) : ""];
  if (left !== null) words.push(t("sync_left", { n: Math.max(1, Math.round(left / 60)) }));
  return words.filter(Boolean).join(" ");
}

/** @type {(issue: Issue, ui: Ui) => (Node | string)[]} */
function issueRow({ kind, code, name, cause, remedy, url }, { t, text }) {
  const what = text.named("issue", code, t(kind === "email" ? "issue_email" : "issue_other"));
  return [
    el("p.title.ellipsis", { title: name || what }, el("bdi", name || what)),
    el("p", cause),
    remedy && el("p", remedy),
    newTab(url, t("open_in_c4c"), t("open_named", { name })),
  ];
}

/** @param {string} id */
function region(id) {
  return /** @type {HTMLElement} */ (document.getElementById(id));
}
