"""The HTML form of reports: one page that holds everything, figures included, and makes no request.

The page is readable on a phone and printed: text wraps, wide tables scroll, and nothing depends on scripts.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from jaxephys.reporting.headline import BETTER, WORSE, SummaryRow
from jaxephys.reporting.markdown import summary_table
from jaxephys.reporting.plots import FIGURE_DPI
from jaxephys.reporting.tables import Table

if TYPE_CHECKING:
    from jaxephys.reporting.report import Report

SCREEN_DPI = 96  # CSS pixels per inch
STYLE = """
:root { --ink: #1b1b1b; --soft: #5c5c5c; --line: #d9d9d9; --fill: #f4f6f8; --accent: #005a8c; --bad: #b00020; --good: #00704a; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 62rem; color: var(--ink); background: #fff;
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: .5rem 0; }
h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; padding-top: .5rem; border-top: 1px solid var(--line); }
p { margin: .5rem 0; max-width: 48rem; }
a { color: var(--accent); }
.question { font-size: 1.1rem; color: var(--soft); }
.verdict { font-size: 1.2rem; font-weight: 600; }
.alert { border: 3px solid var(--bad); background: #fff0f1; color: var(--bad); font-weight: 700; padding: .6rem .9rem; margin: 1rem 0; }
.warning { border-left: 4px solid #c77700; background: #fff8ec; padding: .4rem .8rem; margin: .5rem 0; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: .6rem; margin: 1rem 0; }
.tile { background: var(--fill); border-top: 3px solid var(--accent); padding: .6rem .8rem; }
.tile.none { border-top-color: var(--line); }
.tile small { display: block; color: var(--soft); line-height: 1.35; }
.tile b { display: block; font-size: 1.15rem; }
.better { color: var(--good); } .worse { color: var(--bad); }
.wide { overflow-x: auto; margin: .5rem 0; }
table { border-collapse: collapse; font-size: .85rem; overflow-wrap: normal; }
th, td { padding: .25rem .6rem; text-align: right; border-bottom: 1px solid var(--line); vertical-align: top; }
th { background: var(--fill); vertical-align: bottom; min-width: 5rem; }
th:first-child, td:first-child { text-align: left; }
.text td, .text th { text-align: left; }
td.best { font-weight: 700; }
ul { margin: .5rem 0; padding-left: 1.2rem; font-size: .9rem; max-width: 52rem; }
figure { margin: 1.2rem 0; }
figure img { width: min(100%, var(--width)); height: auto; display: block; }
figcaption { font-size: .9rem; color: var(--soft); margin-top: .3rem; }
pre { background: var(--fill); padding: .7rem; overflow-x: auto; font-size: .85rem; overflow-wrap: normal; }
nav { font-size: .9rem; } nav a { margin-right: .8rem; white-space: nowrap; }
@media (max-width: 40rem) { figure img { width: min(34rem, var(--width)); max-width: none; } body { padding: .7rem; } th, td { padding: .2rem .35rem; } h1 { font-size: 1.35rem; } }
@media print { body { max-width: none; font-size: 10pt; } nav { display: none; } .wide { overflow: visible; }
  figure, .tile, .alert { break-inside: avoid; } h2 { break-after: avoid; } table { font-size: 7.5pt; } }
"""


def report_to_html(report: Report) -> str:
    """Return a report as one HTML page.

    Parameters
    ----------
    report : Report
        The report. Its figures are read and embedded.

    Returns
    -------
    str
        The page.
    """
    tables = [(heading, table_to_html(table)) for heading, table in report.tables.items()]
    ends = [
        ("Notes", _list(report.notes)),
        ("Settings", _facts(report.settings)),
        ("Run", _facts(report.facts)),
        ("Load the model", _code(["import jaxephys", "", *report.load]) if report.load else ""),
        ("Cite", _list(report.citation)),
    ]
    figures = "".join(_figure(caption, path) for caption, path in report.figures.items())
    sections = [section for section in [("Figures", figures), *tables, *ends] if section[1]]
    linked = {"Figures", *(heading for heading, _ in tables[:1]), *(heading for heading, _ in ends)}
    links = [
        f'<a href="#s{number}">{"Tables" if tables and heading == tables[0][0] else escape(heading)}</a>'
        for number, (heading, _) in enumerate(sections)
        if heading in linked
    ]
    body = [f"<h1>{escape(report.title)}</h1>", _summary(report), f"<nav>{''.join(links)}</nav>"]
    body.append(_paragraphs(report.introduction))
    body += [f'<h2 id="s{n}">{escape(heading)}</h2>\n{content}' for n, (heading, content) in enumerate(sections)]
    return html_page(report.title, body)


def html_page(title: str, body: Iterable[str]) -> str:
    """Return a page with the style of the reports.

    Parameters
    ----------
    title : str
        Title of the window.
    body : iterable of str
        HTML of the parts of the page.

    Returns
    -------
    str
        The page.
    """
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="icon" href="data:,">'  # without it a browser requests one
        f"<title>{escape(title)}</title><style>{STYLE}</style>"
    )
    content = "\n".join(part for part in body if part)
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body>\n{content}\n</body></html>\n'


def table_to_html(table: Table, kind: str = "") -> str:
    """Return a table as HTML, with its notes as a list below.

    Parameters
    ----------
    table : Table
        The table.
    kind : {"", "text"}
        "text" aligns all columns to the left.

    Returns
    -------
    str
        The HTML.
    """
    head = "".join(f"<th>{escape(heading)}</th>" for heading in table.columns)
    rows = []
    for cells in zip(*table.columns.values(), strict=True):
        row = "".join(f"<td{' class=best' if cell.bold else ''}>{escape(cell.text)}</td>" for cell in cells)
        rows.append(f"<tr>{row}</tr>")
    text = f'<table class="{kind}"><thead><tr>{head}</tr></thead><tbody>\n' + "\n".join(rows) + "</tbody></table>"
    return f'<div class="wide">{text}</div>{_list(table.notes)}'


def _summary(report: Report) -> str:
    summary = report.summary
    parts = [f'<p class="question">{escape(summary.question.text)}</p>'] if summary.question.text else []
    if report.alert:
        parts.append(f'<div class="alert">{escape(report.alert)}</div>')
    parts.append(f'<p class="verdict">{escape(summary.verdict)}</p>')
    if summary.rows:
        parts.append(_tiles(summary.rows[0]))
    if len(summary.rows) > 1:
        parts.append(table_to_html(summary_table(summary.rows), "text"))
    if summary.question.text and summary.question.published:
        parts.append(f"<p><b>Published.</b> {escape(summary.question.published)}</p>")
    parts += [f'<p class="warning">{escape(warning)}</p>' for warning in summary.warnings]
    return "\n".join(parts)


def _tiles(row: SummaryRow) -> str:
    """The numbers of the main comparison side by side."""
    kind = {BETTER: "better", WORSE: "worse"}.get(row.result, "")
    where = f", {row.label}" if row.label else ""
    tiles = [
        ("Ours", row.score, f"{row.model}: {row.metric}{where}{f' ({row.runs})' if row.runs else ''}", ""),
        ("Published", row.published or "no number", "", "" if row.published else "none"),
        ("Best baseline", row.baseline_score or "none", row.baseline or "", "" if row.baseline else "none"),
        ("Ours minus baseline", row.difference or "-", f"95 % interval: {row.result}" if row.baseline else "", kind),
    ]
    html = ""
    for name, value, detail, style in tiles:
        html += f'<div class="tile {style if style == "none" else ""}"><small>{escape(name)}</small>'
        html += f'<b class="{style}">{escape(value)}</b><small>{escape(detail)}</small></div>'
    return f'<div class="tiles">{html}</div>'


def _figure(caption: str, path: Path) -> str:
    content = Path(path).read_bytes()
    data, text = base64.b64encode(content).decode("ascii"), escape(caption)
    width = int.from_bytes(content[16:20], "big") * SCREEN_DPI // FIGURE_DPI  # of the header of a PNG file
    numbers = f"figures/{Path(path).with_suffix('.csv').name}"
    image = f'<img style="--width:{width}px" src="data:image/png;base64,{data}" alt="{text}">'
    return f'<figure><div class="wide">{image}</div><figcaption>{text} (numbers: {escape(numbers)})</figcaption></figure>\n'


def _facts(values: Mapping[str, str]) -> str:
    if not values:
        return ""
    rows = "".join(f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in values.items())
    return f'<div class="wide"><table class="text"><tbody>{rows}</tbody></table></div>'


def _list(items: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(item)}</li>" for item in items) + "</ul>" if items else ""


def _paragraphs(text: str) -> str:
    return "".join(f"<p>{escape(part.strip())}</p>" for part in text.split("\n\n") if part.strip())


def _code(lines: Sequence[str]) -> str:
    return f"<pre>{escape(chr(10).join(lines))}</pre>"
