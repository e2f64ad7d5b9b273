// Counts of the shift, the model with its promise, drift, and what the line does.
import { $, make, pairs } from "./dom.js";
import { clock, count, number, percent, word } from "./words.js";

const CONDITIONS = { running: "●", paused: "❚❚", "no source": "⚠", starting: "◌", ended: "■", stopped: "■" };
const KINDS = [["normal", "goodParts"], ["anomalous", "rejects"], ["invalid", "invalids"], ["failed", "errors"]];

let station = null;
let calibration = null;

export const lineShown = (origin) => station?.lines.find((line) => line.line === origin) || (station?.lines.length === 1 ? station.lines[0] : null);
export const mustChooseLine = (origin) => station?.lines.length > 1 && !lineShown(origin);
export const isPaused = (origin) => (origin ? lineShown(origin)?.condition === "paused" : station?.lines.length > 0 && station.lines.every((line) => line.condition === "paused"));

export function showStation(found, origin) {
  station = found;
  drawChips(origin);
  drawCounts();
  drawDrift(origin);
  drawLines(origin);
}

export function showOffline() {
  const text = word("offline");
  if ($("chips").textContent !== `⚠${text}`) $("chips").replaceChildren(chip("⚠", text, true));
}

function chip(glyph, text, warn) {
  return make("span", { class: warn ? "chip warn" : "chip" }, make("span", { "aria-hidden": "true", class: "glyph" }, glyph), text);
}

function drawChips(origin) {
  const lines = station.lines.filter((line) => !origin || line.line === origin);
  const chips = lines.flatMap((line) => {
    const name = station.lines.length > 1 ? `${line.line}: ` : "";
    const state = word(line.condition.replace(" ", ""));
    const found = [chip(CONDITIONS[line.condition] || "●", `${name}${state}${line.problem ? ` – ${line.problem}` : ""}`, line.condition === "no source" || line.condition === "paused")];
    if (line.dropped) found.push(chip("↓", `${name}${word("dropped", { n: count(line.dropped) })}`, false));
    if (line.drift && line.drift.drift !== "stable") found.push(chip("⚠", `${name}${driftWord(line.drift.drift)}`, true));
    return found;
  });
  if (!lines.length) chips.push(chip("●", word("noLine"), false));
  const text = chips.map((one) => one.textContent).join("|");
  if ($("chips").dataset.text !== text) { // a screen reader is told of changes alone
    $("chips").dataset.text = text;
    $("chips").replaceChildren(...chips);
  }
}

function drawCounts() {
  const { counts, since } = station.shift;
  $("counts").replaceChildren(...KINDS.map(([verdict, name]) =>
    make("div", { class: verdict }, make("dt", {}, word(name)), make("dd", {}, count(counts[verdict] || 0)))));
  const judged = counts.normal + counts.anomalous;
  $("shift-rate").textContent = judged ? word("rejectRate", { rate: percent(counts.anomalous / judged, 2) }) : "";
  $("shift-since").textContent = word("since", { time: clock(since).slice(0, 5) });
}

const driftWord = (drift) => word(drift === "stable" ? "driftStable" : drift === "scene changed" ? "driftScene" : "driftDefects");

function drawDrift(origin) {
  const watched = station.lines.filter((line) => line.drift && (!origin || line.line === origin));
  const worst = watched.find((line) => line.drift.drift !== "stable") || watched[0];
  const warn = Boolean(worst) && worst.drift.drift !== "stable";
  $("drift").classList.toggle("warn", warn);
  $("drift").textContent = worst ? `${warn ? "⚠" : "●"} ${driftWord(worst.drift.drift)}` : word("driftOff");
}

function drawLines(origin) {
  const names = station.lines.map((line) => line.line);
  $("origin-field").hidden = names.length < 2;
  choices($("origin"), [["", word("allLines")], ...names.map((name) => [name, name]), ["request", word("requests")]], origin || "");
  const line = lineShown(origin);
  $("pause").hidden = names.length === 0;
  const paused = isPaused(origin);
  $("pause").setAttribute("aria-pressed", String(paused));
  $("pause").classList.toggle("strong", !paused);
  $("pause").firstElementChild.textContent = paused ? "▶" : "❚❚";
  $("pause-word").textContent = word(paused ? "resume" : "pause");
  const all = station.products.map((one) => [`${one.product} ${one.version}`, station.products.filter((other) => other.product === one.product).length > 1 ? `${one.product} ${one.version}` : one.product]);
  $("product-field").hidden = all.length < 2 || !line;
  if (line) choices($("products"), all, `${line.product} ${line.version}`);
  $("product").textContent = line ? line.product : calibration?.product || "rstpm-edge";
}

function choices(select, wanted, value) {
  const text = JSON.stringify(wanted);
  if (select.dataset.text !== text) {
    select.dataset.text = text;
    select.replaceChildren(...wanted.map(([name, label]) => make("option", { value: name }, label)));
  }
  if (document.activeElement !== select) select.value = value;
}

export function showCalibration(found) {
  calibration = found;
  if (!found) return;
  const { alpha, rate_with_confidence: rate } = found;
  $("promise").textContent = alpha === null ? word("noPromise") : rate === null ? word("promiseDiffer", { alpha: percent(alpha) }) : word("promise", { alpha: percent(alpha), rate: percent(rate) });
  pairs($("model-facts"), [
    [word("threshold"), number(found.threshold)],
    [word("typical"), number(found.typical_score)],
    [word("heldOut"), word("photos", { n: count(found.images) })],
    [word("file"), `SHA-256 ${found.model_sha256.slice(0, 12)}…`],
  ]);
}

export function redrawPanels(origin) {
  $("chips").dataset.text = "";
  if (station) showStation(station, origin);
  showCalibration(calibration);
}
