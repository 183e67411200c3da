/** What the sidebar does with a mail client that misbehaves and a server that is late; both are told what to do by hand. */
import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { setImmediate } from "node:timers/promises";

import { ApiError } from "../../static/js/api.js";
import { Sidebar } from "../../static/js/sidebar.js";

/** A mail client with one selected message, or none. */
class Host {
  identity = "A";
  dialogToken = async () => "pane token";
  exchangeToken = async () => "exchange token";
  visit = () => new Promise((resolve) => (this.back = resolve));
  onItemChange = (changed) => (this.changed = changed);
  onRecipientsChange = () => undefined;
  get headline() {
    return this.identity && { from: { name: this.identity, address: "" }, subject: `About ${this.identity}` };
  }
  async readItem() {
    const { identity } = this;
    if (!identity) return null;
    return { identity, mode: "read", wire: { id: `id-${identity}`, subject: `About ${identity}`, from: { name: identity, address: "" }, to: [], cc: [] } };
  }
  select(identity) {
    this.identity = identity;
    this.changed();
  }
}

/** A server whose answers are given by the test, in any order. */
class Server {
  calls = [];
  used = [];
  signIn = async () => this.use("token");
  use = (token) => this.used.push(token);
  ask = (path, body, signal) => this.#call(path, body, signal);
  write = (path, body) => this.#call(path, body);
  #call(path, body, signal) {
    return new Promise((resolve, reject) => this.calls.push({ path, body, signal, resolve, reject }));
  }
  /** The newest open call of this path. */
  call(path) {
    return this.calls.findLast((call) => call.path === path);
  }
  async answer(path, value) {
    this.call(path).resolve(value);
    await setImmediate();
  }
  async refuse(path, ...error) {
    this.call(path).reject(new ApiError(...error));
    await setImmediate();
  }
}

const card = { type: "contact", id: "C1", title: "Jane", matched: ["jane@north.example"], linked: false };
const other = { ...card, id: "C2", matched: ["tom@north.example"] };
const context = (more = {}) => ({ cards: [card], unknown: [], save: { state: "none" }, ...more });

let host, server, sidebar, state, news, asleep;
/** Let time pass: whoever sleeps wakes up. */
const wake = () => asleep.splice(0).forEach((resolve) => resolve());

beforeEach(async () => {
  [host, server, news, asleep] = [new Host(), new Server(), [], []];
  sidebar = new Sidebar({
    host,
    api: server,
    view: { draw: (now) => (state = now), tell: (said) => news.push(said) },
    sleep: () => new Promise((resolve) => asleep.push(resolve)),
  });
  sidebar.start();
  await setImmediate();
});

test("shows whose message it is before the server answers, and the cards after", async () => {
  assert.equal(state.phase, "loading");
  assert.equal(state.headline.subject, "About A");
  await server.answer("context", context());
  assert.equal(state.phase, "shown");
  assert.equal(state.places.length, 1);
});

test("an answer for a message that is not selected any more is dropped, in whatever order answers come", async () => {
  const first = server.call("context");
  host.select("B");
  await setImmediate();
  assert.equal(first.signal.aborted, true);
  await server.answer("context", context({ cards: [other] }));
  first.resolve(context());
  await setImmediate();
  assert.equal(state.item.identity, "B");
  assert.equal(state.places[0].cards[0].card.id, "C2");
});

test("no item is an empty pane at once, and an answer that is still on its way does not fill it", async () => {
  const first = server.call("context");
  host.select(null);
  assert.equal(state.phase, "empty");
  first.resolve(context());
  await setImmediate();
  assert.deepEqual([state.phase, state.item, state.headline], ["empty", null, null]);
});

test("a client that changes the item without saying so is noticed when the answer comes", async () => {
  host.identity = "B";
  await server.answer("context", context());
  assert.equal(state.phase, "loading");
  assert.equal(state.headline.subject, "About B");
  await server.answer("context", context({ cards: [other] }));
  assert.equal(state.item.identity, "B");
});

test("saving for a message that is not displayed any more is refused", async () => {
  await server.answer("context", context());
  host.identity = "B";
  await sidebar.save();
  assert.equal(server.call("saves"), undefined);
  assert.deepEqual(news.at(-1), { key: "item_changed" });
  assert.equal(state.headline.subject, "About B");
});

test("one click saves the message with every record found, once", async () => {
  await server.answer("context", context());
  sidebar.save();
  sidebar.save();
  await setImmediate();
  assert.equal(server.calls.filter(({ path }) => path === "saves").length, 1);
  assert.deepEqual(server.call("saves").body, { item: state.item.wire, links: [{ type: "contact", id: "C1" }] });
  assert.equal(state.save.state, "saving");
  await server.answer("saves", { id: "s1", state: "saved" });
  assert.deepEqual([state.save.state, state.save.by], ["saved", "you"]);
  assert.equal(news.at(-1).key, "saved_toast");
});

