/**
 * The two ways in which Google runs an add-on: its script on Apps Script, or calls of its endpoint. Both answer with the JSON of
 * the HTTP runtime, by which Gmail is told what to show.
 */

import { ApiError, call } from "../api.js";

/** @typedef {"homepage" | "message" | "compose"} Trigger */
/** @typedef {Record<string, {stringInputs: {value: string[]}}>} FormInputs */
/**
 * Where the person is, and what they did there.
 * @typedef {{mailbox: string, locale: string, time_zone: string, offset_ms: number, message?: string,
 *   draft?: {to: string[], cc: string[], bcc: string[]}, form_inputs?: FormInputs, parameters?: Record<string, string>}} Moment
 */
/** @typedef {{label: string, openLink?: string, runFunction?: string}} UniversalAction */
/**
 * @typedef {{name: string, sources: string[], functions: Record<Trigger, string>, endpoints: Record<Trigger, string>,
 *   url_fetch_whitelist: string[], open_link_url_prefixes: string[], universal_actions: UniversalAction[]}} Manifest
 */
/** @typedef {import("./card.js").Card} Card */
/** @typedef {{pushCard: Card} | {updateCard: Card} | {pop: true} | {popToRoot: true}} Step */
/** @typedef {{url: string, openAs?: string, onClose?: string}} OpenLink */
/** @typedef {{navigations?: Step[], notification?: {text: string}, link?: OpenLink}} Wish what Gmail shall show */
/**
 * `trigger` is called when a message is opened or the like, `act` when a button's action names `target`. Both throw a Failure.
 * @typedef {{trigger: (trigger: Trigger, moment: Moment) => Promise<Wish>, act: (target: string, moment: Moment) => Promise<Wish>,
 *   stop: () => void}} Runtime
 */

const RUNS_FOR_MS = 30_000; // a Workspace add-on's execution (developers.google.com/apps-script/guides/services/quotas)

/** The add-on gave no answer that can be shown; the message is for its developer. */
export class Failure extends Error {}

/** @implements {Runtime} */
export class AppsScript {
  #manifest;
  /** @type {Worker | null} */
  #worker = null;
  #timer = 0;

  /** @param {Manifest} manifest */
  constructor(manifest) {
    this.#manifest = manifest;
  }

  /** @param {Trigger} trigger @param {Moment} moment */
  trigger(trigger, moment) {
    return this.#run(this.#manifest.functions[trigger], moment);
  }

  /** @param {string} target @param {Moment} moment */
  act(target, moment) {
    return this.#run(target, moment);
  }

  stop() {
    clearTimeout(this.#timer);
    this.#worker?.terminate();
    this.#worker = null;
  }

  /** @param {string} name @param {Moment} moment @returns {Promise<Wish>} */
  async #run(name, moment) {
    const { event, identity_token, messages } = await asked("/addon/event", moment);
    const { sources, url_fetch_whitelist } = this.#manifest;
    const surroundings = { identityToken: identity_token, urlFetchWhitelist: url_fetch_whitelist, messages };
    this.stop();
    const worker = new Worker("/static/addon/execution.js");
    this.#worker = worker;
    const told = await new Promise((resolve) => {
      worker.onmessage = ({ data }) => resolve(data);
      worker.onerror = (error) => resolve({ failure: error.message });
      this.#timer = window.setTimeout(() => resolve({ failure: "Exceeded maximum execution time" }), RUNS_FOR_MS);
      worker.postMessage({ name, event, sources, surroundings });
    });
    if (this.#worker === worker) this.stop();
    if (told.failure) throw new Failure(told.failure);
    return wishOf(told.answer);
  }
}

/** @implements {Runtime} */
export class Http {
  #manifest;

  /** @param {Manifest} manifest */
  constructor(manifest) {
    this.#manifest = manifest;
  }

  /** @param {Trigger} trigger @param {Moment} moment */
  async trigger(trigger, moment) {
    const answer = await this.#call(this.#manifest.endpoints[trigger], moment);
    if (!answer.action) throw new Failure("The answer to a trigger has no action.");
    return wishOf(answer);
  }

  /** @param {string} target @param {Moment} moment */
  async act(target, moment) {
    const answer = await this.#call(target, moment);
    if (!answer.renderActions) throw new Failure("The answer to a click has no renderActions.");
    return wishOf(answer);
  }

  stop() {} // Google's server goes on; its answer is not looked at

  /** @param {string} url @param {Moment} moment @returns {Promise<any>} */
  async #call(url, moment) {
    const { status, text } = await asked("/addon/call", { ...moment, url });
    if (status !== 200) throw new Failure(status ? `${url} answered ${status}. ${text.slice(0, 300)}` : `${url} did not answer: ${text}`);
    const answer = parsed(text);
    if (!answer) throw new Failure(`${url} answered something that is not JSON.`);
    const wanted = answer.requesting_google_scopes?.scopes;
    if (wanted) throw new Failure(`Google would ask the person to allow ${wanted.join(", ")}, which all people here have.`);
    return answer;
  }
}

/** @param {string} text @returns {any} null if it is not JSON */
function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** @param {string} path @param {object} body */
async function asked(path, body) {
  try {
    return await call("POST", path, body);
  } catch (error) {
    throw error instanceof ApiError ? new Failure(error.message) : error;
  }
}

/** @param {any} answer @returns {Wish} */
function wishOf(answer) {
  const wish = answer.renderActions?.action ?? answer.action;
  if (!wish || typeof wish !== "object") throw new Failure("The answer says nothing that Gmail could show.");
  return wish;
}
