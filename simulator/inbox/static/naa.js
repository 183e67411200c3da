/**
 * The host's end of nested app authentication: answers what MSAL.js asks over the bridge of the Office.js stand-in.
 *
 * The protocol is that of @azure/msal-browser 5 (src/naa): GetInitContext, GetToken without the person, GetTokenPopup with them.
 * A token needs a scope of the add-in's own API, as Entra gives no access token for OpenID scopes alone.
 */

import { ApiError, call } from "./api.js";
import { NAA_FAILURES } from "./behaviours.js";
import { el } from "./dom.js";

/** @typedef {import("./api.js").Owner} Owner */
/**
 * @typedef {{messageType: string, method: string, requestId: string, tokenParams?: {clientId: string, scope: string,
 *   forceRefresh?: boolean}}} Request
 */

const TENANT = "5a1e0000-0000-4000-8000-000000000365";
const ENVIRONMENT = "login.microsoftonline.com";
const LIFE_S = 3600;

export class NestedAuth {
  #owner;
  /** @type {Set<string>} owner and client that were agreed upon */
  #agreed = new Set();

  /** @param {() => Owner} owner */
  constructor(owner) {
    this.#owner = owner;
  }

  /** @param {Request} request @param {string} failure one of NAA_FAILURES, or "" @returns {Promise<object>} */
  async answer({ messageType, method, requestId, tokenParams }, failure) {
    const reply = { messageType: "NestedAppAuthResponse", requestId };
    const refuse = (/** @type {string} */ status, code = "", description = "") => ({ ...reply, success: false, error: { status, code, description } });
    if (messageType !== "NestedAppAuthRequest") return refuse("PERSISTENT_ERROR", "invalid_request", "This is no request.");
    if (failure === "silent") return new Promise(() => {});
    if (method === "GetInitContext") return { ...reply, success: true, initContext: { capabilities: { queryAccount: false }, sdkName: "stand-in", sdkVersion: "1.0.0" } };
    if (!["GetToken", "GetTokenPopup"].includes(method)) return refuse("PERSISTENT_ERROR", "unsupported_method", method);
    const { clientId = "", scope = "" } = tokenParams ?? {};
    if (!scope.split(" ").some((each) => /^api:\/\/[^/]+\/[^/]+\/\w+$/.test(each) && each.includes(`/${clientId}/`))) {
      return refuse("PERSISTENT_ERROR", "invalid_scope", `AADSTS70011: The provided value for the input parameter 'scope' is not valid: ${scope}`);
    }
    const owner = this.#owner();
    const agreement = `${owner.address} ${clientId}`;
    if (failure === "interaction" && !this.#agreed.has(agreement)) {
      if (method === "GetToken") return refuse(NAA_FAILURES.interaction, "interaction_required", "AADSTS65001: The user has not consented to use the application.");
      if (!(await agrees())) return refuse("USER_CANCEL");
      this.#agreed.add(agreement);
    } else if (failure && failure !== "interaction") {
      return refuse(NAA_FAILURES[failure], failure);
    }
    try {
      const { token } = await call("POST", "/api/token", { mailbox: owner.address });
      return { ...reply, success: true, ...granted(owner, clientId, scope, token) };
    } catch (error) {
      if (error instanceof ApiError) return refuse("PERSISTENT_ERROR", "invalid_grant", error.message);
      return refuse("NO_NETWORK");
    }
  }
}

/** @param {Owner} owner @param {string} clientId @param {string} scope @param {string} token */
function granted({ address, name }, clientId, scope, token) {
  const localAccountId = `oid of ${address}`;
  const claims = { aud: clientId, tid: TENANT, oid: localAccountId, preferred_username: address, name };
  return {
    token: { access_token: token, expires_in: LIFE_S, id_token: unsigned(claims), scope, properties: null },
    account: { homeAccountId: `${localAccountId}.${TENANT}`, environment: ENVIRONMENT, tenantId: TENANT, username: address, localAccountId, name },
  };
}

/** An ID token for MSAL.js to read; it never leaves the pane, so nobody looks at its signature. @param {object} claims */
function unsigned(claims) {
  const part = (/** @type {object} */ value) =>
    btoa(String.fromCharCode(...new TextEncoder().encode(JSON.stringify(value)))).replace(/=+$/, "").replaceAll("+", "-").replaceAll("/", "_");
  return `${part({ alg: "none", typ: "JWT" })}.${part(claims)}.`;
}

/** @returns {Promise<boolean>} */
function agrees() {
  return new Promise((resolve) => {
    const prompt = el("dialog", { class: "prompt", onclose: () => { prompt.remove(); resolve(prompt.returnValue === "accept"); } },
      el("p", {}, "SAP Cloud for Customer wants to sign you in."),
      el("form", { method: "dialog", class: "buttons" },
        el("button", { value: "accept", class: "primary" }, "Accept"),
        el("button", { value: "cancel" }, "Cancel")));
    document.body.append(prompt);
    prompt.showModal();
  });
}
