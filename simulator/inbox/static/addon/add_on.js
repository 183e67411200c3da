/**
 * The add-on in the pane, as Gmail hosts it: a stack of cards, and events to the add-on when a message is opened, written or left,
 * and when something is clicked. Nothing but what the cards say is known here.
 */

import { announce, el, icon } from "../dom.js";
import { Menu } from "../menu.js";
import { call } from "../api.js";
import { parties } from "../host.js";
import { BadCard, CardView, checkAction } from "./card.js";
import { AppsScript, Failure, Http } from "./runtimes.js";

/** @typedef {import("../host.js").Selected} Selected */
/** @typedef {import("./card.js").Action} Action */
/** @typedef {import("./card.js").Json} Json */
/** @typedef {import("./runtimes.js").Manifest} Manifest */
/** @typedef {import("./runtimes.js").Moment} Moment */
/** @typedef {import("./runtimes.js").OpenLink} OpenLink */
/** @typedef {import("./runtimes.js").Runtime} Runtime */
/** @typedef {import("./runtimes.js").Step} Step */
/** @typedef {import("./runtimes.js").Trigger} Trigger */

const NOTIFICATION_MS = 6000;
const WATCH_MS = 300; // how often a window that was opened is looked at

export class AddOn {
  #owner;
  #behaviours;
  /** @type {HTMLElement | null} */
  #place = null;
  #cards = el("div", { class: "cards-of-add-on" });
  #spinner = el("div", { class: "spinner", role: "progressbar", "aria-label": "The add-on is working", hidden: true });
  #snackbar = el("p", { class: "snackbar", role: "status" });
  /** @type {Menu | null} */
  #menu = null;
  /** @type {Manifest | null} */
  #manifest = null;
  /** @type {Runtime | null} */
  #runtime = null;
  /** @type {{view: CardView, opener: HTMLElement | null}[]} the last is shown, and what led to it takes the focus back */
  #stack = [];
  /** @type {Selected} */
  #selected = null;
  #runs = 0;
  #snack = 0;
  #watch = 0;

  /** @param {() => import("../api.js").Owner} owner @param {import("../behaviours.js").Behaviours} behaviours */
  constructor(owner, behaviours) {
    this.#owner = owner;
    this.#behaviours = behaviours;
  }

  get isOpen() {
    return this.#place !== null;
  }

