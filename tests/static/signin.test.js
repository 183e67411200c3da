/** By which way a pane signs in; mail client and MSAL.js do what the test says. */
import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";

import { ApiError } from "../../static/js/api.js";
import { signInOf } from "../../static/js/signin.js";

const SETTINGS = { clientId: "client", authority: "https://login.example/common" };
const missing = async () => "";
let asked, host;
/** A way that has a token, and notes that it was asked. */
const way = (name) => async (ask) => {
  asked.push(ask ? `${name}, after a click` : name);
  return `${name} token`;
};
const named = (name, more) => Object.assign(new Error(name), { name, ...more });

/** MSAL.js that answers with these, in this order. */
function msal(...outcomes) {
  const answer = (method) => async (request) => {
    asked.push([method, request]);
    const outcome = outcomes.shift();
    if (outcome instanceof Error) throw outcome;
    return { accessToken: outcome, idToken: "never sent" };
  };
  const app = { acquireTokenSilent: answer("silent"), acquireTokenPopup: answer("popup") };
  globalThis.msal = { createNestablePublicClientApplication: async (config) => asked.push(config) && app };
}

beforeEach(() => {
  asked = [];
  host = { nestsApps: false, officeToken: missing, exchangeToken: missing, dialogToken: missing };
  globalThis.location = { host: "sidebar.example.com" };
  delete globalThis.msal;
  mock.timers.enable({ apis: ["setTimeout"] });
});
afterEach(() => mock.timers.reset());

test("the first way that is there is taken, and again for the next token", async () => {
  host = { ...host, exchangeToken: way("exchange"), dialogToken: way("dialog") };
  const signIn = signInOf(host, SETTINGS);
  assert.equal(await signIn(false), "exchange token");
  host.officeToken = way("office");
  assert.equal(await signIn(false), "exchange token");
  assert.deepEqual(asked, ["exchange", "exchange"]);
});

test("a way that stops working gives way to the next", async () => {
  let works = true;
  host = { ...host, officeToken: async () => (works ? "office token" : ""), dialogToken: way("dialog") };
  const signIn = signInOf(host, SETTINGS);
  assert.equal(await signIn(false), "office token");
  works = false;
  assert.equal(await signIn(true), "dialog token");
  works = true;
  assert.equal(await signIn(true), "dialog token");
  assert.deepEqual(asked, ["dialog, after a click", "dialog, after a click"]);
});

test("a way that needs the person ends the search until they click", async () => {
  host = { ...host, dialogToken: way("dialog"), officeToken: async (ask) => (ask ? "office token" : Promise.reject(new ApiError("sign_in_needed"))) };
  const signIn = signInOf(host, SETTINGS);
  await assert.rejects(signIn(false), { code: "sign_in_needed" });
  assert.equal(await signIn(true), "office token");
  assert.deepEqual(asked, []);
});

test("a client without any way says so", async () => {
  await assert.rejects(signInOf(host, SETTINGS)(true), { code: "no_sso" });
});

test("nested app authentication asks for our own scope, keeps nothing, and gives the access token", async () => {
  host.nestsApps = true;
  msal("access token", "renewed token");
  const signIn = signInOf(host, SETTINGS);
  assert.equal(await signIn(false), "access token");
  assert.equal(await signIn(false), "renewed token");
  const scopes = ["api://sidebar.example.com/client/access_as_user"];
  assert.deepEqual(asked, [
    { auth: SETTINGS, cache: { cacheLocation: "memoryStorage" } },
    ["silent", { scopes, forceRefresh: false }],
    ["silent", { scopes, forceRefresh: true }],
  ]);
});

test("nested app authentication opens a window only after a click, and leaves it at that when it is closed", async () => {
  host = { ...host, nestsApps: true, officeToken: way("office") };
  const needed = named("InteractionRequiredAuthError");
  msal(needed, needed, named("ClientAuthError", { errorCode: "user_canceled" }), needed, "access token");
  const signIn = signInOf(host, SETTINGS);
  await assert.rejects(signIn(false), { code: "sign_in_needed" });
  await assert.rejects(signIn(true), { code: "sign_in_needed" });
  assert.equal(await signIn(true), "access token");
  assert.deepEqual(asked.slice(1).map(([method]) => method), ["silent", "silent", "popup", "silent", "popup"]);
});

for (const [how, outcomes] of Object.entries({
  "has no account": [named("BrowserAuthError", { errorCode: "no_account_error" })],
  "has no network": [named("ClientAuthError", { errorCode: "no_network_connectivity" })],
  "breaks after the click": [named("InteractionRequiredAuthError"), named("ServerError", { errorCode: "invalid_grant" })],
})) {
  test(`nested app authentication that ${how} gives way to the next`, async () => {
    host = { ...host, nestsApps: true, officeToken: way("office") };
    msal(...outcomes);
    assert.equal(await signInOf(host, SETTINGS)(true), "office token");
  });
}

test("nested app authentication whose bridge never answers gives way after five seconds", async () => {
  host = { ...host, nestsApps: true, officeToken: way("office") };
  msal();
  globalThis.msal.createNestablePublicClientApplication = () => new Promise(() => undefined);
  const found = signInOf(host, SETTINGS)(false);
  mock.timers.tick(5_000);
  assert.equal(await found, "office token");
});

test("an installation without an application at Entra does not load MSAL.js", async () => {
  host = { ...host, nestsApps: true, officeToken: way("office") };
  assert.equal(await signInOf(host, { clientId: "" })(false), "office token");
});
