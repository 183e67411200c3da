/**
 * What the sidebar knows and does. Draws nothing: after each change it hands its state to `draw`.
 *
 * Every load has a number; an answer to another than the newest is dropped. Every write carries the item it was made for, and is
 * refused here when another one is displayed by then. Nothing outlives the page.
 */

/** @import {Api, ApiError} from "./api.js" */
/** @import {Host} from "./host.js" */
/** @import {Context, Draft, Item, News, Order, Place, Save, SheetState, State, Trouble} from "./types.js" */
import { arrange, cardsOf, keyOf, linksOf } from "./places.js";

const POLL_S = [0.5, 1, 1, 2, 3, 5, 8, 10];

/** @type {State} */
export const NOTHING = {
  phase: "starting",
  headline: null,
  item: null,
  context: null,
  places: [],
  save: { state: "none" },
  sheet: null,
  trouble: null,
  refreshing: false,
  online: true,
  me: null,
};

export class Sidebar {
  #host;
  #api;
  #draw;
  #tell;
  #sleep;
  #state = NOTHING;
  /** @type {string | null | undefined} */ #identity; // of the item that is shown or looked up; undefined: none yet
  #load = 0;
  #saves = 0; // answers to writes; a lookup that began before the last one knows less
  #watch = 0;
  #reading = new AbortController();
  /** @type {Map<string, Draft>} */ #drafts = new Map();

  /**
   * @param {{host: Host, api: Api, draw: (state: State) => void, tell: (news: News) => void, sleep: (s: number) => Promise<unknown>}} parts
   */
  constructor({ host, api, draw, tell, sleep }) {
    this.#host = host;
    this.#api = api;
    this.#draw = draw;
    this.#tell = tell;
    this.#sleep = sleep;
  }

  // What the mail client and the browser report

  start() {
    this.#api.warm(); // signing in and reading the item run side by side
    this.#host.onItemChange(() => this.follow());
    this.follow();
    this.#introduce();
  }

