/**
 * The mail client: which mailbox, folder and message are shown, and who is told when that changes.
 *
 * The address holds the state: `?mailbox=` and `#/mailbox/<address>/<folder>/<message>`, `?host=` the misbehaviours,
 * `?pane=1` an open sidebar, `?theme=`. The list is polled; parts of the page draw what they are given and call back.
 */

import { AddOn } from "./addon/add_on.js";
import { ApiError, call, detail, messagePath, view } from "./api.js";
import { Behaviours } from "./behaviours.js";
import { CategoryMenu, CategoryManager } from "./categories.js";
import { Compose } from "./compose.js";
import { Contacts } from "./contacts.js";
import { DeveloperBar } from "./developer.js";
import { announce, byId } from "./dom.js";
import { drawFolders } from "./folders.js";
import { Guest } from "./guest.js";
import { Host } from "./host.js";
import { MessageList } from "./list.js";
import { lookOf } from "./look.js";
import { MessageView } from "./message.js";
import { Pane } from "./pane.js";
import { Theme } from "./theme.js";
import { TopBar } from "./top.js";

/** @typedef {import("./api.js").Owner} Owner */
/** @typedef {import("./api.js").View} View */
/** @typedef {import("./api.js").Detail} Detail */

const POLL_MS = 600;
const HIDDEN_POLL_MS = 5000;

class App {
  #query = new URLSearchParams(location.search);
  #behaviours = new Behaviours(this.#query.get("host") ?? "");
  #theme = new Theme(this.#query.get("theme") ?? "auto");
  /** @type {import("./api.js").Config} */
  #config = { sidebar_url: location.origin, has_add_on: false, vendors: [], mailboxes: [], label_colors: [] };
  /** @type {View | null} */
  #view = null;
  /** @type {Detail | null} */
  #open = null;
  /** @type {Compose | null} */
  #compose = null;
  #address = "";
  #folder = "inbox";
  #message = "";
  #loads = 0;
  #timer = 0;

