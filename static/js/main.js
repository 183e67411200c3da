/** The entry: puts mail client, server and view together. */
import { Api } from "./api.js";
import { Host } from "./host.js";
import { NOTHING, Sidebar } from "./sidebar.js";
import { Text } from "./text.js";
import { View } from "./view.js";

const host = await Host.open();
if (host) open(host);

/** @param {Host} host */
function open(host) {
  const sidebar = new Sidebar({
    host,
    api: new Api(() => host.token(false)),
    draw: (state) => view.draw(state),
    tell: (news) => view.tell(news),
    sleep: (s) => new Promise((resolve) => setTimeout(resolve, s * 1000)),
  });
  const view = new View(new Text(host.language), sidebar);
  view.setTheme(host.theme);
  host.onThemeChange(() => view.setTheme(host.theme));
  addEventListener("online", () => sidebar.connected(true));
  addEventListener("offline", () => sidebar.connected(false));
  addEventListener("unhandledrejection", () => sidebar.broke());
  addEventListener("error", () => sidebar.broke());
  sidebar.start();
}
