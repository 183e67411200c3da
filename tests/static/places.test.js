/** Places: one per address, in the order of the message, and nothing moves when a second answer comes. */
import assert from "node:assert/strict";
import { test } from "node:test";

import { arrange, linksOf } from "../../static/js/places.js";

const person = (address, name = "") => ({ name, address });
const item = { from: person("Jane@North.example", "Jane"), to: [person("me@example.com")], cc: [person("tom+news@north.example"), person("x@else.example")] };
const card = (type, id, matched, more = {}) => ({ type, id, title: id, matched, fields: [], linked: false, ...more });
const keys = (places) => places.map(({ key, cards }) => [key, ...cards.map(({ card: { id } }) => id)]);

test("records stand under the address they were found by, people without one after them", () => {
  const places = arrange(
    { cards: [card("contact", "C1", ["jane@north.example"]), card("account", "A1", ["jane@north.example"])], unknown: [person("x@else.example")] },
    item,
  );
  assert.deepEqual(keys(places), [["jane@north.example", "C1", "A1"], ["x@else.example"]]);
  assert.deepEqual(linksOf(places), [{ type: "contact", id: "C1" }, { type: "account", id: "A1" }]);
});

test("a card says in which role its address stands in the message, whatever the case and the plus tag", () => {
  const places = arrange({ cards: [card("contact", "C1", ["JANE@north.example"]), card("lead", "L1", ["tom@north.example"])], unknown: [] }, item);
  const reasons = places.flatMap(({ cards }) => cards.flatMap((placed) => placed.reasons.map(({ label }) => label)));
  assert.deepEqual(reasons, ["from", "cc"]);
});

test("an account that is there because of a contact says of whom", () => {
  const contact = card("contact", "C1", ["jane@north.example"], { title: "Jane", fields: [{ name: "account", label: "", value: "North Ltd" }] });
  const account = card("account", "A1", ["jane@north.example"], { title: "North Ltd" });
  const [place] = arrange({ cards: [contact, account], unknown: [] }, item);
  assert.deepEqual(place.cards[1].reasons, [{ label: "account_of", value: "Jane" }]);
});

test("what is not verified is being checked as long as more is to come, and then it is not checked", () => {
  const unknown = [{ ...person("x@else.example"), verified: false }, { ...person("y@else.example"), verified: true }];
  const tags = (incomplete) => arrange({ cards: [], unknown, incomplete }, item).map(({ tag }) => tag);
  assert.deepEqual(tags(true), ["checking", "not_found"]);
  assert.deepEqual(tags(false), ["unchecked", "not_found"]);
});

test("a second answer changes places where they are, and what is new comes last", () => {
  const first = { cards: [card("contact", "C1", ["tom@north.example"])], unknown: [{ ...person("x@else.example"), verified: false }, person("y@else.example")] };
  const second = {
    cards: [card("lead", "L0", ["jane@north.example"]), card("contact", "C1", ["tom@north.example"]), card("lead", "L1", ["x@else.example"])],
    unknown: [person("y@else.example")],
  };
  const places = arrange(second, item, arrange(first, item));
  assert.deepEqual(keys(places), [["tom@north.example", "C1"], ["x@else.example", "L1"], ["y@else.example"], ["jane@north.example", "L0"]]);
});

test("a record that no address matched comes after all others", () => {
  const places = arrange({ cards: [card("ticket", "T1", []), card("contact", "C1", ["jane@north.example"])], unknown: [person("x@else.example")] }, item);
  assert.deepEqual(keys(places), [["jane@north.example", "C1"], ["x@else.example"], ["", "T1"]]);
});

test("a record that several addresses matched stands once, under the first", () => {
  const places = arrange({ cards: [card("account", "A1", ["tom@north.example", "jane@north.example"])], unknown: [] }, item);
  assert.deepEqual(keys(places), [["tom@north.example", "A1"]]);
  assert.equal(places[0].cards[0].reasons.length, 2);
});
