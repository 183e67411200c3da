/** The entry: puts mail client, server and view together. */
import { Api } from "./api.js";
import { Host } from "./host.js";
import { NOTHING, Sidebar } from "./sidebar.js";
import { signInOf } from "./signin.js";
import { Text } from "./text.js";
import { View } from "./view.js";

const host = await Host.open();
const api = new Api(host ? signInOf(host, document.body.dataset) : async () => "");
api.warm(); // signing in goes on while words are loaded and the item is read
const view = new View(await Text.load(host?.language || navigator.language));
if (host) open(host);
else view.draw({ ...NOTHING, phase: "outside" });

/** @param {Host} host */
function open(host) {
  const sidebar = new Sidebar({ host, api, view, sleep: (s) => new Promise((resolve) => setTimeout(resolve, s * 1000)) });
  view.ui.actions = sidebar;
  view.setTheme(host.theme);
  host.onThemeChange(() => view.setTheme(host.theme));
  addEventListener("online", () => sidebar.connected(true));
  addEventListener("offline", () => sidebar.connected(false));
  for (const bug of ["error", "unhandledrejection"]) addEventListener(bug, () => sidebar.broke());
  sidebar.start();
}
