/**
 * One execution of the add-on's script, as on Apps Script: globals of its own, nothing left of the last one, calls that block.
 *
 * It is a classic worker, for the sources are classic scripts that share one global scope, and only in a worker may a call block.
 */

/** @typedef {import("./apps_script.js").HttpAnswer} HttpAnswer */
/** @typedef {import("./apps_script.js").HttpRequest} HttpRequest */

const scope = /** @type {any} */ (globalThis);

/** UrlFetchApp's way out, by Google's servers. @param {string} url @param {HttpRequest} request @returns {HttpAnswer} */
function exchange(url, request) {
  const call = new XMLHttpRequest();
  call.open("POST", "/addon/fetch", false);
  call.setRequestHeader("Content-Type", "application/json");
  call.send(JSON.stringify({ url, ...request }));
  const answer = JSON.parse(call.responseText);
  if (call.status !== 200) throw new Error(answer.error);
  if (!answer.status) throw new Error(`Address unavailable: ${url}`);
  return answer;
}

/** @param {{name: string, event: object, sources: string[], surroundings: object}} told @returns {Promise<object>} the answer as Card v1 JSON */
async function execute({ name, event, sources, surroundings }) {
  const { appsScript, answerOf } = await import("./apps_script.js");
  Object.assign(scope, appsScript(/** @type {any} */ ({ ...surroundings, exchange })));
  scope.importScripts(...sources);
  if (typeof scope[name] !== "function") throw new Error(`Script function not found: ${name}`);
  return answerOf(scope[name](event));
}

scope.onmessage = async (/** @type {MessageEvent} */ { data }) => {
  try {
    scope.postMessage({ answer: await execute(data) });
  } catch (error) {
    scope.postMessage({ failure: String(error) });
  }
};
