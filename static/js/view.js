/** The pane: draws the state into the regions of sidebar.html. */
import { barParts } from "./bar.js";
import { placeParts } from "./cards.js";
import { el, icon, iconButton, show } from "./dom.js";
import { banners, emptyNotice, noticePart, sentence } from "./notices.js";
import { drawSheet } from "./sheet.js";

const TOAST_MS = 4_000;

export class View {
  ui;
  #shown = "";
  #skeleton = region("main").firstElementChild;

  /** @param {Ui["text"]} text */
  constructor(text) {
    this.ui = /** @type {Ui} */ ({ t: text.t, text, opened: new Map() });
    region("sheet").addEventListener("keydown", ({ key }) => key === "Escape" && this.ui.actions.close());
    new ResizeObserver(() => (region("toasts").style.bottom = `${region("bar").offsetHeight + 8}px`)).observe(region("bar"));
  }

  /** @type {SetTheme} */
  setTheme = (theme) => (document.documentElement.style.colorScheme = theme ?? "");

  /** @param {State} state */
  draw(state) {
    const ui = this.ui;
    const { phase, item, places, context } = state;
    if (item && item.identity !== this.#shown) ui.opened.clear();
    this.#shown = item?.identity ?? this.#shown;
    const empty = emptyNotice(state, ui);
    const main = region("main");
    show(region("header"), header(state, ui));
    show(region("headline"), headline(state, ui));
    show(region("banner"), banners(state, ui).map((notice) => noticePart(notice, "banner", ui)));
    main.ariaBusy = String(phase === "loading" || context?.incomplete === true);
    if (phase === "loading") show(main, [{ key: "skeleton", is: 0, build: () => /** @type {HTMLElement} */ (this.#skeleton) }]);
    else if (empty) show(main, [noticePart(empty, "empty", ui)]);
    else show(main, [{ key: `places ${this.#shown}`, is: 0, build: () => el("ul.places") }]);
    const list = main.querySelector("ul.places");
    if (list instanceof HTMLElement) show(list, placeParts(places, ui));
    show(region("bar"), barParts(state, ui));
    drawSheet(region("sheet"), region("pane"), state, ui);
    if (!item) region("toasts").querySelector(".here")?.remove();
    if (/shown|empty/.test(phase)) import("./engine.js").then(({ start }) => start(ui), () => {});
  }

  /** @param {News} news */
  tell({ key, subject = "", trouble, count = 0 }) {
    const { t } = this.ui;
    const words = t(key, { subject, reason: trouble ? sentence(trouble, t) : "", n: count });
    if (key === "found") return void (region("said").textContent = words);
    const isBad = trouble || key === "item_changed";
    const toast = el(/other|changed/.test(key) ? "div.toast" : "div.toast.here", icon(isBad ? "alert" : "check"), el("p", words));
    if (isBad) toast.append(iconButton("close", t("dismiss"), () => toast.remove()));
    else setTimeout(() => toast.remove(), TOAST_MS);
    region("toasts").replaceChildren(toast);
  }
}

/** @type {DrawParts<State>} */
function header({ phase, online, refreshing, context }, { t, actions }) {
  const isWaiting = phase === "loading" || refreshing;
  const isBad = /failed|outside|Settings/.test(phase + context?.notice);
  const health = !online ? "offline" : isBad ? "bad" : phase === "shown" && "ok";
  const refresh = iconButton("refresh", t(isWaiting ? "refreshing" : "refresh"), () => !isWaiting && actions.refresh());
  if (isWaiting) refresh.ariaDisabled = "true";
  return [
    { key: "product", is: 0, build: () => el("h1", t("product")) },
    ...(health ? [{ key: "health", is: health, build: () => el(`span.health.${health}`, t(`health_${health}`)) }] : []),
    ...(phase === "outside" ? [] : [{ key: "refresh", is: isWaiting, build: () => refresh }]),
  ];
}

/** @type {DrawParts<State>} */
function headline({ headline, item }, { t }) {
  if (!headline) return [];
  const { name, address } = headline.from;
  const who = item?.mode === "compose" ? t("draft") : name || address || t("no_sender");
  const subject = headline.subject || t("no_subject");
  const title = `${who}: ${subject}`;
  return [{ key: "item", is: title, build: () => el("p.ellipsis", { title }, el("bdi.from", who), " ", el("bdi", subject)) }];
}

/** @param {string} id */
const region = (id) => /** @type {HTMLElement} */ (document.getElementById(id));
