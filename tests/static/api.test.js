/** Our HTTP face, asked over a real loopback port. */
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, before, beforeEach, test } from "node:test";

import { Api, ApiError } from "../../static/js/api.js";

const { AbortController, fetch, URL } = globalThis;
/** @type {(request: import("node:http").IncomingMessage, response: import("node:http").ServerResponse) => void} */
let answer;
let seen;
const server = createServer((request, response) => {
  let body = "";
  request.on("data", (chunk) => (body += chunk));
  request.on("end", () => {
    const { authorization: bearer, cookie, "accept-language": language } = request.headers;
    seen.push({ method: request.method, url: request.url, bearer, cookie, language, body });
    answer(request, response);
  });
});

before(() => new Promise((resolve) => {
  server.listen(0, "127.0.0.1", () => {
    // A page has an origin and a language, Node has none.
    globalThis.document = { documentElement: { lang: "en" } };
    globalThis.fetch = (path, init) => fetch(new URL(path, `http://127.0.0.1:${server.address().port}`), init);
    resolve();
  });
}));
beforeEach(() => (seen = []));
after(() => {
  globalThis.fetch = fetch;
  delete globalThis.document;
  server.closeAllConnections();
  server.close();
});

const reply = (status, body, headers = {}) => (_, response) => response.writeHead(status, headers).end(typeof body === "string" ? body : JSON.stringify(body));
const tokens = (...all) => async () => all.shift();

test("asks with the bearer token, and writes with a body", async () => {
  answer = reply(200, { state: "saved" });
  const api = new Api(tokens("one"));
  assert.deepEqual(await api.ask("saves/a", null), { state: "saved" });
  await api.write("saves", { links: [] });
  assert.deepEqual(seen.map(({ method, url, bearer, body }) => [method, url, bearer, body]), [
    ["GET", "/api/saves/a", "Bearer one", ""],
    ["POST", "/api/saves", "Bearer one", '{"links":[]}'],
  ]);
  assert.deepEqual(seen.map(({ cookie }) => cookie), [undefined, undefined]);
});

test("says in which language the reader reads", async () => {
  answer = reply(200, { state: "saved" });
  globalThis.document.documentElement.lang = "de";
  await new Api(tokens("one")).ask("sync", null);
  assert.equal(seen[0].language, "de");
});

test("a refused token is renewed once, then the refusal counts", async () => {
  answer = (request, response) => reply(request.headers.authorization === "Bearer two" ? 200 : 401, { state: "saved", code: "needs_sign_in" })(request, response);
  assert.deepEqual(await new Api(tokens("one", "two")).ask("me", null), { state: "saved", code: "needs_sign_in" });
  await assert.rejects(new Api(tokens("one", "still one")).ask("me", null), { code: "needs_sign_in", status: 401 });
  assert.equal(seen.length, 4);
});

test("several calls at once share one token, and one renewal", async () => {
  let asked = 0;
  answer = (request, response) => reply(request.headers.authorization === "Bearer 1" ? 401 : 200, { cards: [] })(request, response);
  const api = new Api(async () => String(++asked));
  api.warm();
  await Promise.all([api.ask("a", null), api.ask("b", null), api.ask("c", null)]);
  assert.equal(asked, 2);
});

test("a failure to get a token is told to whoever asks, and asked for anew the next time", async () => {
  let works = false;
  answer = reply(200, { cards: [] });
  const api = new Api(async () => {
    if (!works) throw new ApiError("sign_in_needed");
    return "token";
  });
  api.warm();
  await assert.rejects(api.ask("me", null), { code: "sign_in_needed" });
  works = true;
  await api.ask("me", null);
});

test("a Problem becomes an ApiError with all that a person may need", async () => {
  const body = { type: "urn:x", title: "Conflict", status: 409, code: "save_failed", detail: "It is locked.", request_id: "r1", save_id: "s1" };
  answer = reply(409, body);
  await assert.rejects(new Api(tokens("t")).write("saves"), { code: "save_failed", status: 409, detail: "It is locked.", requestId: "r1", saveId: "s1" });
});

test("an error that is not a Problem keeps its status and the request id of its header", async () => {
  answer = reply(502, "<html>Bad gateway</html>", { "X-Request-Id": "r2" });
  await assert.rejects(new Api(tokens("t")).ask("me", null), { code: "502", status: 502, requestId: "r2" });
});

test("an answer that is cut, empty, no JSON or not ours is no answer", async () => {
  const cut = (_, response) => response.writeHead(200, { "Content-Length": "99" }).write('{"state":"sav', () => response.destroy());
  for (const bad of [reply(200, ""), reply(200, "<html></html>"), cut, ...["{}", "[]", "null", "1", '"saved"', '{"ok":true}'].map((body) => reply(200, body))]) {
    answer = bad;
    await assert.rejects(new Api(tokens("t")).write("saves"), { code: "unreachable", status: 0 });
  }
});

test("an answer may be that there is nothing to say", async () => {
  answer = (_, response) => response.writeHead(204).end();
  assert.equal(await new Api(tokens("t")).write("link", { token: "x" }), null);
});

test("a dead connection and a redirect are unreachable", async () => {
  answer = (request) => request.socket.destroy();
  await assert.rejects(new Api(tokens("t")).ask("me", null), { code: "unreachable" });
  answer = reply(302, "", { Location: "https://elsewhere.example/" });
  await assert.rejects(new Api(tokens("t")).ask("me", null), { code: "unreachable" });
});

test("a question may be taken back", async () => {
  answer = () => undefined; // never
  const stop = new AbortController();
  const asked = new Api(tokens("t")).ask("context", {}, stop.signal);
  stop.abort();
  await assert.rejects(asked, { code: "aborted" });
});

test("a sign-in that never ends is given up with the question, and begun anew by the next", async () => {
  answer = reply(200, { cards: [] });
  let asked = 0;
  const api = new Api(() => (asked++ ? Promise.resolve("token") : new Promise(() => undefined)));
  const stop = new AbortController();
  const first = api.ask("context", {}, stop.signal);
  stop.abort();
  await assert.rejects(first, { code: "aborted" });
  await api.ask("context", {});
  assert.deepEqual([asked, seen.length], [2, 1]);
});

test("a token outlives the questions that are taken back", async () => {
  let asked = 0;
  answer = reply(200, { cards: [] });
  const api = new Api(async () => String(++asked));
  const stop = new AbortController();
  await api.ask("context", {}, stop.signal);
  stop.abort();
  await api.ask("context", {});
  assert.equal(asked, 1);
});