  /** @param {HTMLElement} container */
  open(container) {
    this.close();
    this.#place = el("div", { class: "add-on" }, this.#cards, this.#spinner, this.#snackbar);
    this.#menu = new Menu(this.#place);
    container.replaceChildren(this.#place);
    void this.#start();
  }

  close() {
    this.#runs += 1;
    clearTimeout(this.#snack);
    clearInterval(this.#watch);
    this.#runtime?.stop();
    this.#place?.remove();
    this.#place = null;
    this.#stack = [];
    this.#cards.replaceChildren();
    this.#snackbar.textContent = "";
  }

  /** @param {Selected} selected */
  select(selected) {
    this.#selected = selected;
    if (this.isOpen) void this.#start();
  }

  /** The message has new data; Gmail tells an add-on nothing of that. @param {Selected} selected */
  refresh(selected) {
    this.#selected = selected;
  }

  // -- Events -----------------------------------------------------------------------------------------------------------

  /** Begin anew with the card for where the person is. */
  async #start() {
    /** @type {Trigger} */
    let trigger = "homepage";
    if (this.#selected) trigger = "read" in this.#selected ? "message" : "compose";
    const opener = this.#focused;
    this.#stack = [];
    this.#cards.replaceChildren();
    await this.#run(true, opener, (runtime) => runtime.trigger(trigger, this.#moment()));
  }

  /** @param {Action} action */
  async #act(action) {
    const parameters = Object.fromEntries((action.parameters ?? []).map(({ key, value }) => [key, value]));
    const moment = { ...this.#moment(), parameters, form_inputs: this.#top?.inputs };
    await this.#run(action.loadIndicator !== "NONE", this.#focused, (runtime) => runtime.act(action.function, moment));
  }

  /**
   * Ask the add-on and show what it says, unless the person went elsewhere meanwhile.
   * @param {boolean} spins @param {HTMLElement | null} opener what in the pane had the focus
   * @param {(runtime: Runtime) => Promise<import("./runtimes.js").Wish>} ask
   */
  async #run(spins, opener, ask) {
    this.#runs += 1;
    const run = this.#runs;
    this.#setBusy(true, spins);
    this.#runtime?.stop();
    try {
      this.#manifest ??= /** @type {Manifest} */ (await call("GET", "/addon/manifest"));
      if (run !== this.#runs) return;
      this.#runtime = this.#behaviours.choice("addon-") === "http" ? new Http(this.#manifest) : new AppsScript(this.#manifest);
      const wish = await ask(this.#runtime);
      if (run !== this.#runs) return;
      this.#setBusy(false, false);
      this.#show(wish, opener);
    } catch (error) {
      if (!(error instanceof Failure || error instanceof BadCard)) throw error;
      if (run !== this.#runs) return;
      this.#setBusy(false, false);
      this.#fail(error.message);
    }
  }

  /** @returns {Moment} */
  #moment() {
    const { address, language } = this.#owner();
    const locale = (this.#behaviours.choice("language-") || language) === "de" ? "de-DE" : "en-US";
    const zone = { time_zone: Intl.DateTimeFormat().resolvedOptions().timeZone, offset_ms: -new Date().getTimezoneOffset() * 60_000 };
    const here = { mailbox: address, locale, ...zone };
    if (!this.#selected) return here;
    if ("read" in this.#selected) return { ...here, message: this.#selected.read.id };
    const form = this.#selected.compose.form();
    const addresses = (/** @type {string} */ text) => parties(text).map((party) => party.address);
    return { ...here, draft: { to: addresses(form.to), cc: addresses(form.cc), bcc: addresses(form.bcc) } };
  }

  // -- Showing ----------------------------------------------------------------------------------------------------------

  get #top() {
    return this.#stack.at(-1)?.view;
  }

  /** What in the pane has the focus. */
  get #focused() {
    const focused = document.activeElement;
    return focused instanceof HTMLElement && this.#place?.contains(focused) ? focused : null;
  }

  /** @param {import("./runtimes.js").Wish} wish @param {HTMLElement | null} opener what in the pane had the focus when it was asked for */
  #show({ navigations = [], notification, link }, opener) {
    for (const step of navigations) this.#step(step, opener);
    this.#draw();
    if (opener && navigations.length) this.#top?.focus();
    else opener?.focus();
    if (notification) this.#notify(notification.text);
    if (link) this.#open(link);
  }

  /** @param {Step} step @param {HTMLElement | null} opener */
  #step(step, opener) {
    if ("pushCard" in step) this.#stack.push({ view: this.#view(step.pushCard, this.#stack.length), opener });
    else if ("updateCard" in step) {
      const replaced = this.#stack.pop();
      this.#stack.push({ view: this.#view(step.updateCard, this.#stack.length), opener: replaced?.opener ?? null });
    } else if ("popToRoot" in step) this.#stack.length = Math.min(1, this.#stack.length);
    else if ("pop" in step && this.#stack.length > 1) this.#stack.pop();
    else if (!("pop" in step)) throw new BadCard(`There is no step ${Object.keys(step).join(", ")}.`);
  }

  /** @param {import("./card.js").Card} card @param {number} depth */
  #view(card, depth) {
    return new CardView(card, {
      name: this.#manifest?.name ?? "",
      act: (action) => void this.#act(action),
      open: (link) => this.#open(link),
      mayOpen: (url) => this.#mayOpen(url),
      image: (url) => `/addon/image?${new URLSearchParams({ url })}`,
      back: depth ? () => this.#back() : null,
      menu: (anchor, actions) => this.#openMenu(anchor, actions),
      hasMenu: Boolean(this.#manifest?.universal_actions.length),
    });
  }

  #back() {
    const left = this.#stack.pop();
    this.#draw();
    if (left?.opener?.isConnected) left.opener.focus();
    else this.#top?.focus();
  }

  #draw() {
    const shown = this.#top?.element;
    if (!shown) this.#cards.replaceChildren();
    else if (this.#cards.firstElementChild !== shown || this.#cards.childElementCount > 1) this.#cards.replaceChildren(shown);
  }

  /** @param {boolean} isBusy @param {boolean} spins */
  #setBusy(isBusy, spins) {
    this.#cards.setAttribute("aria-busy", String(isBusy));
    this.#cards.inert = isBusy;
    this.#spinner.hidden = !(isBusy && spins);
  }

  /** @param {string} why */
  #fail(why) {
    const retry = el("button", { type: "button", class: "button outlined", onclick: () => void this.#start() }, "Try again");
    this.#stack = [];
    this.#cards.replaceChildren(el("div", { class: "failed", role: "alert" }, icon("wrench"), el("h2", {}, "The add-on could not be shown"),
      el("p", {}, "Something went wrong when executing the add-on."), el("p", { class: "meta why" }, why), retry));
  }

  /** @param {string} text */
  #notify(text) {
    this.#snackbar.textContent = text;
    clearTimeout(this.#snack);
    this.#snack = window.setTimeout(() => { this.#snackbar.textContent = ""; }, NOTIFICATION_MS);
  }

  /** The card's own actions, then those that the manifest has for every card. @param {HTMLElement} anchor @param {Json[]} actions */
  #openMenu(anchor, actions) {
    const menu = /** @type {Menu} */ (this.#menu);
    const own = actions.map(({ actionLabel, onClick }) => menu.item({}, () => this.#click(onClick), actionLabel));
    const universal = (this.#manifest?.universal_actions ?? []).map(({ label, openLink, runFunction }) =>
      menu.item({}, () => this.#click(openLink ? { openLink: { url: openLink } } : { action: { function: runFunction ?? "" } }), label));
    menu.open(anchor, "More", [...own, ...universal]);
  }

  /** @param {Json} onClick */
  #click(onClick) {
    if (onClick.openLink) this.#open(onClick.openLink);
    else {
      checkAction(onClick.action);
      void this.#act(onClick.action);
    }
  }

  // -- Links ------------------------------------------------------------------------------------------------------------

  /** Gmail opens what begins with one of the manifest's openLinkUrlPrefixes. @param {string} url */
  #mayOpen(url) {
    return /^(https?|mailto|tel):/.test(url) && (this.#manifest?.open_link_url_prefixes.some((prefix) => url.startsWith(prefix)) ?? false);
  }

  /** @param {OpenLink} link */
  #open({ url, openAs, onClose }) {
    if (!this.#mayOpen(url)) {
      this.#notify("Gmail does not open this link: it is not among the manifest's openLinkUrlPrefixes.");
      return;
    }
    const watched = onClose === "RELOAD";
    const features = openAs === "OVERLAY" ? "popup,width=600,height=700" : "";
    const opened = window.open(url, "_blank", watched ? features : ["noopener", features].filter(Boolean).join(","));
    clearInterval(this.#watch);
    if (!watched || !opened) return;
    this.#watch = window.setInterval(() => {
      if (!opened.closed) return;
      clearInterval(this.#watch);
      announce("The add-on is loaded anew");
      void this.#start();
    }, WATCH_MS);
  }
}
