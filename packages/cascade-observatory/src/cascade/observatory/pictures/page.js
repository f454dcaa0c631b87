"use strict";
// Choosing a node: what it links to and what links to it stand out, in the picture and in words.
const links = JSON.parse(document.getElementById("links").textContent);
const linkedFrom = {};
for (const [key, targets] of Object.entries(links)) {
  for (const target of targets) (linkedFrom[target] ??= []).push(key);
}
const graph = document.querySelector(".graph");
const caption = document.getElementById("chosen");
const rows = [...document.querySelectorAll("tbody tr")];
const { hint, to: toWords, from: fromWords } = caption.dataset;
let kept = null;

function listed(keys, kind, what) {
  const span = document.createElement("span");
  span.className = kind;
  const shown = keys.slice(0, 24).join(", ");
  const more = keys.length > 24 ? ` and ${keys.length - 24} more` : "";
  span.textContent = ` ${what} ${keys.length}${keys.length ? ": " : ""}${shown}${more}.`;
  return span;
}

function show(key) {
  graph.classList.toggle("choosing", key !== null);
  const to = new Set(key === null ? [] : links[key]);
  const from = new Set(key === null ? [] : linkedFrom[key]);
  for (const dot of graph.querySelectorAll(".dot")) {
    dot.classList.toggle("chosen", dot.dataset.key === key);
    dot.classList.toggle("near", to.has(dot.dataset.key) || from.has(dot.dataset.key));
  }
  for (const edge of graph.querySelectorAll(".edge")) {
    edge.classList.toggle("to", edge.dataset.a === key);
    edge.classList.toggle("from", edge.dataset.b === key);
  }
  for (const row of rows) row.classList.toggle("chosen", row.dataset.key === key);
  if (key === null) { caption.textContent = hint; return; }
  const name = document.createElement("b");
  name.textContent = key;
  caption.replaceChildren(name, listed([...to], "to", toWords),
    listed([...from], "from", fromWords));
}

function keep(key) { kept = key === kept ? null : key; show(kept); }

graph.addEventListener("pointerover", (event) => {
  const dot = event.target.closest(".dot");
  show(dot ? dot.dataset.key : kept);
});
graph.addEventListener("pointerleave", () => show(kept));
graph.addEventListener("click", (event) => {
  const dot = event.target.closest(".dot");
  keep(dot ? dot.dataset.key : kept);
});
graph.addEventListener("keydown", (event) => {
  const dot = event.target.closest(".dot");
  if (dot && event.key === "Enter") keep(dot.dataset.key);
});
for (const row of rows) {
  row.addEventListener("click", () => {
    keep(row.dataset.key);
    if (kept !== null) graph.scrollIntoView({ behavior: "smooth", block: "nearest" });
  });
}
document.getElementById("search").addEventListener("input", (event) => {
  const wanted = event.target.value.trim().toLowerCase();
  for (const row of rows) row.hidden = !row.dataset.key.toLowerCase().includes(wanted);
});
show(null);
