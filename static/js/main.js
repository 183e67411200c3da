/** Puts mail client, server and view together. */
import { Api } from "./api.js";
import { Host } from "./host.js";
import { NOTHING, Sidebar } from "./sidebar.js";
import { signInOf } from "./signin.js";
import { Text } from "./text.js";
import { View } from "./view.js";

const host = await Host.open();
const api = new Api(host ? signInOf(host, document.body.dataset) : async () => "");
api.warm(); // while words and item are read
const view = new View(await Text.load(host?.language || navigator.language));
if (host) open(host);
else view.draw({ ...NOTHING, phase: "outside" });

/** @param {Host} host */
function open(host) {
  const sidebar = new Sidebar({ host, api, view, sleep: (s) => new Promise((resolve) => setTimeout(resolve, s * 1000)) });
  view.ui.actions = sidebar;
  const paint = () => view.setTheme(host.theme);
  paint();
  host.onThemeChange(paint);
  for (const turn of ["online", "offline"]) addEventListener(turn, () => sidebar.connected(navigator.onLine));
  for (const bug of ["error", "unhandledrejection"]) addEventListener(bug, () => sidebar.broke());
  sidebar.start();
}
