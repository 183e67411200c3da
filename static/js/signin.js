/** Who the person is, by the first way that works here. Only a token for our server leaves the pane. */
import { ApiError } from "./api.js";

const SILENT_MS = 5_000; // some hosts' bridges never answer
const MSAL = "../vendor/msal-browser.min.js";

/** @type {SignInOf} */
export function signInOf(host, { clientId = "", authority }) {
  /** @type {NestedApp} */ let app;
  /** @type {Way | undefined} */ let worked;

  /** @type {Way} */
  const nested = async (ask) => {
    if (!clientId || !host.nestsApps) return "";
    const request = { scopes: [`api://${location.host}/${clientId}/access_as_user`], forceRefresh: worked === nested };
    const silent = async () => {
      if (!("msal" in globalThis)) await import(MSAL);
      app ??= await msal.createNestablePublicClientApplication({ auth: { clientId, authority }, cache: { cacheLocation: "memoryStorage" } });
      return app.acquireTokenSilent(request);
    };
    const late = new Promise((_, reject) => setTimeout(reject, SILENT_MS, {}));
    try {
      const found = Promise.race([silent(), late]).catch(({ name }) => {
        if (name !== "InteractionRequiredAuthError") return { accessToken: "" };
        if (!ask) throw { errorCode: "user_canceled" };
        return app.acquireTokenPopup(request);
      });
      return (await found).accessToken;
    } catch (error) {
      if (/** @type {any} */ (error).errorCode !== "user_canceled") return "";
      throw new ApiError("sign_in_needed");
    }
  };

  const ways = [nested, host.officeToken, host.exchangeToken, host.dialogToken];
  return async (ask) => {
    for (const way of ways.slice(worked && ways.indexOf(worked))) {
      const token = await way(ask);
      if (token) worked = way;
      if (token) return token;
    }
    throw new ApiError("no_sso");
  };
}
