// Scores of the last parts, with the threshold and the band in which good parts lie. uPlot draws axes and takes clicks.
import { $ } from "./dom.js";
import { clock, count, number, word } from "./words.js";

const MOST = 300;
const SHAPES = { normal: "circle", anomalous: "triangle", invalid: "square" };
let points = []; // oldest first: {id, judged, score, verdict, threshold}
let calibration = null;
let plot = null;
let pick = () => {};
let due = false;

export const onPick = (take) => { pick = take; };

export function setPoints(parts) {
  points = parts.filter((part) => typeof part.score === "number").slice(-MOST);
  redraw();
}

export function addPoint(part) {
  if (typeof part.score !== "number") return;
  points.push(part);
  if (points.length > MOST) points.shift();
  redraw();
}

export function setCalibration(found) {
  calibration = found;
  redraw();
}

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function range() {
  const scores = points.map((point) => point.score);
  const edge = calibration ? [calibration.band[0], calibration.threshold] : [0, 1];
  const span = Math.max(edge[1] - edge[0], 1e-6);
  const low = Math.min(edge[0], ...scores);
  // One very bad part must not press all others flat: what is far above is drawn at the top.
  return [low - 0.08 * span, Math.min(Math.max(edge[1] + 0.35 * span, ...scores), edge[1] + 1.6 * span) + 0.1 * span];
}

function draw(u) {
  const { ctx } = u, [low, high] = range();
  const ratio = devicePixelRatio, size = 3.6 * ratio, most = high - (high - low) * 0.03;
  const inks = Object.fromEntries([...new Set(points.map((point) => point.verdict))].map((verdict) => [verdict, colour(`--${verdict}-ink`)]));
  ctx.save();
  ctx.beginPath();
  ctx.rect(u.bbox.left, u.bbox.top - 4 * ratio, u.bbox.width, u.bbox.height + 8 * ratio);
  ctx.clip();
  points.forEach((point, index) => {
    const x = u.valToPos(index, "x", true), y = u.valToPos(Math.min(point.score, most), "y", true);
    ctx.fillStyle = inks[point.verdict];
    ctx.beginPath();
    const shape = SHAPES[point.verdict] || "square";
    if (shape === "circle") ctx.arc(x, y, size * 0.85, 0, 2 * Math.PI);
    else if (shape === "triangle") {
      ctx.moveTo(x, y - size * 1.25);
      ctx.lineTo(x + size * 1.15, y + size * 0.85);
      ctx.lineTo(x - size * 1.15, y + size * 0.85);
      ctx.closePath();
    } else ctx.rect(x - size * 0.8, y - size * 0.8, size * 1.6, size * 1.6);
    ctx.fill();
  });
  ctx.restore();
}

function drawBehind(u) {
  if (!calibration) return;
  const { ctx } = u, ratio = devicePixelRatio;
  const at = (score) => u.valToPos(score, "y", true);
  ctx.save();
  ctx.fillStyle = colour("--band");
  ctx.fillRect(u.bbox.left, at(calibration.band[1]), u.bbox.width, at(calibration.band[0]) - at(calibration.band[1]));
  ctx.strokeStyle = colour("--anomalous-ink");
  ctx.lineWidth = 1.6 * ratio;
  ctx.setLineDash([6 * ratio, 4 * ratio]);
  ctx.beginPath();
  ctx.moveTo(u.bbox.left, at(calibration.threshold));
  ctx.lineTo(u.bbox.left + u.bbox.width, at(calibration.threshold));
  ctx.stroke();
  ctx.restore();
}

// Seconds where few minutes are shown.
function time(judged) {
  const long = points[points.length - 1].judged - points[0].judged > 900;
  return long ? clock(judged).slice(0, 5) : clock(judged);
}

function options(box) {
  const axis = { stroke: colour("--quiet"), grid: { stroke: colour("--grid"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
  return {
    width: box.clientWidth, height: box.clientHeight, padding: [8, 8, 0, 0], legend: { show: false },
    cursor: { drag: { x: false, y: false }, points: { show: false }, y: false },
    scales: { x: { time: false, range: () => [-0.5, Math.max(points.length, 20) - 0.5] }, y: { range } },
    axes: [
      { ...axis, size: 26, grid: { show: false }, space: 90, values: (u, marks) => marks.map((mark) => (Number.isInteger(mark) && points[mark] ? time(points[mark].judged) : "")) },
      { ...axis, size: 44, values: (u, marks) => marks.map((mark) => number(mark, 3)) },
    ],
    series: [{}, { paths: () => null, points: { show: false } }],
    hooks: { drawClear: [drawBehind], draw: [draw] },
  };
}

function render() {
  due = false;
  const box = $("chart");
  if (!box.clientWidth) return;
  const data = [points.map((_, index) => index), points.map((point) => point.score)];
  if (!plot) {
    plot = new uPlot(options(box), data, box);
    plot.over.addEventListener("click", () => { const point = points[plot.cursor.idx]; if (point) pick(point.id); });
  } else plot.setData(data);
  const above = points.filter((point) => point.verdict === "anomalous").length;
  $("chart-note").textContent = points.length ? word("lastN", { n: count(points.length) }) : "";
  box.setAttribute("aria-label", word("chartLabel", { n: points.length, above, threshold: number(calibration?.threshold) }));
}

function redraw() {
  if (!due) requestAnimationFrame(render);
  due = true;
}

export function restyleChart() {
  plot?.destroy();
  plot = null;
  $("band-word").textContent = word("band");
  redraw();
}

export function startChart() {
  new ResizeObserver(() => { if (plot) plot.setSize({ width: $("chart").clientWidth, height: $("chart").clientHeight }); }).observe($("chart"));
  restyleChart();
}
