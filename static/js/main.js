/** The entry: puts mail client, server and view together. */
import { Api } from "./api.js";
import { Host } from "./host.js";
import { NOTHING, Sidebar } from "./sidebar.js";
import { signInOf } from "./signin.js";
import { Text } from "./text.js";
import { View } from "./view.js";

const host = await Host.open();
const signIn = host && signInOf(host, document.body.dataset);
const api = new Api(async () => signIn?.(false) ?? "");
api.warm(); // signing in goes on while words are loaded and the item is read
const view = new View(await Text.load(host?.language || navigator.language));
if (host && signIn) open(host, signIn);
else view.draw({ ...NOTHING, phase: "outside" });

/** @param {Host} host @param {Way} signIn */
function open(host, signIn) {
  const sidebar = new Sidebar({ host, api, signIn, view, sleep: (s) => new Promise((resolve) => setTimeout(resolve, s * 1000)) });
  view.ui.actions = sidebar;
  view.setTheme(host.theme);
  host.onThemeChange(() => view.setTheme(host.theme));
  addEventListener("online", () => sidebar.connected(true));
  addEventListener("offline", () => sidebar.connected(false));
  for (const bug of ["error", "unhandledrejection"]) addEventListener(bug, () => sidebar.broke());
  sidebar.start();
}
