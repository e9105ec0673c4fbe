"""How the page looks and behaves: its style sheet and its script, kept as source so that a change of either is a change of code."""

from __future__ import annotations

STYLE = """\
:root { --ink: #1f2933; --muted: #616e7c; --line: #e4e7eb; --blue: #2266aa; --red: #b23a48; --green: #2f855a; }
* { box-sizing: border-box; }
html { scroll-behavior: smooth; scroll-padding-top: 3.4rem; }
body { margin: 0; color: var(--ink); background: #f5f7fa; font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
header, main, footer { max-width: 1180px; margin: 0 auto; padding: 0 1.5rem; }
header { padding-top: 1.6rem; }
h1 { margin: 0; font-size: 1.65rem; letter-spacing: -0.01em; }
header p { margin: 0.2rem 0 0.9rem; color: var(--muted); }
h2 { margin: 0 0 0.2rem; font-size: 1.15rem; }
section > p { margin: 0 0 0.8rem; color: var(--muted); max-width: 62rem; }
nav { position: sticky; top: 0; z-index: 5; background: rgba(255, 255, 255, 0.96); border-block: 1px solid var(--line);
  padding: 0.55rem max(1.5rem, calc((100% - 1180px) / 2 + 1.5rem)); display: flex; flex-wrap: wrap; gap: 0.2rem 1.1rem; }
nav a { color: var(--blue); text-decoration: none; font-size: 0.86rem; white-space: nowrap; }
nav a:hover, nav a:focus { text-decoration: underline; }
.banner { background: var(--red); color: white; padding: 0.5rem 1rem; text-align: center; font-weight: 600; letter-spacing: 0.04em; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(200px, 1fr)); gap: 0.7rem; margin: 1.1rem 0; }
.card { background: white; border: 1px solid var(--line); border-radius: 8px; padding: 0.65rem 0.85rem; }
.card span, .card small { display: block; color: var(--muted); font-size: 0.78rem; }
.card { overflow-wrap: anywhere; }
.card b { font-size: 1.35rem; font-weight: 600; font-variant-numeric: tabular-nums; }
.card.bad b { color: var(--red); }
.card.good b { color: var(--green); }
.verdict { background: white; border-left: 4px solid var(--blue); margin: 1.1rem 0; padding: 0.7rem 1.1rem; }
section { background: white; border: 1px solid var(--line); border-radius: 8px; padding: 1.1rem 1.3rem; margin: 1.1rem 0; }
figure { margin: 0 0 1.1rem; }
figure:last-child { margin-bottom: 0; }
figure.table { overflow-x: auto; }
figcaption { color: var(--muted); font-size: 0.83rem; margin-top: 0.25rem; }
table { border-collapse: collapse; width: 100%; font-size: 0.86rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.28rem 0.55rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
th { font-weight: 600; color: var(--muted); vertical-align: bottom; }
table.numeric th:not(:first-child), table.numeric td:not(:first-child) { text-align: right; }
table.numeric td:not(:first-child) { white-space: nowrap; }
tbody tr:hover { background: #f5f7fa; }
footer { color: var(--muted); font-size: 0.8rem; padding-bottom: 2rem; overflow-wrap: anywhere; }
@media print { nav { display: none; } section { break-inside: avoid; border: none; padding: 0; } body { background: white; } }
"""

SCRIPT = """\
"use strict";
// Draw the charts one after another, from the top, and let the charts over time zoom together.
const options = { displaylogo: false, responsive: true, modeBarButtonsToRemove: ["lasso2d", "select2d"] };
let range = null, moving = false;

function zoom(target) {
  const change = range ? { "xaxis.range": range.slice(), "xaxis.autorange": false } : { "xaxis.autorange": true };
  return Plotly.relayout(target, change);
}

async function follow(source, event) {
  if (moving) return;
  const first = event["xaxis.range[0]"] ?? event["xaxis.range"]?.[0], last = event["xaxis.range[1]"] ?? event["xaxis.range"]?.[1];
  if (first === undefined && !event["xaxis.autorange"]) return;
  range = event["xaxis.autorange"] ? null : [first, last];
  moving = true;
  await Promise.all([...document.querySelectorAll(".chart.shared.drawn")].filter((chart) => chart !== source).map(zoom));
  moving = false;
}

async function draw(chart) {
  const figure = JSON.parse(document.getElementById(chart.id.replace("chart", "data")).textContent);
  await Plotly.newPlot(chart, figure.data, figure.layout, options);
  chart.classList.add("drawn");
  if (!chart.classList.contains("shared")) return;
  if (range) await zoom(chart);
  chart.on("plotly_relayout", (event) => follow(chart, event));
}

async function drawAll() {
  for (const chart of document.querySelectorAll(".chart")) {
    await draw(chart);
    await new Promise((next) => setTimeout(next));
  }
  document.documentElement.classList.add("complete");
}

drawAll();
"""
