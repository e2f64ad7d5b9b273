// The image of a part, with its heat map and regions.
import { $, make } from "./dom.js";
import { clock, count, even, number, word } from "./words.js";
import { recall, remember } from "./prefs.js";

let current = null; // the part that is shown, with its fields
let region = null;
let asked = 0;
let heatOn = true;

export const shownPart = () => current;

export function showPart(part, { isLive }) {
  current = part;
  region = null;
  describe(isLive);
  drawRegions();
  drawWhy();
  if (!part.pictures) {
    asked += 1;
    $("frame").hidden = true;
    $("no-image").hidden = false;
    return;
  }
  const turn = ++asked;
  const next = new Image();
  next.fetchPriority = "high"; // before a hundred small ones
  next.onload = () => {
    if (turn !== asked) return;
    $("photo").src = next.src;
    $("photo").alt = word("imageOf", { name: part.name });
    $("photo").dataset.width = next.naturalWidth;
    $("photo").dataset.height = next.naturalHeight;
    $("frame").hidden = false;
    $("no-image").hidden = true;
    fit();
    const heat = $("heat");
    if (part.score === null || part.score === undefined) heat.hidden = true;
    else {
      heat.onload = () => { if (turn === asked) heat.hidden = false; };
      heat.onerror = () => { heat.hidden = true; };
      heat.hidden = true;
      heat.src = `/v1/inspections/${part.id}/heat.png`;
    }
    drawRegions();
    document.dispatchEvent(new CustomEvent("part-shown", { detail: part.id }));
  };
  next.onerror = () => {
    if (turn !== asked) return;
    $("frame").hidden = true;
    $("no-image").hidden = false;
  };
  next.src = `/v1/inspections/${part.id}/photo.jpg`;
}

export function describe(isLive) {
  $("live").hidden = isLive;
  $("stage-part").textContent = current ? `${clock(current.judged)} · ${current.name} · ${word(current.verdict)}` : "";
}

function fit() {
  const photo = $("photo"), stage = $("stage");
  const width = Number(photo.dataset.width), height = Number(photo.dataset.height);
  if (!width) return;
  const style = getComputedStyle(stage);
  const room = [stage.clientWidth, style.height === "auto" || innerWidth <= 820 ? innerHeight * 0.7 : stage.clientHeight];
  const scale = Math.min(room[0] / width, room[1] / height, 4);
  photo.style.width = `${Math.max(Math.floor(width * scale), 1)}px`;
  photo.style.height = `${Math.max(Math.floor(height * scale), 1)}px`;
}

function drawRegions() {
  const box = $("regions");
  const found = current?.verdict === "anomalous" ? current.fields?.regions || [] : [];
  const size = current?.size;
  if (!size || !found.length) {
    box.replaceChildren();
    return;
  }
  box.replaceChildren(...found.slice(0, 20).map((one, index) => {
    const [x, y, width, height] = one.box;
    const button = make("button", { type: "button", class: y / size[1] < 0.08 ? "region low" : "region", "aria-pressed": index === region ? "true" : "false",
      "aria-label": word("region", { n: index + 1 }) }, make("span", { "aria-hidden": "true" }, String(index + 1)));
    button.style.left = `${100 * x / size[0]}%`;
    button.style.top = `${100 * y / size[1]}%`;
    button.style.width = `${100 * width / size[0]}%`;
    button.style.height = `${100 * height / size[1]}%`;
    button.addEventListener("click", () => choose(index));
    return button;
  }));
}

export function choose(index) {
  const found = current?.verdict === "anomalous" ? current.fields?.regions || [] : [];
  region = found.length && index !== null ? index % found.length : null;
  $("regions").querySelectorAll(".region").forEach((node, place) => node.setAttribute("aria-pressed", String(place === region)));
  drawWhy();
}

export const nextRegion = () => choose(region === null ? 0 : region + 1);

function drawWhy() {
  const one = region === null ? null : current?.fields?.regions?.[region];
  $("why").hidden = !one;
  if (!one) return;
  $("why-title").textContent = word("region", { n: region + 1 });
  const [x, y] = one.position;
  const where = word("regionAt", { peak: number(one.peak), threshold: number(current.threshold), area: count(one.area), x, y });
  const explanation = one.explanation;
  const names = (explanation?.rejecting_alone || []).map((name) => word(name)).join(", ");
  const alone = explanation ? (names ? word("alone", { pairs: names }) : word("aloneNone")) : word("noWhy");
  $("why-text").textContent = `${where}. ${alone}`;
  const shares = Object.entries(explanation?.anomaly || {}).sort((a, b) => b[1] - a[1]);
  const most = Math.max(...shares.map(([, share]) => Math.abs(share)), 1e-9);
  $("why-shares").replaceChildren(...shares.map(([name, share]) => {
    const [what, stride] = name.split("_");
    const bar = make("i");
    bar.style.width = `${Math.max(0, 100 * share / most)}%`;
    return make("li", {}, make("span", {}, word("scale", { what: word(what), stride })), make("span", { class: "bar-of" }, bar),
      make("span", { class: "number" }, even(share)));
  }));
}

export function setOpacity(value) {
  $("opacity").value = value;
  $("opacity-value").textContent = `${value} %`;
  $("heat").style.opacity = heatOn ? value / 100 : 0;
  remember("opacity", Number(value));
}

export function toggleHeat() {
  heatOn = !heatOn;
  setOpacity($("opacity").value);
}

export function startStage() {
  setOpacity(recall("opacity", 60));
  $("opacity").addEventListener("input", (event) => { heatOn = true; setOpacity(event.target.value); });
  new ResizeObserver(fit).observe($("stage"));
}

export function redrawStage(isLive) {
  if (!current) return;
  describe(isLive);
  drawRegions();
  drawWhy();
}