  /** Show the item that is selected, if that is another one than before. */
  follow() {
    if (this.#host.identity === this.#identity) return;
    this.#identity = this.#host.identity;
    this.#host.onRecipientsChange(() => this.refresh());
    this.#show();
  }

  /** @param {boolean} online */
  connected(online) {
    this.#set({ online });
    if (online && this.#state.phase === "failed") this.#show();
  }

  /** Something of ours broke: leave no waiting pane behind. */
  broke() {
    if (this.#state.phase === "shown") this.#set({ refreshing: false });
    else this.#set({ phase: "failed", trouble: { code: "broken", status: 0, detail: "", requestId: "" } });
  }

  // What the person does

  /** Look everything up anew; what is shown stays until the answer comes. */
  refresh() {
    if (this.#state.phase !== "shown") return this.#show();
    this.#set({ refreshing: true });
    this.#look({ refresh: true });
  }

  async signIn() {
    try {
      this.#api.use(await this.#host.token(true));
    } catch (error) {
      return this.#set({ phase: "failed", trouble: troubleOf(error) });
    }
    this.#show();
    this.#introduce();
  }

  /** Save with every record that the lookup found. */
  save() {
    return this.#write((item) => this.#api.save(item.wire, { links: linksOf(this.#state.places) }));
  }

  /** Try again what failed. The same message is the same save, so a lost answer does no harm. */
  retry() {
    const { id } = this.#state.save;
    return id ? this.#write(() => this.#api.retry(id)) : this.save();
  }

  /** Open the save sheet. @param {"save" | "links"} purpose links: the e-mail is in C4C already */
  choose(purpose) {
    const { item } = this.#state;
    if (!item) return;
    const name = `${purpose} ${item.identity}`;
    const draft = this.#drafts.get(name) ?? this.#newDraft(item, purpose);
    this.#drafts.set(name, draft);
    this.#set({ sheet: { purpose, draft, preview: null, trouble: null, saving: false } });
    if (purpose === "save") this.preview();
  }

  /** Read which attachments the open sheet can offer. */
  async preview() {
    const { item, sheet } = this.#state;
    if (!item || !sheet) return;
    this.#setSheet(sheet, { trouble: null });
    try {
      this.#setSheet(sheet, { preview: await this.#api.preview(item.wire, this.#reading.signal) });
    } catch (error) {
      this.#setSheet(sheet, { trouble: troubleOf(error) });
    }
  }

  close() {
    this.#set({ sheet: null });
  }

  /** Save what the open sheet says. */
  confirm() {
    const { sheet } = this.#state;
    return sheet ? this.#write((item) => this.#api.save(item.wire, this.#order(sheet)), sheet) : null;
  }

  // Reading

  #show() {
    const { online, me } = this.#state;
    const isEmpty = !this.#identity;
    this.#set({ ...NOTHING, online, me, headline: this.#host.headline, phase: isEmpty ? "empty" : "loading" });
    if (isEmpty) this.#begin();
    else this.#look();
  }

  /** Make every earlier reading void. */
  #begin() {
    this.#reading.abort();
    this.#reading = new AbortController();
    return ++this.#load;
  }

  /** @param {{refresh?: true, aside?: true}} [how] refresh: past the server's cache; aside: nobody asked for it */
  async #look({ refresh, aside } = {}) {
    const load = this.#begin();
    try {
      const item = await this.#host.readItem();
      if (load !== this.#load) return;
      if (!item) return this.#identity === this.#host.identity ? this.#show() : this.follow();
      const context = await this.#ask(load, item, refresh && { refresh }, aside ? this.#state.places : []);
      if (!context) return;
      if (!aside) this.#tell({ key: "found", count: linksOf(this.#state.places).length });
      // What needs more than one look follows, and changes what is shown without moving it.
      if (context.incomplete) await this.#ask(load, item, { complete: true }, this.#state.places);
    } catch (error) {
      const trouble = troubleOf(error);
      if (load !== this.#load || aside) return;
      if (this.#state.phase !== "shown") return this.#set({ phase: "failed", trouble });
      this.#set({ refreshing: false });
      this.#tell({ key: "refresh_failed", trouble });
    }
  }

  /**
   * Ask the server about the item and show its answer; null when nobody waits for it any more.
   * @param {number} load @param {Item} item @param {{refresh?: true, complete?: true} | undefined} how @param {Place[]} before
   */
  async #ask(load, item, how, before) {
    const saves = this.#saves;
    const context = await this.#api.context({ mode: item.mode, item: item.wire, ...how }, this.#reading.signal);
    if (load !== this.#load) return null;
    if (this.#host.identity !== item.identity) return void this.follow();
    this.#take(item, context, before, saves);
    return context;
  }

  /** @param {Item} item @param {Context} context @param {Place[]} before @param {number} saves */
  #take(item, context, before, saves) {
    const { save } = this.#state;
    const isNews = saves === this.#saves && save.state !== "saving";
    this.#set({
      phase: "shown",
      headline: item.wire,
      item,
      context,
      places: arrange(context, item.wire, before),
      save: isNews ? (context.save ?? NOTHING.save) : save,
      refreshing: false,
    });
    if (isNews) this.#wait(item);
  }

  async #introduce() {
    try {
      this.#set({ me: await this.#api.me() });
    } catch (error) {
      troubleOf(error); // the lookup meets the same trouble and shows it
    }
  }

  // Saving

  /**
   * Do one write for the displayed item and show how it ended, or tell it when another item is displayed by then.
   * @param {(item: Item) => Promise<Save>} write @param {SheetState} [sheet] stays open when the server refuses
   */
  async #write(write, sheet) {
    const { item, save: before } = this.#state;
    if (!item || before.state === "saving") return;
    if (this.#host.identity !== item.identity) {
      this.#tell({ key: "item_changed" });
      return this.follow();
    }
    this.#set({ save: { ...before, state: "saving" } });
    if (sheet) this.#setSheet(sheet, { saving: true, trouble: null });
    try {
      this.#end(item, await write(item));
    } catch (error) {
      const trouble = troubleOf(error);
      const id = /** @type {ApiError} */ (error).saveId; // it was accepted, and failed
      this.#saves++;
      if (!this.#isHere(item)) return this.#tell({ key: "failed_other", subject: item.wire.subject, trouble });
      if (!sheet || id) return this.#set({ save: { state: "failed", id: id || before.id, reason: trouble.detail, trouble }, sheet: null });
      this.#set({ save: before });
      this.#setSheet(sheet, { saving: false, trouble });
    }
  }

  /** @param {Item} item @param {Save} save */
  #end(item, save) {
    this.#saves++;
    this.#drafts.delete(`save ${item.identity}`);
    this.#drafts.delete(`links ${item.identity}`);
    const isSaved = save.state === "saved";
    if (!this.#isHere(item)) return isSaved && this.#tell({ key: "saved_other", subject: item.wire.subject });
    this.#set({ save: { by: "you", ...save }, sheet: null });
    if (isSaved) this.#celebrate();
    else if (save.state !== "failed") this.#tell({ key: "accepted_toast" });
    this.#wait(item);
  }

  /** Say that C4C has the e-mail, and ask it what is linked now. */
  #celebrate() {
    this.#tell({ key: "saved_toast" });
    this.#look({ aside: true });
  }

