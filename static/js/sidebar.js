/** What the sidebar knows and does. Every look has a number, and only the newest one's answer counts. */
import { ApiError } from "./api.js";
import { arrange, cardsOf, keyOf, linksOf } from "./places.js";

const POLL_S = [0.5, 1, 1, 2, 3, 5, 8, 10];
const LATE_S = 2; // after this a next step is offered
const AWAY_S = 5; // after this a service that is away is asked again

/** @type {State} */
export const NOTHING = {
  phase: "loading", save: { state: "none" }, places: [], refreshing: false, late: false, online: true,
  headline: null, item: null, context: null, sheet: null, trouble: null,
};

export class Sidebar {
  #with;
  #state = NOTHING;
  /** @type {string | null | undefined} */ #identity; // of what is shown or looked up; undefined: none yet
  #number = 0;
  #saves = 0; // answers to writes; a look that began before the last one knows less
  #watch = 0;
  #links = false; // an Exchange account waits to be linked by signing in
  #reading = new AbortController();
  /** @type {Map<string, Draft>} */ #drafts = new Map();

  /** @param {Surroundings} surroundings */
  constructor(surroundings) {
    this.#with = surroundings;
  }

  start() {
    this.#with.host.onItemChange(() => this.follow());
    this.follow();
  }

  follow() {
    const { host } = this.#with;
    if (host.identity === this.#identity) return;
    this.#identity = host.identity;
    host.onRecipientsChange(() => this.refresh());
    this.#show();
  }

  /** @param {boolean} online */
  connected(online) {
    this.#set({ online });
    if (online && this.#state.phase === "failed") this.#show();
  }

  /** Leave no waiting pane behind. */
  broke() {
    const { phase, save } = this.#state;
    const trouble = troubleOf(new ApiError("broken"));
    if (phase !== "shown") this.#set({ phase: "failed", trouble });
    else this.#set({ refreshing: false, save: save.state === "saving" ? { state: "failed", trouble } : save });
  }

  refresh() {
    if (this.#state.phase !== "shown") return this.#show();
    this.#set({ refreshing: true });
    this.#look({ refresh: true });
  }

  async signIn() {
    this.#links ||= this.#state.trouble?.code === "not_linked";
    try {
      await (this.#links ? this.#link() : this.#with.api.signIn());
      this.#links = false;
      this.#show();
    } catch (error) {
      const trouble = troubleOf(error);
      if (this.#links && trouble.status) trouble.code = "link_refused";
      this.#set({ trouble });
      this.#tell({ key: "sign_in_failed", trouble });
    }
  }

  async #link() {
    const { api, host } = this.#with;
    api.use(await host.dialogToken(true));
    const token = await host.exchangeToken(true);
    await api.write("link", { token });
    api.use(token);
  }

  async connect(page = "/sync/email") {
    await this.#with.host.visit(`/settings${page}`);
    this.refresh();
  }

  /** @type {Sync} */
  sync = (order) => this.#with.api.ask("sync", order && {});

  save() {
    return this.#write(async (item) => {
      await this.#lookAnyway(item);
      return this.#with.api.write("saves", { item: item.wire, links: linksOf(this.#state.places) });
    });
  }

  retry() {
    const { id } = this.#state.save;
    return id ? this.#write(() => this.#with.api.write(`saves/${id}/retry`)) : this.save();
  }

  /** @type {Choose} */
  choose = (purpose) => {
    const { item } = this.#state;
    if (!item) return;
    const draft = (purpose === "save" && this.#drafts.get(item.identity)) || this.#newDraft(item, purpose);
    this.#set({ sheet: { purpose, draft, preview: null, trouble: null, saving: false } });
    if (purpose === "links") return;
    this.#drafts.set(item.identity, draft);
    this.preview();
  };

  async preview() {
    const { item, sheet } = this.#state;
    if (!item || !sheet) return;
    this.#setSheet(sheet, { trouble: null });
    try {
      await this.#lookAnyway(item);
      this.#setSheet(sheet, { preview: await this.#with.api.ask("saves/preview", { item: item.wire }, this.#reading.signal) });
    } catch (error) {
      this.#setSheet(sheet, { trouble: troubleOf(error) });
    }
  }

  close = () => this.#set({ sheet: null });

  confirm() {
    const { sheet } = this.#state;
    return sheet && this.#write((item) => this.#with.api.write("saves", { item: item.wire, ...this.#order(sheet) }), sheet);
  }

  #show() {
    const { online } = this.#state;
    this.#set({ ...NOTHING, online, headline: this.#with.host.headline, phase: this.#identity ? "loading" : "empty" });
    this.#look();
  }

  /** @type {Look} */
  #look = async (how, aside, turn = 0) => {
    const number = ++this.#number;
    this.#reading.abort();
    this.#reading = new AbortController();
    if (!this.#identity) return;
    if (this.#state.phase === "loading") this.#with.sleep(LATE_S).then(() => number === this.#number && this.#set({ late: true }));
    try {
      const item = await this.#with.host.readItem();
      if (number !== this.#number) return;
      if (!item) return this.#with.host.identity === this.#identity ? this.#show() : this.follow();
      const context = await this.#ask(item, how, aside ? this.#state.places : []);
      if (!context) return;
      if (!aside) this.#tell({ key: "found", count: linksOf(this.#state.places).length });
      if (context.incomplete) await this.#ask(item, { complete: true }, this.#state.places);
    } catch (error) {
      const trouble = troubleOf(error);
      if (number !== this.#number || aside) return;
      const { phase, item, places, context } = this.#state;
      if (phase === "shown" && item && context && !isTheirs(trouble)) {
        const final = { ...context, incomplete: false };
        this.#set({ refreshing: false, context: final, places: arrange(final, item.wire, places) });
        return this.#tell({ key: "refresh_failed", trouble });
      }
      this.#set({ phase: "failed", trouble });
      const pause = trouble.retryAfter || (trouble.status === 503 && AWAY_S);
      if (!pause || turn > 4) return; // else there may be an answer by then
      await this.#with.sleep(pause * 2 ** turn);
      if (number === this.#number) this.#look(how, aside, turn + 1);
    }
  };

  /** @type {Ask} */
  #ask = async (item, how, before) => {
    const [number, saves] = [this.#number, this.#saves];
    const question = { mode: item.mode, item: item.wire, anyway: this.#state.places.length > 0, ...how };
    /** @type {Context} */
    const context = await this.#with.api.ask("context", question, this.#reading.signal);
    if (number !== this.#number) return;
    if (this.#with.host.identity !== item.identity) return this.follow();
    const { save } = this.#state;
    const isNews = saves === this.#saves && save.state !== "saving";
    const { trouble } = context; // C4C's part is missing
    const all = trouble ? {} : { phase: "shown", context, places: arrange(context, item.wire, before), refreshing: false };
    this.#set({ headline: item.wire, item, save: (isNews && context.save) || save, .../** @type {Partial<State>} */ (all) });
    if (isNews) this.#wait(item);
    if (trouble) throw new ApiError(trouble.code, { ...trouble, status: 503 });
    return context;
  };

  /** @param {Item} item */
  async #lookAnyway(item) {
    const { context, places } = this.#state;
    if (!context?.automatic || places.length > 0) return;
    if (!(await this.#ask(item, { anyway: true, complete: true }, []))) throw new ApiError("item_changed");
  }

  /** @type {Write} */
  #write = async (write, sheet) => {
    const { item, save: before } = this.#state;
    if (!item || before.state === "saving") return;
    if (this.#with.host.identity !== item.identity) {
      this.#tell({ key: "item_changed" });
      return this.follow();
    }
    this.#set({ save: { ...before, state: "saving" } });
    if (sheet) this.#setSheet(sheet, { saving: true, trouble: null });
    try {
      this.#end(item, await write(item), before);
    } catch (error) {
      const trouble = troubleOf(error);
      this.#saves++;
      if (!this.#isHere(item)) return this.#tell({ key: "failed_other", subject: item.wire.subject, trouble });
      const id = trouble.saveId; // it was accepted, and failed
      if (!id && isTheirs(trouble)) return this.#set({ phase: "failed", trouble, save: before, sheet: null });
      if (id || !sheet) return this.#set({ save: { state: "failed", id: id || before.id, trouble }, sheet: null });
      this.#set({ save: before });
      this.#setSheet(sheet, { saving: false, trouble });
    }
  };

  /** @type {End} */
  #end = (item, save, before) => {
    this.#saves++;
    this.#drafts.delete(item.identity);
    const isSaved = save.state === "saved";
    if (!this.#isHere(item)) return isSaved && this.#tell({ key: "saved_other", subject: item.wire.subject });
    const known = before.state === "saved" ? before : { by: "you", at: new Date().toISOString() };
    this.#set({ save: { ...known, ...save }, sheet: null });
    if (isSaved) return this.#celebrate();
    this.#tell({ key: "accepted_toast" });
    this.#wait(item);
  };

  #celebrate() {
    this.#tell({ key: "saved_toast" });
    this.#look({}, true); // what is linked now
  }

  /** @param {Item} item whose save is unfinished */
  async #wait(item) {
    const { id } = this.#state.save;
    const watch = ++this.#watch;
    const isOpen = () => watch === this.#watch && this.#isHere(item) && /pending|unknown/.test(this.#state.save.state);
    for (let turn = 0; id && isOpen(); turn++) {
      await this.#with.sleep(POLL_S[turn] ?? 10);
      /** @type {Save | null} null: nobody answered this time */
      const save = isOpen() && (await this.#with.api.ask(`saves/${id}`, null).catch((error) => troubleOf(error) && null));
      if (!save || !isOpen()) continue;
      this.#saves++;
      this.#set({ save: { ...this.#state.save, ...save } });
      if (save.state === "saved") this.#celebrate();
    }
  }

  /** @type {NewDraft} */
  #newDraft = (item, purpose) => {
    const cards = cardsOf(this.#state.places);
    const isAll = purpose === "save" || !cards.some(({ linked }) => linked);
    const unlinked = new Set(isAll ? [] : cards.filter(({ linked }) => !linked).map(keyOf));
    return { subject: item.wire.subject, unlinked, unticked: new Set(["eml", "thread"]), names: new Map() };
  };

  /** @type {OrderOf} */
  #order = ({ purpose, draft, preview }) => {
    const { unlinked, unticked, names } = draft;
    const links = linksOf(this.#state.places).filter((link) => !unlinked.has(keyOf(link)));
    if (purpose === "links") return { links, attachments: [] };
    const files = preview?.attachments.filter(({ ref, allowed }) => allowed && !unticked.has(ref)) ?? [];
    const attachments = files.map(({ ref, name }) => ({ ref, name: names.get(ref)?.trim() || name }));
    const subject = draft.subject.trim();
    return { ...(subject && { subject }), links, attachments, include_eml: !unticked.has("eml"), follow_thread: !unticked.has("thread") };
  };

  #isHere = (/** @type {Item} */ item) => this.#state.item?.identity === item.identity;

  #tell = (/** @type {News} */ news) => this.#with.view.tell(news);

  /** @param {Partial<State>} change */
  #set(change) {
    this.#state = { ...this.#state, ...change };
    this.#with.view.draw(this.#state);
  }

  /** @type {SetSheet} */
  #setSheet = ({ draft }, change) => {
    const { sheet } = this.#state;
    if (sheet?.draft === draft) this.#set({ sheet: { ...sheet, ...change } });
  };
}

/** @type {IsTheirs} */
const isTheirs = ({ code, status }) => status === 401 || /sign_in|linked|not_conn/.test(code);

/** @type {TroubleOf} */
function troubleOf(error) {
  if (!(error instanceof ApiError)) throw error;
  return error;
}
