// The page of a station: it starts here.
import { $, make, toast } from "./dom.js";
import { get, logIn, onLogin, post } from "./api.js";
import { firstLanguage, setLanguage, word } from "./words.js";
import { recall, remember } from "./prefs.js";
import { redrawVerdict, showVerdict } from "./verdict.js";
import { nextRegion, redrawStage, setOpacity, showPart, shownPart, startStage, toggleHeat } from "./stage.js";
import { addPoint, onPick, restyleChart, setCalibration, setPoints, startChart } from "./chart.js";
import { addPart, markSelected, nextFilter, onSelect, redrawStrip, setDecision, setParts, stripParts } from "./strip.js";
import { isPaused, lineShown, mustChooseLine, redrawPanels, showCalibration, showOffline, showStation } from "./panels.js";
import { drawDecision, press, startDecisions } from "./decisions.js";
import { startRecalibrate } from "./recalibrate.js";

const STATE_EACH = 2000; // ms between two looks at the station
const MOST = 300; // parts that the page knows: the chart shows as many
const SHOW_EACH = 150; // ms between two live images: a faster line shows the newest of them

let origin = null; // the line that is shown; null for all
let selected = null; // the part that is looked at; null for the live one
let recent = []; // the last parts, newest first
let newest = null;
let lastShown = 0;
let waiting = 0;
let judgedBy = null; // SHA-256 of the model that the calibration is of

// ----- what comes

function partOf(document) {
  const { path, frame } = document;
  return {
    id: document.id, judged: document.judged, origin: document.origin, product: document.product, version: document.version,
    name: frame === undefined ? path : `${path} #${frame}`, verdict: document.verdict, score: document.score ?? null, p_value: document.p_value ?? null,
    threshold: document.threshold ?? null, pictures: document.verdict !== "failed", decision: null, notes: [], fields: document,
    reason: document.invalid_reason || document.error || null,
  };
}

function take(part) {
  if (origin && part.origin !== origin) return;
  if (recent.some((one) => one.id === part.id)) return; // the list of parts was quicker than the event
  recent = [part, ...recent].slice(0, MOST);
  newest = part;
  showVerdict(part);
  addPoint(part);
  addPart(part);
  if (selected === null) showLive();
  if (part.fields.model_sha256 && part.fields.model_sha256 !== judgedBy) loadCalibration();
}

function showLive() {
  const rest = SHOW_EACH - (performance.now() - lastShown);
  if (rest > 0) {
    if (!waiting) waiting = setTimeout(() => { waiting = 0; if (selected === null) showLive(); }, rest);
    return;
  }
  lastShown = performance.now();
  if (!newest) return;
  showPart(newest, { isLive: true });
  drawDecision();
  if (newest.verdict === "anomalous" && newest.fields && !newest.size) complete(newest);
}

// Boxes of regions are in the photo's pixels, of which the page has a smaller copy: the station says how large it was.
async function complete(part) {
  try {
    const found = await get(`/v1/inspections/${part.id}`);
    const { fields } = found;
    Object.assign(part, { fields, size: found.image_size, notes: found.notes, decision: found.decision, reason: fields.invalid_reason || fields.error || null });
    if (newest === part) redrawVerdict();
    if (shownPart() === part) {
      redrawStage(selected === null);
      drawDecision();
    }
  } catch { /* it is not kept any more */ }
}

async function select(id) {
  if (id === null) {
    selected = null;
    markSelected(null);
    showLive();
    return;
  }
  selected = id;
  markSelected(id);
  try {
    const found = await get(`/v1/inspections/${id}`);
    if (selected !== id) return;
    found.reason = found.fields.invalid_reason || found.fields.error || null;
    found.size = found.image_size;
    showPart(found, { isLive: false });
    drawDecision();
  } catch (error) {
    toast(error.message);
  }
}

function step(by) {
  const parts = stripParts();
  const at = parts.findIndex((part) => part.id === (selected ?? newest?.id));
  const next = parts[Math.min(Math.max(at + by, 0), parts.length - 1)];
  if (next) select(next.id);
}

// ----- the station

