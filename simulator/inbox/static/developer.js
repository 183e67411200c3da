/** The developer bar: how the host misbehaves, how slow and sick the vendors are, what happened, what was asked, what was mailed. */

import { ApiError, call } from "./api.js";
import { ADD_ONS, BEHAVIOURS, LANGUAGES, MAILBOX_SETS, NAA_FAILURES, TOKEN_FAILURES } from "./behaviours.js";
import { el, icon, iconButton } from "./dom.js";

const TABS = { host: "Host", vendors: "Vendors", log: "World log", requests: "Requests", mails: "Mails" };
const SOURCES = { log: "log", requests: "access", mails: "mails" };
const KINDS = ["status", "hang", "drop", "acted_drop", "html", "garbage"];
const TAIL = 100;
const POLL_MS = 1000;

/** @typedef {keyof typeof TABS} Tab */

export class DeveloperBar {
  #place;
  #behaviours;
  #theme;
  /** @type {string[]} */
  #vendors = [];
  /** @type {Tab} */
  #tab = "host";
  #seen = "";
  #toggle;
  #summary = el("span", { class: "meta" });
  #panel = el("div", { class: "panel", role: "tabpanel", hidden: true });
  #tabs = el("div", { role: "tablist", "aria-label": "Developer bar", hidden: true });

