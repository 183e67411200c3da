/** The answer of a lookup as places, one per address, in the order of the message. Pure. */

/** @param {Link} link */
export const keyOf = ({ type, id }) => `${type}:${id}`;

/** @param {Place[]} places */
export const cardsOf = (places) => places.flatMap(({ cards }) => cards.map(({ card }) => card));

/** @type {LinksOf} */
export const linksOf = (places) => cardsOf(places).map(({ type, id }) => ({ type, id }));

/** @type {Compared} */
export const compared = (address) => address.trim().toLowerCase().replace(/\+[^@]*(?=@)/, "");

/** @type {Arrange} */
export function arrange({ cards, unknown, incomplete }, item, before = []) {
  const roles = rolesIn(item);
  const held = new Map(before.flatMap((place) => place.cards.map(({ card }) => [keyOf(card), place])));
  /** @type {Map<string, Place>} */
  const places = new Map();
  /** @type {PlaceAt} */
  const at = (key, address, name, tag = "") => {
    const place = places.get(key) ?? { key, address, name, cards: [], tag };
    places.set(key, place);
    return place;
  };
  for (const card of cards) {
    const [address = ""] = card.matched ?? [];
    const place = held.get(keyOf(card)) ?? { key: compared(address), address };
    at(place.key, place.address, card.title).cards.push({ card, reasons: reasonsFor(card, cards, roles) });
  }
  for (const { address, name, verified } of unknown) {
    at(compared(address), address, name, verified !== false ? "not_found" : incomplete ? "checking" : "unchecked");
  }
  return ordered([...places.values()], before);
}

/** @type {RolesIn} */
function rolesIn({ from, to, cc, bcc = [] }) {
  const lists = /** @type {[Role, Person[]][]} */ (Object.entries({ bcc, cc, to, from: [from] }));
  return new Map(lists.flatMap(([role, people]) => people.map(({ address }) => [compared(address), role])));
}

/** @type {ReasonsFor} */
function reasonsFor(card, cards, roles) {
  const person = card.type === "account" && cards.find((other) => isAccountOf(card, other));
  if (person) return [{ label: "account_of", value: person.title }];
  return (card.matched ?? []).map((value) => ({ label: roles.get(compared(value)) ?? "other", value }));
}

/** @type {IsAccountOf} */
function isAccountOf({ title, matched }, person) {
  const isTogether = person.matched?.some((address) => matched?.includes(address));
  return isTogether && person.fields?.some(({ name, value }) => name === "account" && value === title);
}

/** @type {Ordered} */
function ordered(places, before) {
  const keys = before.map(({ key }) => key);
  const cards = cardsOf(before).map(keyOf);
  for (const place of places) place.cards.sort((a, b) => rank(cards, keyOf(a.card)) - rank(cards, keyOf(b.card)));
  return places.sort((a, b) => rank(keys, a.key) + Number(!a.key) - rank(keys, b.key) - Number(!b.key));
}

/** @type {Rank} */
const rank = (known, key) => (known.includes(key) ? known.indexOf(key) : known.length);
