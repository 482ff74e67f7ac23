// The page that asks for a token. Who follows a link from another site brings no cookie along, even
// if signed in; asked again from here, the agent knows the viewer, and the link works.

const answer = await fetch(location.href, { cache: "no-store" });
const next = new DOMParser().parseFromString(await answer.text(), "text/html");
if (answer.ok && next.body.dataset.page !== document.body.dataset.page) {
  location.replace(location.href);
}