  /** @param {HTMLElement} place @param {import("./behaviours.js").Behaviours} behaviours @param {import("./theme.js").Theme} theme */
  constructor(place, behaviours, theme) {
    this.#place = place;
    this.#behaviours = behaviours;
    this.#theme = theme;
    this.#toggle = el("button", { type: "button", "aria-expanded": "false", onclick: () => this.#setOpen(Boolean(this.#panel.hidden)) },
      icon("wrench"), "Developer", icon("chevron"));
  }

  /** @param {string[]} vendors */
  start(vendors) {
    this.#vendors = vendors;
    this.#tabs.append(...Object.entries(TABS).map(([id, label]) => el("button", {
      type: "button", role: "tab", id: `tab-${id}`, onclick: () => void this.#show(/** @type {Tab} */ (id)),
      onkeydown: (/** @type {KeyboardEvent} */ event) => this.#key(event),
    }, label)));
    this.#place.append(el("div", { class: "bar" }, this.#toggle, this.#tabs, el("span", { class: "grow" }), this.#summary), this.#panel);
    this.#behaviours.addEventListener("change", () => this.#summarise());
    this.#summarise();
    setInterval(() => void this.#poll(), POLL_MS);
  }

  /** @param {boolean} open */
  #setOpen(open) {
    this.#panel.hidden = !open;
    this.#tabs.hidden = !open;
    this.#toggle.setAttribute("aria-expanded", String(open));
    if (open) void this.#show(this.#tab);
  }

  #summarise() {
    const count = this.#behaviours.size;
    this.#summary.textContent = count ? `${count} host ${count === 1 ? "behaviour" : "behaviours"} on: ${this.#behaviours}` : "Host behaves well";
  }

  /** @param {Tab} tab */
  async #show(tab) {
    this.#tab = tab;
    this.#seen = "";
    for (const button of this.#tabs.children) {
      const isCurrent = button.id === `tab-${tab}`;
      button.setAttribute("aria-selected", String(isCurrent));
      button.setAttribute("tabindex", isCurrent ? "0" : "-1");
    }
    this.#panel.setAttribute("aria-labelledby", `tab-${tab}`);
    if (tab === "host") this.#panel.replaceChildren(this.#hostPanel());
    else if (tab === "vendors") await this.#drawVendors();
    else await this.#poll();
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const tabs = /** @type {HTMLElement[]} */ ([...this.#tabs.children]);
    const next = tabs[(tabs.findIndex((tab) => tab === event.target) + step + tabs.length) % tabs.length];
    next?.focus();
    next?.click();
  }

  // -- Host -------------------------------------------------------------------------------------------------------------

  #hostPanel() {
    const choice = (/** @type {string} */ prefix, /** @type {string} */ label, /** @type {[string, string][]} */ options) => {
      const select = el("select", { onchange: () => this.#behaviours.choose(prefix, select.value) },
        ...options.map(([value, text]) => el("option", { value }, text)));
      select.value = this.#behaviours.choice(prefix);
      return el("label", { class: "choice" }, el("span", {}, label), select);
    };
    const theme = el("select", { onchange: () => this.#theme.choose(theme.value) },
      ...["auto", "light", "dark", "contrast"].map((value) => el("option", { value }, value)));
    theme.value = this.#theme.choice;
    return el("div", {},
      el("div", { class: "choices" },
        choice("mailbox-", "Mailbox requirement set", [["", "by mailbox"], ...MAILBOX_SETS.map((set) => /** @type {[string, string]} */ ([set, `up to ${set}`]))]),
        choice("naa-", "Nested app authentication", [["", "succeeds"], ...Object.keys(NAA_FAILURES).map((how) => /** @type {[string, string]} */ ([how, how]))]),
        choice("token-", "getAccessToken", [["", "succeeds"], ...Object.entries(TOKEN_FAILURES).map(([code, text]) => /** @type {[string, string]} */ ([code, `${code} ${text}`]))]),
        choice("language-", "Display language", [["", "by mailbox"], ...LANGUAGES.map((code) => /** @type {[string, string]} */ ([code, code]))]),
        choice("addon-", "Gmail shows", [["", "Sidebar"], ...Object.entries(ADD_ONS)]),
        el("label", { class: "choice" }, el("span", {}, "Office theme"), theme)),
      el("div", { class: "behaviours" }, ...BEHAVIOURS.map(({ id, label, hint }) => {
        const box = el("input", { type: "checkbox", checked: this.#behaviours.has(id), onchange: () => this.#behaviours.set(id, box.checked) });
        return el("label", {}, box, el("span", {}, el("span", {}, label), el("span", { class: "meta" }, hint)));
      })),
      el("p", { class: "meta" }, "Requirement sets, language, storage and slow start take effect when the pane is opened anew."));
  }

  // -- Vendors ----------------------------------------------------------------------------------------------------------

  async #drawVendors() {
    const [latency, faults] = await Promise.all([call("GET", "/world/latency"), call("GET", "/world/faults")]);
    if (this.#tab !== "vendors") return;
    this.#panel.replaceChildren(el("div", { class: "vendors" },
      el("section", { "aria-label": "Latency" }, el("h3", {}, "Latency"), ...this.#vendors.map((vendor) => this.#latency(vendor, latency[vendor]))),
      el("section", { "aria-label": "Faults" }, el("h3", {}, "Faults"), this.#faultForm(), faultList(faults, () => this.#drawVendors()))));
  }

  /** @param {string} vendor @param {{base_ms: number, per_part_ms: number} | undefined} now */
  #latency(vendor, now) {
    const number = (/** @type {string} */ name, /** @type {string} */ label, /** @type {number} */ value) =>
      el("label", {}, el("span", { class: "meta" }, label), el("input", { type: "number", name, min: 0, step: 10, value }));
    return el("form", { class: "inline", onchange: (/** @type {Event} */ event) => {
      const data = new FormData(/** @type {HTMLFormElement} */ (event.currentTarget));
      void call("POST", "/world/latency", { vendor, base_ms: Number(data.get("base_ms")), per_part_ms: Number(data.get("per_part_ms")) });
    }, onsubmit: (/** @type {Event} */ event) => event.preventDefault() },
      el("strong", {}, vendor), number("base_ms", "ms per request", now?.base_ms ?? 0), number("per_part_ms", "ms per part", now?.per_part_ms ?? 0));
  }

  #faultForm() {
    const select = (/** @type {string} */ name, /** @type {string[]} */ values) => el("select", { name, "aria-label": name }, ...values.map((v) => el("option", {}, v)));
    const problem = el("p", { class: "problem", role: "alert" });
    return el("form", { class: "inline", onsubmit: async (/** @type {Event} */ event) => {
      event.preventDefault();
      const data = new FormData(/** @type {HTMLFormElement} */ (event.currentTarget));
      const [times, retry] = [String(data.get("times")), String(data.get("retry_after_s"))];
      try {
        await call("POST", "/world/faults", {
          vendor: data.get("vendor"), kind: data.get("kind"), match: data.get("match"), status: Number(data.get("status")),
          retry_after_s: retry ? Number(retry) : null, seconds: Number(data.get("seconds")), times: times ? Number(times) : null,
        });
      } catch (error) {
        problem.textContent = error instanceof ApiError ? error.message : String(error);
        return;
      }
      await this.#drawVendors();
    } },
      select("vendor", this.#vendors), select("kind", KINDS),
      el("label", {}, el("span", { class: "meta" }, "matching"), el("input", { name: "match", placeholder: "METHOD path", size: 16 })),
      el("label", {}, el("span", { class: "meta" }, "status"), el("input", { name: "status", type: "number", value: 503 })),
      el("label", {}, el("span", { class: "meta" }, "Retry-After"), el("input", { name: "retry_after_s", type: "number", placeholder: "none" })),
      el("label", {}, el("span", { class: "meta" }, "seconds"), el("input", { name: "seconds", type: "number", value: 0, step: "any" })),
      el("label", {}, el("span", { class: "meta" }, "times"), el("input", { name: "times", type: "number", value: 1, min: 1 })),
      el("button", { class: "primary" }, "Add fault"), problem);
  }

  // -- Log, requests and mails ------------------------------------------------------------------------------------------

  async #poll() {
    const tab = this.#tab;
    if (this.#panel.hidden || document.hidden || tab === "host" || tab === "vendors") return;
    const entries = await call("GET", `/world/${SOURCES[tab]}?limit=${TAIL}`).catch(() => null);
    if (!entries || tab !== this.#tab) return;
    const last = `${entries.length} ${entries.at(-1)?.seq}`;
    if (last === this.#seen) return;
    this.#seen = last;
    this.#panel.replaceChildren({ log: logTable, requests: requestTable, mails: mailTable }[tab](entries));
  }
}

/** @param {any[]} faults @param {() => Promise<void>} changed */
function faultList(faults, changed) {
  if (!faults.length) return el("p", { class: "meta" }, "No fault is set.");
  return el("ul", { class: "faults" }, ...faults.map((fault) => el("li", {},
    el("span", {}, `${fault.vendor}: ${fault.kind}${fault.kind === "status" ? ` ${fault.status}` : ""}${fault.match ? `, ${fault.match}` : ""}, ${fault.times ?? "always"}${fault.times ? (fault.times === 1 ? " time" : " times") : ""}`),
    iconButton("close", "Remove fault", async () => {
      await call("DELETE", `/world/faults/${fault.id}`);
      await changed();
    }))));
}

/** @param {string[]} heads @param {string[][]} rows @param {string} none */
function table(heads, rows, none) {
  if (!rows.length) return el("p", { class: "meta" }, none);
  return el("table", {}, el("thead", {}, el("tr", {}, ...heads.map((head) => el("th", { scope: "col" }, head)))),
    el("tbody", {}, ...rows.map((cells) => el("tr", {}, ...cells.map((cell) => el("td", {}, cell))))));
}

/** @param {string} iso */
const clock = (iso) => new Date(iso).toLocaleTimeString(undefined, { hour12: false });

/** @param {any[]} events */
function logTable(events) {
  const rows = events.toReversed().map((e) => [clock(e.at), e.vendor, e.kind, e.actor, JSON.stringify(e.detail)]);
  return table(["Time", "Vendor", "What", "Who", "Details"], rows, "Nothing has happened yet.");
}

/** @param {any[]} requests */
function requestTable(requests) {
  const rows = requests.toReversed().map((r) => [clock(r.at), r.vendor, String(r.status), `${Math.round(r.duration_ms)} ms`,
    `${r.method} ${r.path}${r.query ? `?${r.query}` : ""}${r.parts.length ? ` [${r.parts.join("; ")}]` : ""}`, r.actor]);
  return table(["Time", "Vendor", "Status", "Took", "Request", "Who"], rows, "No request has reached a vendor yet.");
}

/** @param {any[]} mails */
function mailTable(mails) {
  const rows = mails.toReversed().map((m) => [clock(m.at), m.sender, m.recipients.join(", "), m.headers.subject, m.text]);
  return table(["Time", "From", "To", "Subject", "Text"], rows, "The product has sent no mail yet.");
}
