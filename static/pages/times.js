/** Puts the times of a page, which come in UTC, into the reader's zone. */

const how = /** @type {const} */ ({ dateStyle: "long", timeStyle: "short" });
const { lang } = document.documentElement;
const format = new Intl.DateTimeFormat(navigator.languages.find((tag) => tag.startsWith(lang)) ?? lang, how);
for (const time of document.querySelectorAll("time")) {
  time.title = time.textContent ?? "";
  time.textContent = format.format(new Date(time.dateTime));
}
