// The dialog that moves the threshold by parts that people have confirmed.
import { $, pairs, toast } from "./dom.js";
import { get, post } from "./api.js";
import { count, number, percent, word } from "./words.js";
import { recall, remember } from "./prefs.js";
import { showToDecide } from "./strip.js";

const ALWAYS = ["passed", "wrong", "defects", "undecided"]; // others do not count, and are told where there are any

let named = null;
let asked = 0; // how often, to know the last answer
let line = () => null;
let done = () => {};

// `shownLine` gives its name, null where there is none, and undefined where one must be chosen first.
export function startRecalibrate(shownLine, onDone) {
  line = shownLine;
  done = onDone;
  $("recalibrate-open").addEventListener("click", open);
  $("to-decide").addEventListener("click", () => { $("recalibrate-dialog").close(); showToDecide(named.to_decide); });
  for (const choice of document.querySelectorAll('input[name="only"]')) choice.addEventListener("change", look);
  $("recalibrate-dialog").addEventListener("close", () => { if ($("recalibrate-dialog").returnValue === "do") write(); });
}

const onlyNew = () => document.querySelector('input[name="only"]:checked').value === "1";

async function open() {
  $("recalibrate-person").value = recall("person", "");
  $("recalibrate-dialog").returnValue = "";
  pairs($("stretch"), []); // until the answer is there, nothing of the line that was shown before
  for (const part of ["recalibrate-problem", "to-decide", "moved"]) $(part).hidden = true;
  $("recalibrate-dialog").showModal();
  await look();
}

async function look() {
  $("recalibrate-do").disabled = true;
  const of = line(), turn = ++asked;
  let answer;
  try {
    if (of === undefined) throw new Error(word("chooseLine"));
    answer = { ...await get(`/v1/recalibration?only_new=${onlyNew()}${of === null ? "" : `&line=${encodeURIComponent(of)}`}`), line: of };
  } catch (error) {
    answer = { parts: {}, origins: {}, to_decide: [], problem: error.message.includes("--history") ? word("noHistory") : error.message, moved: null };
  }
  if (turn !== asked) return; // something else has been asked for meanwhile
  named = answer;
  const { parts, origins, problem, moved } = named;
  const shown = Object.entries(parts).filter(([name, value]) => value > 0 || ALWAYS.includes(name));
  const lines = Object.entries(origins).map(([name, value]) => `${name === "request" ? word("requests") : name} ${count(value)}`);
  pairs($("stretch"), [...shown.map(([name, value]) => [word(`s_${name}`), count(value)]), ...(lines.length > 1 ? [[word("s_origins"), lines.join(", ")]] : [])]);
  const said = parts.undecided ? word("mustDecide", { n: count(parts.undecided) }) : problem;
  $("recalibrate-problem").textContent = said || "";
  $("recalibrate-problem").hidden = !problem;
  $("to-decide").hidden = !named.to_decide.length;
  $("moved").hidden = !moved;
  $("recalibrate-do").disabled = !moved;
  if (!moved) return;
  const rate = (value) => (value === null ? "–" : percent(value));
  pairs($("moved"), [
    [word("thresholdMoves"), `${number(moved.threshold_before)} → ${number(moved.threshold)}`],
    [word("calibratedOn"), `${count(moved.images_before)} → ${word("photos", { n: count(moved.images) })}`],
    [word("averageKept"), percent(moved.alpha)],
    [word("ratesMove"), `${rate(moved.rate_with_confidence_before)} → ${rate(moved.rate_with_confidence)}`],
    [word("rejectsMove"), `${count(moved.rejected_before)} → ${count(moved.rejected)}`],
    ...(moved.alpha_of_model === moved.alpha ? [] : [[word("ownRate"), percent(moved.alpha_of_model)]]),
  ]);
}

async function write() {
  const person = $("recalibrate-person").value.trim();
  remember("person", person);
  try {
    const { line: of, product, version } = named;
    const made = await post("/v1/recalibration", { line: of, product, version, only_new: onlyNew(), take: $("take").checked, person: person || null });
    toast(`${word("recalibrated", { file: made.file })}${made.taken ? ` ${word("taken", { threshold: number(made.moved.threshold) })}` : ""}`);
    done();
  } catch (error) {
    toast(error.message);
  }
}