test("a lookup that began before the save was answered does not undo what is shown", async () => {
  await server.answer("context", context());
  sidebar.refresh();
  await setImmediate();
  const early = server.call("context");
  sidebar.save();
  await setImmediate();
  early.resolve(context());
  await setImmediate();
  assert.equal(state.save.state, "saving");
  await server.answer("saves", { id: "s1", state: "saved" });
  assert.equal(state.save.state, "saved");
});

test("how a save ended is told aside when another message is displayed by then", async () => {
  await server.answer("context", context());
  sidebar.save();
  await setImmediate();
  host.select("B");
  await setImmediate();
  await server.answer("context", context({ cards: [other] }));
  await server.refuse("saves", "save_failed", { status: 409, detail: "It is locked.", save_id: "s1" });
  assert.equal(state.save.state, "none");
  assert.deepEqual([news.at(-1).key, news.at(-1).subject], ["failed_other", "About A"]);
});

test("a failed save says why, and is tried again by its id", async () => {
  await server.answer("context", context());
  sidebar.save();
  await setImmediate();
  await server.refuse("saves", "save_failed", { status: 409, detail: "It is locked.", save_id: "s1" });
  assert.deepEqual([state.save.state, state.save.trouble.detail, state.save.id], ["failed", "It is locked.", "s1"]);
  sidebar.retry();
  await setImmediate();
  await server.answer("saves/s1/retry", { id: "s1", state: "saved" });
  assert.equal(state.save.state, "saved");
});

test("a lost answer is shown as a failure, and the same save is sent again", async () => {
  await server.answer("context", context());
  sidebar.save();
  await setImmediate();
  await server.refuse("saves", "unreachable");
  assert.deepEqual([state.save.state, state.save.trouble.code], ["failed", "unreachable"]);
  const { body } = server.call("saves");
  sidebar.retry();
  await setImmediate();
  assert.deepEqual(server.call("saves").body, body);
  assert.equal(server.calls.filter(({ path }) => path === "saves").length, 2);
});

test("a save that is not finished is asked about until it is, also when nobody answers for a while", async () => {
  await server.answer("context", context({ save: { state: "pending", id: "s1" } }));
  wake();
  await setImmediate();
  await server.refuse("saves/s1", "unreachable");
  assert.equal(state.save.state, "pending");
  wake();
  await setImmediate();
  await server.answer("saves/s1", { id: "s1", state: "saved" });
  assert.equal(state.save.state, "saved");
});

test("nobody asks about the save of a message that is not displayed", async () => {
  await server.answer("context", context({ save: { state: "pending", id: "s1" } }));
  host.select("B");
  wake();
  await setImmediate();
  assert.equal(server.call("saves/s1"), undefined);
});

test("a server that is late is said to be, with a next step, and its answer is taken all the same", async () => {
  assert.equal(state.late, false);
  wake();
  await setImmediate();
  assert.deepEqual([state.phase, state.late], ["loading", true]);
  sidebar.refresh();
  await setImmediate();
  assert.equal(state.late, false);
  assert.equal(server.calls.length, 2);
  await server.answer("context", context());
  assert.equal(state.phase, "shown");
});

test("nobody is called late for a message that is not selected any more", async () => {
  const [late] = asleep;
  host.select("B");
  await setImmediate();
  late();
  await setImmediate();
  assert.equal(state.late, false);
});

const AWAY = { code: "unavailable", detail: "C4C does not answer.", retry_after_s: 1 };

test("while C4C is away the state of the save is shown, and the rest follows by itself", async () => {
  const known = { state: "failed", id: "s1", reason: "It is locked.", at: "2026-11-22T13:02:00Z" };
  await server.answer("context", context({ cards: [], save: known, trouble: AWAY }));
  assert.deepEqual([state.phase, state.trouble.code, state.trouble.status, state.save], ["failed", "unavailable", 503, known]);
  wake();
  await setImmediate();
  await server.answer("context", context({ save: known }));
  assert.deepEqual([state.phase, state.places.length], ["shown", 1]);
});

test("while C4C is away a save that is not finished is still asked about", async () => {
  await server.answer("context", context({ cards: [], save: { state: "pending", id: "s1" }, trouble: { ...AWAY, retry_after_s: null } }));
  wake();
  await setImmediate();
  await server.answer("saves/s1", { id: "s1", state: "saved" });
  assert.equal(state.save.state, "saved");
});