// Parts that come while the answer is on its way are put to those that it has.
async function loadParts() {
  const of = origin;
  const { inspections } = await get(`/v1/inspections?most=${MOST}${origin ? `&origin=${encodeURIComponent(origin)}` : ""}`);
  if (of !== origin) return; // another line was chosen meanwhile
  const known = new Map(recent.map((part) => [part.id, part]));
  for (const part of inspections) {
    const same = known.get(part.id);
    if (same) same.decision = part.decision ?? same.decision;
    else known.set(part.id, part);
  }
  recent = [...known.values()].sort((a, b) => b.id - a.id).slice(0, MOST);
  setParts(recent);
  setPoints([...recent].reverse());
  const part = recent[0] ?? null;
  if (part && part === newest) return; // it came meanwhile, and is shown
  newest = part;
  showVerdict(part);
  if (!part) return;
  if (selected === null) showLive();
  if (!part.fields) await complete(part);
}

const tryParts = () => loadParts().catch((error) => toast(error.message));

async function loadCalibration() {
  const line = lineShown(origin) || (newest && lineShown(newest.origin));
  const which = line ? `?line=${encodeURIComponent(line.line)}&product=${encodeURIComponent(line.product)}&version=${encodeURIComponent(line.version)}` : newest ? `?product=${encodeURIComponent(newest.product)}&version=${encodeURIComponent(newest.version)}` : "";
  try {
    const found = await get(`/v1/calibration${which}`);
    judgedBy = found.model_sha256;
    showCalibration(found);
    setCalibration(found);
  } catch { /* several products and no line: the first part says which */ }
}

async function loadStation() {
  try {
    showStation(await get("/v1/station"), origin);
  } catch {
    showOffline();
  }
}

let events = null;
let again = 0;

function listen(broken = false) {
  events = new EventSource("/v1/events");
  events.addEventListener("verdict", (event) => take(partOf(JSON.parse(event.data))));
  events.addEventListener("dropped", tryParts); // this page was too slow for some
  events.addEventListener("open", () => {
    if (broken) {
      broken = false;
      recent = []; // a station that was started anew may not know them
      loadStation();
    }
    tryParts(); // those of before: only from now on does each verdict come by itself
  });
  events.addEventListener("error", () => {
    broken = true;
    showOffline();
    if (events?.readyState === EventSource.CLOSED) again = setTimeout(() => listen(true), 2000); // refused, not cut off: it does not try again
  });
}

// A browser has six connections to a station, for all of its tabs, and keeps pages that one has left. Those that nobody
// sees give theirs back; their title must not tell an old verdict.
function attend() {
  leave();
  if (document.visibilityState === "visible") listen(true);
  else document.title = "rstpm-edge";
}

function leave() {
  clearTimeout(again);
  events?.close();
  events = null;
}

// ----- what people do

async function togglePause() {
  try {
    const what = isPaused(origin) ? "resume" : "pause";
    const names = origin ? [origin] : [...$("origin").options].map((one) => one.value).filter((name) => name && name !== "request");
    for (const name of names) await post(`/v1/station/${what}?line=${encodeURIComponent(name)}`);
    await loadStation();
  } catch (error) {
    toast(error.message);
  }
}

async function newShift() {
  try {
    await post("/v1/station/shift");
    toast(word("newShiftDone"));
    await loadStation();
  } catch (error) {
    toast(error.message);
  }
}

async function chooseProduct(value) {
  const [product, version] = value.split(" ");
  const line = lineShown(origin);
  try {
    await post(`/v1/station/product?line=${encodeURIComponent(line.line)}`, { product, version });
    await loadStation();
    await loadCalibration();
  } catch (error) {
    toast(error.message);
  }
}

function setTheme(dark) {
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  $("theme").setAttribute("aria-pressed", String(dark));
  restyleChart();
}

function chooseTheme() {
  const dark = document.documentElement.dataset.theme !== "dark";
  remember("dark", dark);
  setTheme(dark);
}

function chooseLanguage(name) {
  setLanguage(name);
  $("language").value = document.documentElement.lang;
  redrawVerdict();
  redrawStage(selected === null);
  redrawStrip();
  redrawPanels(origin);
  drawDecision();
  restyleChart();
  drawKeys();
}

