/**
 * Our own HTTP face, with a bearer token that lives in this object only. Every failure is an ApiError whose `code` the views
 * turn into text. Reads may be aborted; a write never is, because the server may have acted already.
 */

/** @import {Context, Me, Order, Preview, Save, WireItem} from "./types.js" */

const READ_MS = 20_000;
const WRITE_MS = 60_000;

export class ApiError extends Error {
  /** @param {string} code the Problem's, or ours: offline, unreachable, timeout, aborted @param {Record<string, any>} [problem] */
  constructor(code, problem = {}) {
    super(code);
    this.code = code;
    this.status = Number(problem.status ?? 0); // 0: no answer came, so a write may have happened
    this.detail = String(problem.detail ?? problem.title ?? "");
    this.requestId = String(problem.request_id ?? "");
    this.saveId = String(problem.save_id ?? "");
  }
}

export class Api {
  #newToken;
  #base;
  /** @type {Promise<string> | null} */ #token = null;

  /** @param {() => Promise<string>} newToken @param {string} [base] origin of the server; empty: the page's own */
  constructor(newToken, base = "") {
    this.#newToken = newToken;
    this.#base = base;
  }

  /** Begin to fetch a token. Whoever needs it first hears of a failure. */
  warm() {
    this.#bearer().catch(() => undefined);
  }

  /** @param {string} token from a sign-in that the person asked for */
  use(token) {
    this.#token = Promise.resolve(token);
  }

  /** @returns {Promise<Me>} */
  me() {
    return this.#call("GET", "/api/me");
  }

  /**
   * @param {{mode: string, item: WireItem, complete?: true, refresh?: true | undefined}} question @param {AbortSignal} signal
   * @returns {Promise<Context>}
   */
  context(question, signal) {
    return this.#call("POST", "/api/context", question, READ_MS, signal);
  }

  /** @param {WireItem} item @param {AbortSignal} signal @returns {Promise<Preview>} */
  preview(item, signal) {
    return this.#call("POST", "/api/saves/preview", { item }, READ_MS, signal);
  }

  /** @param {WireItem} item @param {Order} order @returns {Promise<Save>} */
  save(item, order) {
    return this.#call("POST", "/api/saves", { item, ...order }, WRITE_MS);
  }

  /** @param {string} id @returns {Promise<Save>} */
  saveState(id) {
    return this.#call("GET", `/api/saves/${encodeURIComponent(id)}`);
  }

  /** @param {string} id @returns {Promise<Save>} */
  retry(id) {
    return this.#call("POST", `/api/saves/${encodeURIComponent(id)}/retry`, undefined, WRITE_MS);
  }

  /** @param {string} method @param {string} path @param {unknown} [body] @param {number} [ms] @param {AbortSignal} [signal] */
  async #call(method, path, body, ms = READ_MS, signal) {
    const token = this.#bearer();
    let answer = await this.#send(method, path, await token, body, ms, signal);
    if (answer.status === 401) {
      if (this.#token === token) this.#token = null;
      answer = await this.#send(method, path, await this.#bearer(), body, ms, signal);
    }
    const { ok, status, json, requestId } = answer;
    if (!ok) throw new ApiError(String(json?.code ?? `http_${status}`), { request_id: requestId, ...json, status });
    if (json === undefined) throw new ApiError("unreachable"); // cut on its way, or not from our server
    return json;
  }

  #bearer() {
    if (this.#token) return this.#token;
    const token = this.#newToken();
    token.catch(() => this.#token === token && (this.#token = null));
    return (this.#token = token);
  }

  /**
   * Send once, and read the whole answer in time.
   * @param {string} method @param {string} path @param {string} token @param {unknown} body @param {number} ms @param {AbortSignal} [signal]
   */
  async #send(method, path, token, body, ms, signal) {
    const patience = new AbortController();
    const stop = () => patience.abort();
    const timer = setTimeout(stop, ms);
    signal?.addEventListener("abort", stop);
    if (signal?.aborted) stop();
    const headers = { Accept: "application/json", Authorization: `Bearer ${token}` };
    const content = body === undefined ? { headers } : { headers: { ...headers, "Content-Type": "application/json" }, body: JSON.stringify(body) };
    try {
      const response = await fetch(this.#base + path, { method, ...content, signal: patience.signal, credentials: "omit", cache: "no-store", redirect: "error" });
      const json = parsed(await response.text());
      return { ok: response.ok, status: response.status, json, requestId: response.headers.get("X-Request-Id") };
    } catch (error) {
      if (patience.signal.aborted) throw new ApiError(signal?.aborted ? "aborted" : "timeout");
      if (error instanceof TypeError) throw new ApiError(globalThis.navigator?.onLine === false ? "offline" : "unreachable");
      throw error;
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", stop);
    }
  }
}

/** @param {string} text @returns {any} undefined when it is not JSON */
function parsed(text) {
  try {
    return JSON.parse(text);
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}
