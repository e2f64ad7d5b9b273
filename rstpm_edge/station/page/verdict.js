// The live verdict, in letters that can be read from three metres.
import { $ } from "./dom.js";
import { clock, number, word } from "./words.js";

let shown = null;

export function showVerdict(part) {
  shown = part;
  const box = $("verdict");
  const verdict = part ? part.verdict : "none";
  box.dataset.verdict = verdict;
  box.dataset.part = part ? part.id : "";
  const text = part ? word(verdict) : word("waiting");
  $("word").textContent = text;
  $("word").classList.toggle("long", text.length > 8);
  document.title = part ? `${text} – ${part.product}` : "rstpm-edge";
  $("v-score").textContent = number(part?.score);
  $("v-threshold").textContent = number(part?.threshold);
  $("v-p").textContent = number(part?.p_value, 2);
  $("v-name").textContent = part ? part.name : "–";
  $("v-time").textContent = part ? clock(part.judged) : "–";
  $("v-reason").textContent = part?.reason || "";
  $("v-reason").hidden = !part?.reason;
}

export const redrawVerdict = () => showVerdict(shown);