const KEYS = [
  ["p", "k_pause", () => $("pause").hidden || togglePause()],
  ["a", "k_acknowledge", () => press("acknowledge")],
  ["g", "k_good", () => press("was-good")],
  ["d", "k_defect", () => press("missed")],
  ["ArrowLeft", "k_newer", () => step(-1)],
  ["ArrowRight", "k_older", () => step(1)],
  ["l", "k_live", () => select(null)],
  ["h", "k_heat", toggleHeat],
  ["-", "k_less", () => setOpacity(Math.max(Number($("opacity").value) - 10, 0))],
  ["+", "k_more", () => setOpacity(Math.min(Number($("opacity").value) + 10, 100))],
  ["r", "k_region", nextRegion],
  ["f", "k_filter", nextFilter],
  ["m", "k_dark", chooseTheme],
  ["?", "k_help", () => $("help-dialog").showModal()],
];
const NAMES = { ArrowLeft: "←", ArrowRight: "→" };

function drawKeys() {
  $("keys").replaceChildren(...KEYS.map(([key, name]) => make("div", {}, make("dt", {}, word(name)), make("dd", {}, make("kbd", {}, NAMES[key] || key.toUpperCase())))));
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || !recall("keys", true) || document.querySelector("dialog[open]")) return;
  // No dialog is open. A field of one may yet have the focus, which browsers move only when they draw their next frame.
  if (/^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName) && !event.target.closest("dialog")) return;
  const found = KEYS.find(([key]) => key === event.key || key === event.key.toLowerCase());
  if (!found) return;
  event.preventDefault();
  found[2]();
}

let loggingIn = null;
function askForToken() {
  loggingIn ??= new Promise((resolve) => {
    const dialog = $("login-dialog");
    const open = () => { dialog.returnValue = ""; $("token").value = ""; if (!dialog.open) dialog.showModal(); };
    const closed = async () => {
      if (dialog.returnValue === "login" && await logIn($("token").value)) {
        dialog.removeEventListener("close", closed);
        loggingIn = null;
        $("login-problem").hidden = true;
        resolve();
        return;
      }
      $("login-problem").textContent = word("badToken");
      $("login-problem").hidden = dialog.returnValue !== "login";
      open();
    };
    dialog.addEventListener("close", closed);
    open();
  });
  return loggingIn;
}

async function start() {
  onLogin(askForToken);
  const stored = recall("dark", null);
  setTheme(stored ?? matchMedia("(prefers-color-scheme: dark)").matches);
  startStage();
  startChart();
  chooseLanguage(recall("language", firstLanguage()));
  showVerdict(null);
  startDecisions(shownPart, (part) => setDecision(part.id, part.decision));
  startRecalibrate(() => (mustChooseLine(origin) ? undefined : lineShown(origin)?.line ?? null), () => { loadCalibration(); loadStation(); });
  onSelect(select);
  onPick(select);
  $("live").addEventListener("click", () => select(null));
  $("pause").addEventListener("click", togglePause);
  $("theme").addEventListener("click", chooseTheme);
  $("help-open").addEventListener("click", () => $("help-dialog").showModal());
  $("new-shift").addEventListener("click", newShift);
  $("language").addEventListener("change", (event) => { remember("language", event.target.value); chooseLanguage(event.target.value); });
  $("products").addEventListener("change", (event) => chooseProduct(event.target.value));
  $("origin").addEventListener("change", async (event) => { origin = event.target.value || null; newest = null; recent = []; select(null); await tryParts(); await loadStation(); await loadCalibration(); });
  $("keys-on").checked = recall("keys", true);
  $("keys-on").addEventListener("change", (event) => remember("keys", event.target.checked));
  for (const button of document.querySelectorAll("[data-close]")) button.addEventListener("click", () => button.closest("dialog").close());
  document.addEventListener("keydown", onKey);
  const parts = tryParts();
  await loadStation();
  if (document.visibilityState === "visible") listen();
  document.addEventListener("visibilitychange", attend);
  window.addEventListener("pagehide", leave);
  window.addEventListener("pageshow", (event) => { if (event.persisted) attend(); });
  await Promise.all([parts, loadCalibration()]);
  setInterval(() => { if (events) loadStation(); }, STATE_EACH);
  document.body.dataset.ready = "";
}

start();
