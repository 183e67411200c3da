/** Words, numbers and dates, and what is made of texts that others wrote. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { followable, mailto, tel } from "../../static/js/dom.js";
import { Text, initials, visible } from "../../static/js/text.js";

const words = (language) => JSON.parse(readFileSync(new globalThis.URL(`../../static/js/strings/${language}.json`, import.meta.url), "utf8"));
const english = new Text("en-GB", words("en"));
const german = new Text("de-DE", words("de"));

test("plurals and numbers follow the language", () => {
  assert.equal(english.t("links", { n: 1 }), "1 link");
  assert.equal(english.t("links", { n: 2000 }), "2,000 links");
  assert.equal(german.t("records", { n: 2000 }), "2.000 Datensätze");
});

test("a value may hold braces without being filled in again", () => {
  assert.equal(english.t("failed", { reason: "{n} {reason}" }), "Not saved: {n} {reason}");
});

test("a word of the server that we have no text for is shown as it is", () => {
  assert.equal(english.named("type", "contact", "?"), "Contact");
  assert.equal(english.named("type", "spaceship", "Spaceship"), "Spaceship");
  assert.equal(english.named("type", "__proto__", "?"), "?");
});

test("times of today and yesterday are said so, others by date", () => {
  const now = new Date(2026, 10, 22, 15, 0);
  assert.equal(english.when(new Date(2026, 10, 22, 14, 2), now), "today 14:02");
  assert.equal(english.when(new Date(2026, 10, 21, 23, 59), now), "yesterday 23:59");
  assert.equal(german.when(new Date(2026, 10, 22, 0, 1), now), "heute 00:01");
  assert.equal(english.when(new Date(2026, 10, 3, 14, 2), now), "3 Nov 2026, 14:02");
  assert.equal(english.when(new Date(2026, 10, 23, 0, 1), now), "23 Nov 2026, 00:01"); // a clock that is ahead
});

test("days and instants of a record are words, whatever else stands there is left alone", () => {
  assert.equal(english.field("close_date", "2026-11-03"), "3 Nov 2026");
  assert.equal(german.field("date", "2026-11-03"), "03.11.2026");
  assert.equal(english.field("start", "2026-11-03T13:02:00Z"), "3 Nov 2026, 14:02");
  assert.equal(english.field("due", "soon"), "soon");
  assert.equal(english.field("phone", "2026"), "2026");
  assert.equal(english.field("update", "2026-11-03"), "2026-11-03");
});

test("sizes are short and by locale", () => {
  assert.deepEqual([0, 1, 482_133, 1_234_567, 41_234_567].map((n) => english.size(n)), ["0 kB", "1 kB", "483 kB", "1.2 MB", "41.2 MB"]);
  assert.equal(german.size(1_234_567), "1,2 MB");
});

test("initials are the first letters of the first and the last word", () => {
  const names = ["Jane Doe", "Doe, Jane", "Anna Maria Schmidt (old)", "Øystein", "李 小龙", "", "…", "<script>"];
  assert.deepEqual(names.map(initials), ["JD", "DJ", "AS", "Ø", "李小", "?", "?", "S"]);
});

test("controls and direction overrides become visible, other scripts stay", () => {
  assert.equal(visible("invoice\u202egnp.exe\u0000\u2066"), "invoice\ufffdgnp.exe\ufffd\ufffd");
  assert.equal(visible("مرحبا\tשלום\n👩‍💻"), "مرحبا\tשלום\n👩‍💻");
});

test("only web, mail and telephone addresses may be followed", () => {
  const bad = ["javascript:alert(1)", " jAvascript:alert(1)", "data:text/html,x", "vbscript:x", "file:///etc/passwd", "//evil.example", "/relative", "", "blob:https://a.example/1"];
  assert.deepEqual(bad.map(followable), bad.map(() => null));
  assert.equal(followable("https://c4c.example/a?b=1"), "https://c4c.example/a?b=1");
});

test("an address cannot smuggle anything into a link", () => {
  assert.equal(mailto("a@b.example?bcc=evil@c.example&body=x"), "mailto:a@b.example%3Fbcc%3Devil@c.example%26body%3Dx");
  assert.equal(tel("+49 (30) 901820-14"), "tel:+493090182014");
  assert.equal(tel("javascript:alert(1)"), null);
  assert.equal(tel("none"), null);
});
