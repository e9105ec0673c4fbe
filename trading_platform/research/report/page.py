"""One self-contained HTML page from sections of text, tables and charts: no server, no network, and the same bytes for the same sections.

Plotly's script is inlined once. Element ids are counted, never drawn; no clock is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files

from trading_platform.contracts.canonical import canonical_bytes
from trading_platform.research.report.charts import Figure
from trading_platform.research.report.look import SCRIPT, STYLE


@dataclass(frozen=True, slots=True)
class Cell:
    """A table cell: text and, for shaded tables, a CSS colour behind it."""

    text: str
    color: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """Columns of text; the first is left-aligned, the others by `numeric`."""

    head: Sequence[str]
    rows: Sequence[Sequence[str | Cell]]
    caption: str = ""
    numeric: bool = True


@dataclass(frozen=True, slots=True)
class Chart:
    """A plotly figure and what to read from it. shared: its x axis is time and zooms together with the other shared charts."""

    figure: Figure
    caption: str
    shared: bool = False


@dataclass(frozen=True, slots=True)
class Card:
    """A headline number: what it is, its value, and the small print (n, gross or net, standard error)."""

    name: str
    value: str
    small: str
    tone: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """A heading, a sentence or two, and parts in order."""

    title: str
    text: str
    parts: Sequence[Table | Chart] = field(default_factory=tuple)


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in table.head)
    body = []
    for row in table.rows:
        cells = [cell if isinstance(cell, Cell) else Cell(cell) for cell in row]
        shades = [f' style="background:{escape(cell.color, quote=True)}"' if cell.color else "" for cell in cells]
        body.append("<tr>" + "".join(f"<td{s}>{escape(c.text)}</td>" for c, s in zip(cells, shades, strict=True)) + "</tr>")
    caption = f"<figcaption>{escape(table.caption)}</figcaption>" if table.caption else ""
    kind = "numeric" if table.numeric else "words"
    rows = "\n".join(body)
    return f'<figure class="table"><table class="{kind}"><thead><tr>{head}</tr></thead><tbody>\n{rows}\n</tbody></table>{caption}</figure>'


def _chart(chart: Chart, number: int) -> str:
    data = canonical_bytes(chart.figure).decode().replace("<", "\\u003c")  # no markup can begin inside it
    shared = " shared" if chart.shared else ""
    height = int(chart.figure["layout"]["height"])
    return (
        f'<figure><div class="chart{shared}" id="chart-{number}" style="height:{height}px"></div>'
        f'<script type="application/json" id="data-{number}">{data}</script><figcaption>{escape(chart.caption)}</figcaption></figure>'
    )


def _card(card: Card) -> str:
    tone = f" {escape(card.tone, quote=True)}" if card.tone else ""
    value, small = escape(card.value), escape(card.small)
    return f'<div class="card{tone}"><span>{escape(card.name)}</span><b>{value}</b><small>{small}</small></div>'


def plotly_script() -> str:
    """Plotly's own minified script, from the installed package."""
    return files("plotly").joinpath("package_data", "plotly.min.js").read_text(encoding="utf-8")


def render(title: str, subtitle: str, warning: str, verdict: str, cards: Sequence[Card], sections: Sequence[Section], foot: str) -> bytes:
    """The page as UTF-8 bytes, 4.8 MB of them plotly's script. warning: a banner on top. verdict: what it comes to, in words."""
    drawn, links, number = [], [], 0
    for place, section in enumerate(sections):
        links.append(f'<a href="#part-{place}">{escape(section.title)}</a>')
        parts = []
        for part in section.parts:
            if isinstance(part, Table):
                parts.append(_table(part))
            else:
                parts.append(_chart(part, number))
                number += 1
        drawn.append(f'<section id="part-{place}"><h2>{escape(section.title)}</h2><p>{escape(section.text)}</p>{"".join(parts)}</section>')
    banner = f'<div class="banner">{escape(warning)}</div>' if warning else ""
    said, body = f'<p class="verdict">{escape(verdict)}</p>' if verdict else "", "\n".join(drawn)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n<body>{banner}"
        f"<header><h1>{escape(title)}</h1><p>{escape(subtitle)}</p></header>\n<nav>{''.join(links)}</nav>\n<main>"
        f'<noscript><p class="banner">The charts need JavaScript; the tables do not.</p></noscript>'
        f'<div class="cards">{"".join(_card(card) for card in cards)}</div>\n{said}\n{body}\n</main><footer>{escape(foot)}</footer>\n'
        f"<script>{plotly_script()}</script>\n<script>{SCRIPT}</script></body></html>\n"
    ).encode()
