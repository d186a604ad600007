"""The Markdown form of reports and tables."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from jaxephys.reporting.headline import ReportSummary, SummaryRow
from jaxephys.reporting.tables import EMPTY, Cell, Table

if TYPE_CHECKING:
    from jaxephys.reporting.report import Report


def report_to_markdown(report: Report, folder: Path) -> str:
    """Return a report as Markdown.

    Parameters
    ----------
    report : Report
        The report.
    folder : path-like
        Folder of the file, to which the links of the figures are relative.

    Returns
    -------
    str
        The text, which ends with a line break.
    """
    parts = [f"# {report.title}", *_summary(report), *([report.introduction] if report.introduction else [])]
    for caption, figure in report.figures.items():
        link = quote(Path(os.path.relpath(figure, folder)).as_posix())
        numbers = link.removesuffix(".png") + ".csv"
        parts += [f"![{caption}]({link})", f"{caption} ([numbers]({numbers}))"]
    for heading, table in report.tables.items():
        parts += [f"## {heading}", table_to_markdown(table).rstrip()]
    lists = {"Notes": report.notes, "Settings": _pairs(report.settings), "Run": _pairs(report.facts)}
    for heading, items in lists.items():
        if items:
            parts += [f"## {heading}", "\n".join(f"- {item}" for item in items)]
    if report.load:
        parts += ["## Load the model", "\n".join(["```python", "import jaxephys", "", *report.load, "```"])]
    if report.citation:
        parts += ["## Cite", "\n".join(f"- {item}" for item in report.citation)]
    return "\n\n".join(parts) + "\n"


def summary_table(rows: Sequence[SummaryRow]) -> Table:
    """Return the comparisons of a summary as a table.

    Parameters
    ----------
    rows : sequence of SummaryRow
        The comparisons.

    Returns
    -------
    Table
        One row per comparison. Columns without any entry are left out.
    """
    columns = {
        "Comparison": [row.label or row.metric for row in rows],
        "Metric": [row.metric for row in rows],
        "Ours": [f"{row.model}: {row.score}" for row in rows],
        "Published": [row.published or EMPTY for row in rows],
        "Best baseline": [f"{row.baseline}: {row.baseline_score}" if row.baseline else EMPTY for row in rows],
        "Difference [95 % interval]": [row.difference or EMPTY for row in rows],
        "Result": [row.result or EMPTY for row in rows],
        "Runs": [row.runs or EMPTY for row in rows],
    }
    kept = {heading: texts for heading, texts in columns.items() if any(text != EMPTY for text in texts)}
    return Table({heading: [Cell(text) for text in texts] for heading, texts in kept.items()}, [])


def table_to_markdown(table: Table) -> str:
    """Return a table as Markdown, with its notes as a list below.

    Parameters
    ----------
    table : Table
        The table.

    Returns
    -------
    str
        Markdown text that ends with a line break.
    """

    def line(texts: Iterable[str]) -> str:
        return "| " + " | ".join(text.replace("|", r"\|") for text in texts) + " |"

    lines = [line(table.columns), line([":---"] + ["---:"] * (len(table.columns) - 1))]
    for row in zip(*table.columns.values(), strict=True):
        lines.append(line(f"**{cell.text}**" if cell.bold else cell.text for cell in row))
    return "\n".join([*lines, "", *(f"- {note}" for note in table.notes)]) + "\n"


def _summary(report: Report) -> list[str]:
    """Question, alert, verdict, comparisons and warnings as paragraphs."""
    summary: ReportSummary = report.summary
    parts = [f"**Question.** {summary.question.text}"] if summary.question.text else []
    if report.alert:
        parts.append(f"> **{report.alert}**")
    parts.append(f"**Result.** {summary.verdict}")
    if len(summary.rows) == 1:
        parts.append(summary.rows[0].sentences)
    elif summary.rows:
        parts += [summary.rows[0].sentences, table_to_markdown(summary_table(summary.rows)).rstrip()]
    if summary.question.text and summary.question.published:
        parts.append(f"**Published.** {summary.question.published}")
    if summary.warnings:
        parts.append("\n".join(f"- Warning: {warning}" for warning in summary.warnings))
    return parts


def _pairs(values: Mapping[str, str]) -> list[str]:
    return [f"{name}: {value}" for name, value in values.items()]
