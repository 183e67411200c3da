/** The entry: puts mail client, server and view together. */
import { Api } from "./api.js";
import { Host } from "./host.js";
import { NOTHING, Sidebar } from "./sidebar.js";
import { Text } from "./text.js";
import { View } from "./view.js";

const host = await Host.open();
const api = new Api(async () => host?.token(false) ?? "");
if (host) api.warm(); // signing in, the words and the item are fetched side by side
const view = new View(await Text.load(host?.language ?? navigator.language));
if (host) open(host);
else view.draw({ ...NOTHING, phase: "outside" });

/** @param {Host} host */
function open(host) {
  const draw = view.draw.bind(view);
  const tell = view.tell.bind(view);
  const sidebar = new Sidebar({ host, api, draw, tell, sleep: (s) => new Promise((resolve) => setTimeout(resolve, s * 1000)) });
  view.actions = sidebar;
  view.setTheme(host.theme);
  host.onThemeChange(() => view.setTheme(host.theme));
  addEventListener("online", () => sidebar.connected(true));
  addEventListener("offline", () => sidebar.connected(false));
  addEventListener("unhandledrejection", () => sidebar.broke());
  addEventListener("error", () => sidebar.broke());
  sidebar.start();
}
