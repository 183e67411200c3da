/**
 * What of the pane lies on something else: pairs of texts and controls, as far as they are visible. Run in the pane's page.
 * Toasts and the foot of the sheet may lie on what can be scrolled away, never on what can be done.
 */
/* global document, getComputedStyle, innerHeight, innerWidth, Node */
() => {
  const sheet = document.getElementById("sheet");
  const regions = sheet.hidden ? [document.body] : [sheet, document.getElementById("toasts")];
  const boxes = [];

  const add = (element, rect, what) => {
    const box = { element, what, left: rect.left, top: rect.top, right: rect.right, bottom: rect.bottom };
    clip(box, { left: 0, top: 0, right: innerWidth, bottom: innerHeight });
    for (let outer = element; outer !== document.body; outer = outer.parentElement) {
      if (getComputedStyle(outer).overflowX !== "visible") clip(box, outer.getBoundingClientRect());
    }
    if (box.right - box.left > 1 && box.bottom - box.top > 1) boxes.push(box);
  };

  const clip = (box, edge) => {
    box.left = Math.max(box.left, edge.left);
    box.top = Math.max(box.top, edge.top);
    box.right = Math.min(box.right, edge.right);
    box.bottom = Math.min(box.bottom, edge.bottom);
  };

  const covers = (one, other) => {
    const lies = one.element.closest("#toasts, #sheet > footer");
    return lies && !lies.contains(other.element) && other.element.closest("main, #sheet > fieldset, #sheet > label");
  };

  const overlap = (a, b) => {
    if (a.element.contains(b.element) || b.element.contains(a.element) || covers(a, b) || covers(b, a)) return false;
    const width = Math.min(a.right, b.right) - Math.max(a.left, b.left);
    const height = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
    return width > 1.5 && height > 2.5; // the boxes of two lines of text may touch
  };

  for (const element of regions.flatMap((region) => [...region.querySelectorAll("*")])) {
    if (!element.checkVisibility({ visibilityProperty: true }) || element.closest("#said")) continue;
    if (element.matches("input, .icon, .avatar, .button, .toast")) add(element, element.getBoundingClientRect(), element.outerHTML.slice(0, 60));
    for (const text of element.childNodes) {
      if (text.nodeType !== Node.TEXT_NODE || !text.data.trim()) continue;
      const range = document.createRange();
      range.selectNodeContents(text);
      for (const rect of range.getClientRects()) add(element, rect, text.data);
    }
  }
  return boxes.flatMap((a, at) => boxes.slice(at + 1).filter((b) => overlap(a, b)).map((b) => `${a.what} | ${b.what}`));
}
