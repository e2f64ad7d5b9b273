// What people say of a part: acknowledge a reject, "this was wrong", a comment.
import { $, make, toast } from "./dom.js";
import { post } from "./api.js";
import { clock, word } from "./words.js";
import { recall, remember } from "./prefs.js";

let told = () => {};
let part = () => null;
let kind = null;
let about = null;

export function startDecisions(shownPart, onDecision) {
  part = shownPart;
  told = onDecision;
  $("acknowledge").addEventListener("click", () => decide("acknowledged"));
  $("was-good").addEventListener("click", () => openNote("good"));
  $("missed").addEventListener("click", () => openNote("defect"));
  $("comment").addEventListener("click", () => openNote("comment"));
  $("withdraw").addEventListener("click", () => decide("withdrawn"));
  $("note-dialog").addEventListener("close", () => { if ($("note-dialog").returnValue === "save") save(); });
}

export function drawDecision() {
  const one = part();
  const decided = one?.decision;
  const rejected = one?.verdict === "anomalous" || one?.verdict === "invalid";
  $("decision").textContent = decided ? word(`said_${decided}`) : "";
  $("acknowledge").hidden = !one || decided || one.verdict === "normal";
  $("was-good").hidden = !one || decided || !rejected;
  $("missed").hidden = !one || decided || one.verdict !== "normal";
  $("withdraw").hidden = !decided;
  $("comment").hidden = !one;
  const notes = one?.notes || [];
  $("notes").hidden = !notes.length;
  $("notes").replaceChildren(...notes.map((note) => make("li", {},
    `${clock(note.made)} · ${word(`said_${note.kind}`)}${note.person ? ` · ${note.person}` : ""}${note.comment ? `: ${note.comment}` : ""}`)));
}

export const press = (id) => { if (!$(id).hidden) $(id).click(); };

function openNote(which) {
  kind = which;
  about = part();
  $("note-title").textContent = word({ good: "wasGood", defect: "missed", comment: "comment" }[which]);
  $("note-text").textContent = word({ good: "noteGood", defect: "noteDefect", comment: "noteComment" }[which]);
  $("note-comment").value = "";
  $("note-comment").required = which === "comment";
  $("note-person").value = recall("person", "");
  $("note-dialog").returnValue = "";
  $("note-dialog").showModal();
  $("note-comment").focus();
}

async function save() {
  remember("person", $("note-person").value.trim());
  await send(about, kind, $("note-comment").value.trim());
}

async function decide(which) {
  await send(part(), which, "");
}

async function send(one, which, comment) {
  if (!one) return;
  try {
    const person = recall("person", "") || null;
    const made = await post(`/v1/inspections/${one.id}/notes`, { kind: which, person, comment });
    one.decision = made.decision;
    (one.notes ??= []).push(made);
    toast(word(made.photo_kept ? "savedPhoto" : "saved"));
    told(one);
    drawDecision();
  } catch (error) {
    toast(error.message.includes("--history") ? word("noHistory") : error.message);
  }
}
