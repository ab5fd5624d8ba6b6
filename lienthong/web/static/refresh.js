// Replaces the content every five seconds. Without it the pages say the same; they are then as old as they say.
"use strict";
const SECONDS = 5;

// What is wrong, as one line: read out only when it has changed.
const worst = () => [...document.querySelectorAll(".alarm h2, .alarm summary > span, p.alarm b")].map((each) => each.textContent).join("; ");

async function refresh() {
  if (document.hidden || document.activeElement?.closest("form")) return;
  const answer = await fetch(location.href, { headers: { Accept: "text/html" }, redirect: "error" });
  if (!answer.ok) return;
  const next = new DOMParser().parseFromString(await answer.text(), "text/html");
  const before = worst();
  for (const place of ["main", "footer"]) {
    const here = document.querySelector(place), there = next.querySelector(place);
    if (!here || !there) continue;
    const open = new Set([...here.querySelectorAll("details")].map((each, n) => (each.open ? n : -1)));
    const at = document.activeElement && here.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    const wide = [...here.querySelectorAll(".wide")].map((each) => each.scrollLeft);
    here.replaceChildren(...there.childNodes);
    here.querySelectorAll("details").forEach((each, n) => { each.open = open.has(n); });
    here.querySelectorAll(".wide").forEach((each, n) => { each.scrollLeft = wide[n] || 0; });
    if (at) here.querySelector(`a[href="${CSS.escape(at)}"]`)?.focus({ preventScroll: true });
  }
  document.body.classList.remove("cut-off");
  if (worst() !== before) document.getElementById("said").textContent = worst();
}

setInterval(() => refresh().catch(() => document.body.classList.add("cut-off")), SECONDS * 1000);