test("what is shown stays when C4C is away at a refresh", async () => {
  await server.answer("context", context());
  sidebar.refresh();
  await setImmediate();
  await server.answer("context", context({ cards: [], save: { state: "saved", id: "s1" }, trouble: AWAY }));
  assert.deepEqual([state.phase, state.refreshing, state.places.length, state.save.state], ["shown", false, 1, "saved"]);
  assert.equal(news.at(-1).key, "refresh_failed");
});

test("a service that is away is asked again by itself, a few times and ever more rarely", async () => {
  for (let turn = 0; turn < 9; turn++) {
    await server.refuse("context", "unavailable", { status: 503 });
    wake();
    await setImmediate();
  }
  assert.equal(server.calls.length, 6);
  assert.equal(state.phase, "failed");
});

test("nothing is checked for ever: when the second look fails, who is left is not checked", async () => {
  await server.answer("context", context({ incomplete: true, unknown: [{ name: "", address: "tom@north.example", verified: false }] }));
  await server.refuse("context", "unavailable", { status: 503 });
  assert.deepEqual([state.phase, state.context.incomplete, state.places.map(({ tag }) => tag)], ["shown", false, ["", "unchecked"]]);
});

test("the second answer comes after the cards and keeps them where they are", async () => {
  await server.answer("context", context({ incomplete: true, unknown: [{ name: "", address: "tom@north.example", verified: false }] }));
  assert.deepEqual(state.places.map(({ tag }) => tag), ["", "checking"]);
  assert.equal(server.call("context").body.complete, true);
  await server.answer("context", context({ cards: [other, card] }));
  assert.deepEqual(state.places.map(({ cards }) => cards[0].card.id), ["C1", "C2"]);
});

test("a refresh that fails keeps what is shown and says so", async () => {
  await server.answer("context", context());
  sidebar.refresh();
  await setImmediate();
  assert.deepEqual([state.phase, state.refreshing, server.call("context").body.refresh], ["shown", true, true]);
  await server.refuse("context", "unavailable", { status: 503 });
  assert.deepEqual([state.phase, state.refreshing, state.places.length], ["shown", false, 1]);
  assert.equal(news.at(-1).key, "refresh_failed");
});

test("a lookup that failed is tried again when the connection is back", async () => {
  sidebar.connected(false);
  await server.refuse("context", "offline");
  assert.equal(state.phase, "failed");
  sidebar.connected(true);
  await setImmediate();
  await server.answer("context", context());
  assert.equal(state.phase, "shown");
});

test("on automatic mail people are looked up when the person saves it anyway", async () => {
  await server.answer("context", context({ cards: [], automatic: { kind: "bulk" } }));
  sidebar.save();
  await setImmediate();
  assert.equal(server.call("context").body.anyway, true);
  assert.equal(server.call("saves"), undefined);
  await server.answer("context", context({ automatic: { kind: "bulk" } }));
  assert.deepEqual(server.call("saves").body.links, [{ type: "contact", id: "C1" }]);
});

test("automatic mail is not saved for the wrong message when the person moves on during the lookup", async () => {
  await server.answer("context", context({ cards: [], automatic: { kind: "bulk" } }));
  sidebar.save();
  await setImmediate();
  const asked = server.call("context");
  host.select("B");
  asked.resolve(context({ automatic: { kind: "bulk" } }));
  await setImmediate();
  assert.equal(server.call("saves"), undefined);
});

const file = (ref, allowed = true) => ({ ref, name: `${ref}.pdf`, size_bytes: 1, allowed });

test("further messages of a thread are saved only where that was asked for", async () => {
  await server.answer("context", context({ cards: [card] }));
  sidebar.choose("save");
  await setImmediate();
  await server.answer("saves/preview", { attachments: [], follow_thread: true });
  assert.ok(state.sheet.draft.unticked.has("thread"));
  state.sheet.draft.unticked.delete("thread");
  sidebar.confirm();
  await setImmediate();
  assert.equal(server.call("saves").body.follow_thread, true);
  await server.answer("saves", { id: "s1", state: "saved" });
});

test("the sheet saves what was chosen, and keeps it when it is closed in between", async () => {
  await server.answer("context", context({ cards: [card, other] }));
  sidebar.choose("save");
  await setImmediate();
  await server.answer("saves/preview", { attachments: [file("1"), file("2"), file("3", false)] });
  state.sheet.draft.subject = "Better";
  state.sheet.draft.unlinked.add("contact:C2");
  state.sheet.draft.unticked.add("1");
  state.sheet.draft.names.set("2", "offer.pdf");
  sidebar.close();
  sidebar.choose("save");
  await setImmediate();
  await server.answer("saves/preview", { attachments: [file("1"), file("2"), file("3", false)] });
  sidebar.confirm();
  await setImmediate();
  const { item, ...order } = server.call("saves").body;
  assert.equal(item.id, "id-A");
  assert.deepEqual(order, { subject: "Better", links: [{ type: "contact", id: "C1" }], attachments: [{ ref: "2", name: "offer.pdf" }], include_eml: false, follow_thread: false });
  await server.answer("saves", { id: "s1", state: "saved" });
  assert.equal(state.sheet, null);
});

