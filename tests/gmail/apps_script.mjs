/**
 * Call functions of the shim as Google would; tell what they return and what they ask of the network.
 *
 * Each line of standard input is an order: {"folder", "call", "event", "around": {"identityToken", "messages",
 * "urlFetchWhitelist"}, "server", "dropsAfterMs", "dropped"}. Calls go to `server` instead of the origin in their address; time stands still,
 * but for calls that are dropped. The line that answers it is {"answer", "calls": [{"url", "method", "headers", "body"}]}.
 */

import { createInterface } from "node:readline";
import { MessageChannel, Worker, receiveMessageOnPort } from "node:worker_threads";

import gas from "gas-local";

import { answerOf, appsScript } from "../../simulator/inbox/static/addon/apps_script.js";

// UrlFetchApp blocks, Node does not: requests are another thread's, and this one sleeps until they are answered.
const FETCHING = `
  const { workerData: { port, signal } } = require("node:worker_threads");
  port.on("message", ({ url, request }) => {
    fetch(url, { ...request, redirect: "manual" })
      .then(async (answer) => ({ status: answer.status, headers: Object.fromEntries(answer.headers), text: await answer.text() }))
      .catch((error) => ({ error: String(error) }))
      .then((answer) => { port.postMessage(answer); Atomics.store(signal, 0, 1); Atomics.notify(signal, 0); });
  });
`;
const { port1: here, port2: there } = new MessageChannel();
const signal = new Int32Array(new SharedArrayBuffer(4));
new Worker(FETCHING, { eval: true, workerData: { port: there, signal }, transferList: [there] }).unref();

function fetched(url, request) {
  Atomics.store(signal, 0, 0);
  here.postMessage({ url, request });
  if (Atomics.wait(signal, 0, 0, 20_000) === "timed-out") throw new Error("the test's server did not answer");
  return receiveMessageOnPort(here).message;
}

function carriedOut({ folder, call, event, around, server, dropsAfterMs, dropped }) {
  const calls = [];
  let now = 0;
  const exchange = (url, request) => {
    calls.push({ url, ...request });
    const { error, ...answer } = fetched(server + new URL(url).pathname, request);
    if (!error) return answer;
    now += dropsAfterMs;
    throw new Error(`${dropped}: ${url}`);
  };
  const shim = gas.require(folder, { ...appsScript({ ...around, exchange }), Date: { now: () => now } });
  return { answer: answerOf(shim[call](event)), calls };
}

for await (const line of createInterface({ input: process.stdin })) console.log(JSON.stringify(carriedOut(JSON.parse(line))));
process.exit();
