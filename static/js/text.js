/** Words, numbers and dates in the language of the mail client. Every word that a person reads comes from strings/. */

const LANGUAGES = ["de", "en"];

export class Text {
  #locale;
  #messages;

  /** @param {string} locale BCP 47, e.g. "de-AT" @param {Record<Key, Message>} messages */
  constructor(locale, messages) {
    this.#locale = locale;
    this.#messages = messages;
  }

  /** Where the language is not ours, words are English; numbers and dates stay. @param {string} locale */
  static async load(locale) {
    const [language = ""] = locale.split("-");
    const file = LANGUAGES.includes(language) ? language : "en";
    const response = await fetch(new URL(`strings/${file}.json`, import.meta.url));
    document.documentElement.lang = file;
    return new Text(/^[a-z]{2,3}(-[a-z\d]+)*$/i.test(locale) ? locale : "en", await response.json());
  }

  /** A text with its {names} filled in; `n` also chooses the plural. @type {Translate} */
  t = (key, values = {}) => {
    const message = this.#messages[key];
    const isOne = () => new Intl.PluralRules(this.#locale).select(Number(values.n)) === "one";
    const text = typeof message === "string" ? message : isOne() ? message.one : message.other;
    return text.replace(/\{(\w+)\}/g, (_, name) => (name === "n" ? this.#number(Number(values.n)) : String(values[name] ?? "")));
  };

  /** The text of `prefix_word`, if there is one. @param {string} prefix @param {string} word @param {string} otherwise */
  named(prefix, word, otherwise) {
    const key = /** @type {Key} */ (`${prefix}_${word}`);
    return Object.hasOwn(this.#messages, key) ? this.t(key) : otherwise;
  }

  /** "today 14:02", "yesterday 09:10", "3 Nov 2026, 14:02" in the zone of this computer. @param {Date} at @param {Date} now */
  when(at, now) {
    const days = Math.round((new Date(at).setHours(0, 0, 0, 0) - new Date(now).setHours(0, 0, 0, 0)) / 86_400_000);
    if (days !== 0 && days !== -1) return this.#date({ dateStyle: "medium", timeStyle: "short" }, at);
    const day = new Intl.RelativeTimeFormat(this.#locale, { numeric: "auto" }).format(days, "day");
    return `${day} ${this.#date({ hour: "2-digit", minute: "2-digit" }, at)}`;
  }

  /** @param {number} bytes */
  size(bytes) {
    const power = bytes < 1000 ? 0 : Math.min(3, Math.floor(Math.log10(bytes) / 3));
    const unit = ["byte", "kilobyte", "megabyte", "gigabyte"][power] ?? "byte";
    return this.#number(bytes / 1000 ** power, { style: "unit", unit, maximumFractionDigits: power > 1 ? 1 : 0 });
  }

  /** @param {number} value @param {Intl.NumberFormatOptions} [how] */
  #number(value, how) {
    return new Intl.NumberFormat(this.#locale, how).format(value);
  }

  /** @param {Intl.DateTimeFormatOptions} how @param {Date} at */
  #date(how, at) {
    return new Intl.DateTimeFormat(this.#locale, how).format(at);
  }
}

/** Up to two letters for a name. @param {string} name */
export function initials(name) {
  const words = name.replace(/\(.*\)/, "").match(/[\p{L}\p{N}]+/gu) ?? [];
  const letters = [words[0], words.length > 1 && words.at(-1)].map((word) => [...(word || "")][0] ?? "");
  return letters.join("").toUpperCase() || "?";
}

/** Show characters that would change how the text around them reads: controls and direction overrides. @param {string} text */
export function visible(text) {
  return text.replace(/(?![\t\n])[\p{Cc}\u202a-\u202e\u2066-\u2069]/gu, "\ufffd");
}
