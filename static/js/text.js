/** Words, numbers and dates in the mail client's language. Every word comes from strings/. */

export class Text {
  #locale;
  #messages;

  /** @param {string} locale @param {Messages} messages */
  constructor(locale, messages) {
    this.#locale = locale;
    this.#messages = messages;
  }

  /** @param {string} wanted */
  static async load(wanted) {
    const locale = /^(de|en)\b/.test(wanted) ? wanted : "en";
    document.documentElement.lang = locale.slice(0, 2);
    const response = await fetch(new URL(`strings/${document.documentElement.lang}.json`, import.meta.url));
    return new Text(locale, await response.json());
  }

  /** @type {Translate} */
  t = (key, values = {}) => {
    const message = this.#messages[key];
    const isOne = () => new Intl.PluralRules(this.#locale).select(Number(values.n)) === "one";
    const text = typeof message === "string" ? message : isOne() ? message.one : message.other;
    return text.replace(/\{(\w+)\}/g, (_, name) => (name === "n" ? this.#number(Number(values.n)) : String(values[name] ?? "")));
  };

  /** @type {Named} */
  named = (prefix, word, otherwise) => {
    const key = /** @type {Key} */ (`${prefix}_${word}`);
    return Object.hasOwn(this.#messages, key) ? this.t(key) : otherwise;
  };

  /** "today 14:02", "3 Nov 2026, 14:02" in this computer's zone. @param {Date} at */
  when(at, now = new Date()) {
    const days = Math.round((new Date(at).setHours(0, 0, 0, 0) - new Date(now).setHours(0, 0, 0, 0)) / 86_400_000);
    if (days !== 0 && days !== -1) return this.#date(at, { dateStyle: "medium", timeStyle: "short" });
    const day = new Intl.RelativeTimeFormat(this.#locale, { numeric: "auto" }).format(days, "day");
    return `${day} ${this.#date(at, { hour: "2-digit", minute: "2-digit" })}`;
  }

  /** @type {FieldText} */
  field = (name, value) => {
    const at = new Date(value);
    if (!/^(start|due|(.+_)?date)$/.test(name) || !Number(at)) return value;
    return name.endsWith("date") ? this.#date(at, { dateStyle: "medium", timeZone: "UTC" }) : this.when(at);
  };

  /** @type {DateText} */
  #date = (at, how) => new Intl.DateTimeFormat(this.#locale, how).format(at);

  /** @param {number} bytes */
  size(bytes) {
    if (bytes < 1e6) return this.#number(Math.ceil(bytes / 1e3), { style: "unit", unit: "kilobyte" });
    return this.#number(bytes / 1e6, { style: "unit", unit: "megabyte", maximumFractionDigits: 1 });
  }

  /** @type {NumberText} */
  #number = (value, how) => new Intl.NumberFormat(this.#locale, how).format(value);
}

/** @type {Initials} */
export function initials(name) {
  const [first = "?", ...others] = name.replace(/\(.*\)/, "").match(/[\p{L}\p{N}]+/gu) ?? [];
  return [first, others.at(-1) ?? ""].map((word) => [...word][0] ?? "").join("").toUpperCase();
}

/** @type {Visible} */
export function visible(text) {
  return text.replace(/(?![\t\n])[\p{Cc}\u202a-\u202e\u2066-\u2069]/gu, "\ufffd");
}