test("a refusal before anything was written stays in the sheet", async () => {
  await server.answer("context", context());
  sidebar.choose("save");
  await setImmediate();
  await server.answer("saves/preview", { attachments: [] });
  sidebar.confirm();
  await setImmediate();
  await server.refuse("saves", "rejected", { status: 422, detail: "The name is too long." });
  assert.deepEqual([state.sheet.saving, state.sheet.trouble.detail, state.save.state], [false, "The name is too long.", "none"]);
});

test("links of a saved message can be added, and nothing else is sent again", async () => {
  await server.answer("context", context({ cards: [{ ...card, linked: true }, other], save: { state: "saved", id: "s1", by: "you" } }));
  sidebar.choose("links");
  assert.deepEqual([...state.sheet.draft.unlinked], ["contact:C2"]);
  state.sheet.draft.unlinked.clear();
  sidebar.confirm();
  await setImmediate();
  const { item, ...order } = server.call("saves").body;
  assert.equal(item.id, "id-A");
  assert.deepEqual(order, { links: [{ type: "contact", id: "C1" }, { type: "contact", id: "C2" }], attachments: [] });
});

test("the sheet goes when another message is selected", async () => {
  await server.answer("context", context());
  sidebar.choose("save");
  await setImmediate();
  host.select("B");
  assert.equal(state.sheet, null);
});

test("signing in is offered when the token is refused, and leads on", async () => {
  await server.refuse("context", "needs_sign_in", { status: 401 });
  assert.deepEqual([state.phase, state.trouble.status], ["failed", 401]);
  await sidebar.signIn();
  await setImmediate();
  await server.answer("context", context());
  assert.equal(state.phase, "shown");
});

test("an expired sign-in takes the place of what is shown, and of a save", async () => {
  await server.answer("context", context());
  sidebar.save();
  await setImmediate();
  await server.refuse("saves", "sign_in_needed");
  assert.deepEqual([state.phase, state.trouble.code, state.save.state], ["failed", "sign_in_needed", "none"]);
  await sidebar.signIn();
  await server.answer("context", context());
  assert.equal(state.phase, "shown");
  sidebar.refresh();
  await setImmediate();
  await server.refuse("context", "mailbox_not_connected", { status: 403, detail: "The password was changed." });
  assert.deepEqual([state.phase, state.trouble.detail], ["failed", "The password was changed."]);
});

test("an Exchange account is linked by both tokens, and then used", async () => {
  await server.refuse("context", "not_linked", { status: 403 });
  const signingIn = sidebar.signIn();
  await setImmediate();
  assert.deepEqual([server.used, server.call("link").body], [["pane token"], { token: "exchange token" }]);
  await server.answer("link", null);
  await signingIn;
  assert.deepEqual(server.used, ["pane token", "exchange token"]);
});

test("a link that is refused says why, and the next click tries it anew", async () => {
  await server.refuse("context", "not_linked", { status: 403 });
  sidebar.signIn();
  await setImmediate();
  await server.refuse("link", "identity_taken", { status: 409, detail: "Somebody else has it." });
  assert.deepEqual([state.phase, state.trouble.code, state.trouble.detail], ["failed", "link_refused", "Somebody else has it."]);
  host.dialogToken = () => Promise.reject(new ApiError("dialog_closed"));
  await sidebar.signIn();
  assert.equal(state.trouble.code, "dialog_closed");
  host.dialogToken = async () => "pane token";
  sidebar.signIn();
  await setImmediate();
  await server.answer("link", null);
  assert.equal(server.used.at(-1), "exchange token");
});

test("who comes back from connecting the mailbox is asked for anew, once", async () => {
  await server.refuse("context", "mailbox_not_connected", { status: 403 });
  const connecting = sidebar.connect();
  assert.equal(server.calls.length, 1);
  host.back();
  await connecting;
  await setImmediate();
  assert.equal(server.calls.length, 2);
  await server.answer("context", context());
  assert.equal(state.phase, "shown");
});

test("a fault of ours leaves no waiting pane behind", async () => {
  sidebar.broke();
  assert.equal(state.phase, "failed");
});