  /** Ask about an unfinished save, as long as its item is shown. @param {Item} item */
  async #wait(item) {
    const { id } = this.#state.save;
    const watch = ++this.#watch;
    const isOpen = () => watch === this.#watch && this.#isHere(item) && ["pending", "unknown"].includes(this.#state.save.state);
    for (let turn = 0; id && isOpen(); turn++) {
      await this.#sleep(POLL_S[Math.min(turn, POLL_S.length - 1)] ?? 1);
      const save = isOpen() ? await this.#api.saveState(id).catch(nobody) : null;
      if (!save || !isOpen()) continue;
      this.#saves++;
      this.#set({ save: { ...this.#state.save, ...save } });
      if (save.state === "saved") this.#celebrate();
    }
  }

  /** Everything is chosen at first; once links exist, just those. @param {Item} item @param {string} purpose @returns {Draft} */
  #newDraft(item, purpose) {
    const cards = cardsOf(this.#state.places);
    const others = purpose === "links" && cards.some(({ linked }) => linked) ? cards.filter(({ linked }) => !linked) : [];
    const eml = this.#state.me?.settings?.include_eml ?? false;
    return { subject: item.wire.subject, unlinked: new Set(others.map(keyOf)), unticked: new Set(), names: new Map(), eml };
  }

  /** @param {SheetState} sheet @returns {Order} */
  #order({ purpose, draft, preview }) {
    const links = linksOf(this.#state.places).filter((link) => !draft.unlinked.has(keyOf(link)));
    if (purpose === "links") return { links, attachments: [] };
    const files = preview?.attachments.filter(({ ref, allowed }) => allowed && !draft.unticked.has(ref)) ?? [];
    const attachments = files.map(({ ref }) => {
      const name = draft.names.get(ref)?.trim();
      return name ? { ref, name } : { ref };
    });
    const subject = draft.subject.trim();
    return { ...(subject && { subject }), links, attachments, include_eml: draft.eml };
  }

  // State

  /** @param {Item} item */
  #isHere(item) {
    return this.#state.item?.identity === item.identity;
  }

  /** @param {Partial<State>} change */
  #set(change) {
    this.#state = { ...this.#state, ...change };
    this.#draw(this.#state);
  }

  /** Change the sheet if it is still open. @param {SheetState} sheet @param {Partial<SheetState>} change */
  #setSheet({ draft }, change) {
    const { sheet } = this.#state;
    if (sheet?.draft === draft) this.#set({ sheet: { ...sheet, ...change } });
  }
}

/** What went wrong with mail client or server; anything else is a bug of ours and goes on. @param {any} error @returns {Trouble} */
function troubleOf(error) {
  const { code, status = 0, detail = "", requestId = "" } = error;
  if (typeof code !== "string") throw error;
  return { code, status, detail, requestId };
}

/** Nobody answered this time. @param {unknown} error */
function nobody(error) {
  return void troubleOf(error);
}
