// What is shown already is made to say what is new, without what stands still being touched: whoever
// reads, marks text or is on a link by keyboard stays there.

// Make `old` say what `next` says.
export function renew(old, next) {
  if (old.nodeType !== next.nodeType || old.nodeName !== next.nodeName) {
    old.replaceWith(document.importNode(next, true));
    return;
  }
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== next.data) old.data = next.data;
    return;
  }
  for (const { name } of [...old.attributes]) {
    // Whether something is unfolded is the viewer's affair.
    if (!next.hasAttribute(name) && name !== "open") old.removeAttribute(name);
  }
  for (const { name, value } of next.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  renewInside(old, next);
}

// Rows that came or went leave the others what they were: the one that somebody is on goes on to be
// about the same thing.
function renewInside(old, next) {
  const wanted = new Set([...next.childNodes].map(keyOf));
  let here = old.firstChild;
  for (const node of next.childNodes) {
    while (here && !wanted.has(keyOf(here))) here = removed(here);
    if (here && keyOf(here) === keyOf(node)) {
      const after = here.nextSibling;
      renew(here, node);
      here = after;
    } else {
      old.insertBefore(document.importNode(node, true), here);
    }
  }
  while (here) here = removed(here);
}

function removed(node) {
  const after = node.nextSibling;
  node.remove();
  return after;
}

// What a row, or a group of them, is about; all else is known by its place.
function keyOf(node) {
  if (node.nodeName === "TR") return node.querySelector("a")?.href ?? node.cells[0]?.textContent;
  if (node.nodeName === "TBODY") return node.querySelector("th[scope=rowgroup]")?.textContent;
  return undefined;
}