  #host = new Host(
    {
      owner: () => this.#owner(),
      sidebarUrl: () => this.#config.sidebar_url,
      openItem: (id) => void this.#openAnywhere(id),
      closePane: () => this.#pane.close(),
    },
    this.#behaviours,
    this.#theme.office,
  );
  #addOn = new AddOn(() => this.#owner(), this.#behaviours);
  #guest = new Guest(this.#host, this.#addOn, () => this.#addOnWanted());
  #pane = new Pane(this.#guest, () => (this.#compose ?? this.#reading).drawPaneButton());
  #top = new TopBar(byId("top"), this.#theme.select, (address) => this.#go(address, "inbox"));
  #list = new MessageList(byId("list"), {
    open: (id) => this.#go(this.#address, this.#folder, id),
    remove: () => void this.#remove(),
  });
  #reading = new MessageView(byId("message"), {
    pane: () => (this.#hostsAddIns() ? this.#pane : null),
    owner: () => this.#owner(),
    back: () => this.#go(this.#address, this.#folder),
    folders: () => this.#view?.folders ?? [],
    categories: () => this.#view?.categories ?? [],
    reply: (all) => this.#reply(all),
    remove: () => void this.#remove(),
    move: (folder) => void this.#move(folder),
    setRead: (isRead) => void this.#setRead(isRead),
    categorise: (anchor) => this.#menu.open(anchor, this.#look(), this.#categories(), this.#open?.categories ?? []),
  });
  #menu = new CategoryMenu({
    set: (name, on) => void this.#categorise(name, on),
    manage: () => this.#manage(),
  });
  #manager = new CategoryManager(() => this.#refresh());
  #developer = new DeveloperBar(byId("developer"), this.#behaviours, this.#theme);

  async start() {
    if (this.#behaviours.unknown.length) {
      this.#reading.drawNotice("Unknown host behaviour", this.#behaviours.unknown.join(", "));
      return;
    }
    this.#config = await call("GET", "/api/config");
    this.#manager.labelColors = this.#config.label_colors;
    this.#developer.start(this.#config.vendors);
    this.#theme.addEventListener("change", () => this.#host.setTheme(this.#theme.office));
    this.#theme.addEventListener("change", () => this.#remember());
    this.#behaviours.addEventListener("change", () => this.#remember());
    this.#behaviours.addEventListener("change", () => this.#guest.choose());
    addEventListener("hashchange", () => void this.#navigate());
    document.addEventListener("visibilitychange", () => void this.#poll());
    await this.#navigate();
    if (this.#query.get("pane") || this.#pane.wasOpen) this.#openPane();
    void this.#poll();
  }

  // -- Where we are -----------------------------------------------------------------------------------------------------

  /** @param {string} address @param {string} folder @param {string} [message] */
  #go(address, folder, message = "") {
    const hash = ["#/mailbox", ...[address, folder, message].filter(Boolean).map(encodeURIComponent)].join("/");
    if (hash === location.hash) void this.#navigate();
    else location.hash = hash;
  }

  async #navigate() {
    const [, , address = "", folder = "inbox", message = ""] = location.hash.split("/").map(decodeURIComponent);
    const wanted = address || this.#query.get("mailbox") || this.#config.mailboxes[0]?.address || "";
    const known = this.#config.mailboxes.find((m) => m.address.toLowerCase() === wanted.toLowerCase());
    if (!known) {
      this.#reading.drawNotice("No such mailbox", wanted ? `Nobody here has the address ${wanted}.` : "The World has no mailboxes.");
      this.#top.draw(this.#config.mailboxes, null);
      return;
    }
    const isOther = known.address !== this.#address;
    const moved = isOther || folder !== this.#folder || !this.#view;
    const reopens = moved || message !== this.#message || this.#compose !== null;
    [this.#address, this.#folder, this.#message] = [known.address, folder, message];
    if (this.#compose && reopens) this.#leaveCompose();
    this.#top.draw(this.#config.mailboxes, known);
    if (moved) {
      this.#view = null;
      // Another person's mailbox is another session of the host.
      if (isOther && this.#pane.isOpen) this.#newSession();
      await this.#refresh();
    }
    this.#draw();
    if (reopens) await this.#show(message);
  }

  #remember() {
    const query = this.#query;
    for (const [key, value] of [["host", String(this.#behaviours)], ["theme", this.#theme.choice === "auto" ? "" : this.#theme.choice]]) {
      if (value) query.set(key, value);
      else query.delete(key);
    }
    history.replaceState(null, "", `${location.pathname}${query.size ? `?${query}` : ""}${location.hash}`);
  }

  #owner() {
    return /** @type {Owner} */ (this.#config.mailboxes.find((m) => m.address === this.#address));
  }

  #look() {
    return lookOf(this.#owner());
  }

  #categories() {
    return this.#view?.categories ?? [];
  }

  // -- Showing ----------------------------------------------------------------------------------------------------------

  async #refresh() {
    const [address, folder] = [this.#address, this.#folder];
    let fresh;
    try {
      fresh = await view(address, folder, this.#view?.revision ?? "");
    } catch (error) {
      if (!(error instanceof ApiError)) return; // the simulator is restarting: try again at the next poll
      this.#reading.drawNotice("Not found", error.message);
      return;
    }
    if (!fresh || address !== this.#address || folder !== this.#folder) return;
    this.#view = fresh;
    this.#draw();
    await this.#renew();
  }

  #draw() {
    if (!this.#view) return;
    drawFolders(byId("folders"), this.#look(), this.#view, {
      go: (folder) => this.#go(this.#address, folder),
      write: () => this.#write({}),
      manage: () => this.#manage(),
      contacts: () => void new Contacts(this.#address, this.#look(), this.#categories()).open(),
    });
    this.#list.draw(this.#look(), this.#view, this.#message);
    document.title = `${this.#view.folders.find((f) => f.id === this.#view?.folder)?.name ?? "Mail"} - ${this.#address}`;
  }

  /** A narrow page shows the list or what is read or written, not both. */
  #drawReading() {
    byId("panes").classList.toggle("reading", this.#open !== null || this.#compose !== null);
  }

  /** Redraw the open message when its row changed. */
  async #renew() {
    const row = this.#view?.messages.find((m) => m.id === this.#open?.id);
    if (!row || !this.#open || stateOf(row) === stateOf(this.#open)) return;
    this.#open = { ...this.#open, ...row };
    this.#guest.refresh({ read: this.#open });
    this.#reading.draw(this.#open);
  }

  /** @param {string} id "" for none */
  async #show(id) {
    this.#loads += 1;
    const load = this.#loads;
    let found = null;
    try {
      found = id ? await detail(this.#address, id) : null;
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      announce(error.message);
    }
    if (load !== this.#loads) return;
    if (found?.is_draft) {
      this.#write({ id: found.id, to: field(found.to), cc: field(found.cc), bcc: field(found.bcc), subject: found.subject, text: found.text ?? "" }, found.item_id);
      return;
    }
    if (this.#pane.isOpen && !this.#pane.isPinned && this.#open) this.#pane.close();
    this.#open = found;
    this.#drawReading();
    this.#guest.select(found && { read: found });
    this.#reading.draw(found);
    this.#list.select(id);
    if (found && !found.is_read) void this.#setRead(true);
  }

  /** @param {string} itemId */
  async #openAnywhere(itemId) {
    const found = await detail(this.#address, itemId);
    this.#go(this.#address, found.folder, found.id);
  }

  async #poll() {
    clearTimeout(this.#timer);
    await this.#refresh();
    this.#timer = window.setTimeout(() => void this.#poll(), document.hidden ? HIDDEN_POLL_MS : POLL_MS);
  }

  #openPane() {
    if (this.#hostsAddIns()) this.#pane.open();
    else this.#pane.close();
  }

  /** Without a server there is nothing to host. */
  #hostsAddIns() {
    return this.#config.sidebar_url !== "";
  }

  /** How Gmail runs the add-on here; "" where the sidebar is shown. */
  #addOnWanted() {
    return this.#config.has_add_on && this.#look().name === "gmail" ? this.#behaviours.choice("addon-") : "";
  }

  #newSession() {
    this.#open = null;
    this.#guest.select(null);
    this.#openPane();
  }

  // -- What the person does -----------------------------------------------------------------------------------------------

  #path() {
    return messagePath(this.#address, this.#open?.id ?? "");
  }

  /** @param {boolean} isRead */
  async #setRead(isRead) {
    await call("POST", `${this.#path()}/read`, { is_read: isRead });
    await this.#refresh();
  }

  /** @param {string} name @param {boolean} on */
  async #categorise(name, on) {
    await call("POST", `${this.#path()}/categories`, on ? { add: [name] } : { remove: [name] });
    await this.#refresh();
  }

  /** @param {string} folder */
  async #move(folder) {
    if (!this.#open) return;
    const next = this.#list.neighbour(this.#open.id);
    await call("POST", `${this.#path()}/move`, { folder });
    announce("Message moved");
    await this.#refresh();
    // One that only got or lost a label can still be in the list.
    if (!this.#view?.messages.some((row) => row.id === this.#open?.id)) this.#go(this.#address, this.#folder, next);
  }

  #manage() {
    this.#manager.open(this.#address, this.#look(), this.#categories());
  }

  async #remove() {
    if (!this.#open || !this.#view) return;
    const bin = this.#view.folders.find((f) => f.well_known === "deleteditems");
    if (bin && this.#open.folder !== bin.id) {
      await this.#move(bin.id);
      return;
    }
    const next = this.#list.neighbour(this.#open.id);
    await call("DELETE", this.#path());
    announce("Message deleted");
    this.#go(this.#address, this.#folder, next);
    await this.#refresh();
  }

  /** @param {boolean} all */
  #reply(all) {
    const message = this.#open;
    if (!message) return;
    const own = this.#address.toLowerCase();
    const others = [...message.to, ...message.cc].filter((party) => party.address.toLowerCase() !== own);
    this.#write({
      to: field(message.from ? [message.from] : []),
      cc: all ? field(others) : "",
      subject: /^re:/i.test(message.subject) ? message.subject : `Re: ${message.subject}`,
      conversation_id: message.conversation_id,
    }, null, message.internet_message_id);
  }

  /** @param {Partial<import("./api.js").Form>} form @param {string | null} [itemId] @param {string | null} [inReplyTo] */
  #write(form, itemId = null, inReplyTo = null) {
    this.#leaveCompose();
    // A pin in read mode does not carry over to compose.
    if (this.#pane.isOpen) this.#pane.suspend();
    this.#open = null;
    this.#compose = new Compose(byId("message"), this.#address, form, { itemId, inReplyTo }, {
      done: () => this.#leaveCompose(true),
      changed: () => void this.#refresh(),
      recipients: (which) => this.#host.recipientsChanged(which),
      pane: this.#hostsAddIns() ? this.#pane : null,
    });
    this.#drawReading();
    this.#guest.select({ compose: this.#compose.draft });
  }

  /** @param {boolean} [redraw] */
  #leaveCompose(redraw = false) {
    if (!this.#compose) return;
    this.#compose = null;
    this.#drawReading();
    this.#guest.select(null);
    this.#pane.resume();
    if (!redraw) return;
    const isShown = this.#view?.messages.some((m) => m.id === this.#message && !m.is_draft);
    if (isShown || !this.#message) void this.#show(this.#message);
    else this.#go(this.#address, this.#folder);
    void this.#refresh();
  }
}

/** What of a message can change while it is open. @param {import("./api.js").Row} row */
const stateOf = ({ categories, is_read, folder }) => JSON.stringify([categories, is_read, folder]);

/** @param {import("./api.js").Party[]} parties as the text of a recipients field */
function field(parties) {
  return parties.map(({ name, address }) => (name && name !== address ? `"${name.replace(/["\\]/g, "\\$&")}" <${address}>` : address)).join(", ");
}

void new App().start();
