// The last parts as small pictures, with a filter.
import { $, make } from "./dom.js";
import { clock, even, word } from "./words.js";

const MOST = 100;
const GLYPHS = { normal: "●", anomalous: "▲", invalid: "■", failed: "✕" };
const FILTERS = {
  all: () => true,
  rejects: (part) => part.verdict === "anomalous",
  undecided: (part) => part.verdict === "anomalous" && !part.decision,
  goodParts: (part) => part.verdict === "normal",
  invalids: (part) => part.verdict === "invalid" || part.verdict === "failed",
};
const DECIDED = { acknowledged: "✓", good: "●", defect: "▲" };
let parts = []; // newest first
let further = []; // rejects further back, which somebody is asked to decide
let filter = "all";
let selected = null;
let pick = () => {};
let due = false;

export const onSelect = (take) => { pick = take; };
export const stripParts = () => known().filter(FILTERS[filter]);

function known() {
  const last = new Set(parts.map((part) => part.id));
  return [...parts, ...further.filter((part) => !last.has(part.id))];
}

export function setParts(found) {
  parts = found.slice(0, MOST);
  further = [];
  redraw();
}

// Rejects that nobody has decided, wherever they are: they stay until the parts are loaded anew.
export function showToDecide(found) {
  further = found;
  setFilter("undecided");
}

export function addPart(part) {
  if (parts.some((one) => one.id === part.id)) return;
  parts.unshift(part);
  parts.length = Math.min(parts.length, MOST);
  redraw();
}

export function setDecision(id, decision) {
  for (const part of [...parts, ...further]) if (part.id === id) part.decision = decision;
  redraw();
}

export function markSelected(id) {
  selected = id;
  for (const node of $("strip").querySelectorAll("button")) node.setAttribute("aria-pressed", String(Number(node.dataset.id) === selected));
}

const kept = new Map(); // nodes by id, so that pictures are not loaded again

function nodeOf(part) {
  const found = kept.get(part.id);
  const key = `${document.documentElement.lang} ${part.decision}`;
  if (found && found.dataset.key === key) return found;
  const picture = make("span", { class: "thumb" });
  if (part.pictures) picture.append(make("img", { src: `/v1/inspections/${part.id}/small.jpg`, alt: "", loading: "lazy", decoding: "async", fetchpriority: "low" }));
  picture.append(make("span", { class: "badge" }, make("span", { "aria-hidden": "true" }, GLYPHS[part.verdict]), ` ${word(part.verdict)}`));
  if (part.decision) picture.append(make("span", { class: "decided" }, `${DECIDED[part.decision]} ${word(`said_${part.decision}`)}`));
  const button = make("button", { type: "button", "data-id": part.id, class: part.verdict, title: part.name, "aria-pressed": String(part.id === selected) }, picture,
    make("span", { class: "caption" }, make("span", {}, clock(part.judged)), make("span", {}, even(part.score))));
  button.addEventListener("click", () => pick(part.id));
  const node = make("li", { "data-key": key }, button);
  kept.set(part.id, node);
  return node;
}

function render() {
  due = false;
  const shown = stripParts();
  const list = $("strip");
  const wanted = shown.map(nodeOf);
  const place = list.scrollTop;
  // Nodes that stay are not moved: the one that has the focus would lose it.
  const staying = new Set(wanted);
  for (const node of [...list.children]) if (!staying.has(node)) node.remove();
  wanted.forEach((node, index) => { if (list.children[index] !== node) list.insertBefore(node, list.children[index] || null); });
  list.scrollTop = place;
  $("strip-empty").hidden = shown.length > 0;
  const all = known();
  const ids = new Set(all.map((part) => part.id));
  for (const id of kept.keys()) if (!ids.has(id)) kept.delete(id);
  for (const button of $("filter").children) {
    const number = all.filter(FILTERS[button.dataset.filter]).length;
    button.lastElementChild.textContent = ` ${number}`;
  }
}

function redraw() {
  if (!due) requestAnimationFrame(render);
  due = true;
}

export function setFilter(name) {
  filter = name;
  for (const button of $("filter").children) button.setAttribute("aria-pressed", String(button.dataset.filter === filter));
  redraw();
}

export function nextFilter() {
  const names = Object.keys(FILTERS);
  setFilter(names[(names.indexOf(filter) + 1) % names.length]);
}

export function redrawStrip() {
  $("filter").replaceChildren(...Object.keys(FILTERS).map((name) => {
    const button = make("button", { type: "button", class: "button small", "data-filter": name, "aria-pressed": String(name === filter) }, word(name), make("span", {}, ""));
    button.addEventListener("click", () => setFilter(name));
    return button;
  }));
  redraw();
}
