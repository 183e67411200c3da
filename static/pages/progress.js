/**
 * Keeps the state of a session up to date on a page that is complete without it. Stops when nothing more can change; a page that
 * shows what the session did is then loaded again, unless somebody is at one of its buttons.
 */

const EVERY_MS = 2000;
const MAX_MS = 30 * 60_000;
const MAX_FAILURES = 10;

/** @typedef {{ progress: string, state: string, done: number, total: number, sidebar?: string, is_seen?: boolean }} Words */

const place = /** @type {HTMLElement | null} */ (document.querySelector("[data-progress]"));
const until = Date.now() + MAX_MS;
let failures = 0;

/** Change a text only when it says something new, since a screen reader repeats it. @param {string} name @param {string} text */
function say(name, text) {
  const element = place?.querySelector(`[data-text="${name}"]`);
  if (element && element.textContent !== text) element.textContent = text;
}

/** @param {Words} words @returns {boolean} whether nothing more can change */
function show(words) {
  const bar = place?.querySelector("progress");
  const isUnderWay = words.state === "queued" || words.state === "running";
  if (bar) Object.assign(bar, { max: words.total, value: words.done, hidden: !isUnderWay });
  say("progress", words.progress);
  if (words.sidebar) say("sidebar", words.sidebar);
  if (place) place.dataset.state = words.state;
  const seen = /** @type {HTMLElement | null | undefined} */ (place?.querySelector("[data-seen]"));
  if (seen) seen.dataset.seen = words.is_seen ? "yes" : "no";
  return !isUnderWay && (!seen || words.is_seen === true);
}

async function look() {
  try {
    const response = await fetch(String(place?.dataset.progress), { headers: { Accept: "application/json" } });
    if (response.status === 401) return;
    failures = response.ok ? 0 : failures + 1;
    if (response.ok && show(await response.json())) {
      if (!document.querySelector("[data-reload]")) document.querySelector("[data-check]")?.remove();
      else if (document.activeElement === document.body) location.reload();
      return;
    }
  } catch {
    failures += 1; // offline: the link "Check again" stays
  }
  if (failures < MAX_FAILURES && Date.now() < until) setTimeout(look, EVERY_MS);
}

if (place && document.querySelector("[data-check]")) setTimeout(look, EVERY_MS);
