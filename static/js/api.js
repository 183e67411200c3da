/** Our HTTP face. The token lives in this object only. A question may be aborted; a write never is: it may have acted. */

const ASK_MS = 20_000;
const WRITE_MS = 60_000;

export class ApiError extends Error {
  /** @param {string} code @param {ProblemBody} [problem] */
  constructor(code, problem = {}) {
    super(code);
    this.code = code;
    this.status = Number(problem.status ?? 0); // 0: no answer came
    this.detail = String(problem.detail ?? "");
    this.requestId = String(problem.request_id ?? "");
    this.saveId = String(problem.save_id ?? "");
    this.retryAfter = Number(problem.retry_after_s ?? 0);
  }
}

export class Api {
  #newToken;
  /** @type {Promise<string> | null} */ #token = null;

  /** @param {Way} newToken */
  constructor(newToken) {
    this.#newToken = newToken;
  }

  warm() {
    this.#bearer().catch(() => undefined);
  }

  async signIn() {
    this.use(await this.#newToken(true));
  }

  /** @param {string} token */
  use(token) {
    this.#token = Promise.resolve(token);
  }

  /** @type {AskServer} */
  ask = (path, question, signal) => this.#call(path, question, AbortSignal.timeout(ASK_MS), signal);

  /** @type {WriteToServer} */
  write = (path, order = {}) => this.#call(path, order, AbortSignal.timeout(WRITE_MS));

  /** @type {Call} */
  #call = async (path, body, limit, signal) => {
    const request = { signal: AbortSignal.any([limit, signal ?? limit]), ...(body && { method: "POST", body: JSON.stringify(body) }) };
    try {
      let response = await this.#send(path, request);
      if (response.status === 401) response = await this.#send(path, request);
      const { ok, status, headers } = response;
      const json = await response.json().catch(() => null); // was cut
      if (!ok) throw new ApiError(String(json?.code ?? status), { request_id: headers.get("X-Request-Id"), ...json, status });
      if (status !== 204 && !(json?.cards ?? json?.state ?? json?.attachments)) throw new TypeError(); // not from our server
      return json;
    } catch (error) {
      if (signal?.aborted) throw new ApiError("aborted");
      if (limit.aborted) throw new ApiError("timeout");
      if (error instanceof TypeError) throw new ApiError(globalThis.navigator?.onLine === false ? "offline" : "unreachable");
      throw error;
    }
  };

  #bearer() {
    if (this.#token) return this.#token;
    const token = this.#newToken(false);
    token.catch(() => this.#token === token && (this.#token = null));
    return (this.#token = token);
  }

  /** @type {Send} */
  #send = async (path, request) => {
    const token = this.#bearer();
    const forget = () => this.#token === token && (this.#token = null);
    const stopped = new Promise((_, reject) => request.signal.addEventListener("abort", reject)); // sign-in may never end
    await Promise.race([token, stopped]).catch((error) => [forget(), Promise.reject(error)][1]);
    const { lang } = document.documentElement;
    const headers = { "Content-Type": "application/json", "Accept-Language": lang, Authorization: `Bearer ${await token}` };
    const response = await fetch(`/api/${path}`, { ...request, headers, credentials: "omit", redirect: "error" });
    if (response.status === 401) forget();
    return response;
  };
}
