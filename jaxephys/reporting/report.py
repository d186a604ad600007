"""The report of a run: one structure that is written twice, as ``report.md`` and as ``report.html``.

`Report` holds what both show, in this order: summary, figures, tables, notes, settings, hardware and time, how to load the model, how to
cite. `write_report` writes the two files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jaxephys.reporting.files import write_text
from jaxephys.reporting.headline import ReportSummary
from jaxephys.reporting.markdown import report_to_markdown
from jaxephys.reporting.tables import Table
from jaxephys.reporting.web_page import report_to_html


@dataclass(frozen=True)
class Report:
    """Everything that the report of a run shows.

    Parameters
    ----------
    title : str
        Heading of the report.
    summary : ReportSummary
        Question, comparisons, verdict and warnings.
    introduction : str, default ""
        What was done, one paragraph or several.
    tables : mapping of str to Table
        Tables by heading.
    figures : mapping of str to Path
        PNG files by caption. Beside each figure is a CSV file of its numbers.
    notes : sequence of str
        Sentences on the protocol.
    alert : str, default ""
        Reason why no conclusion may be drawn, such as that of a smoke run. It is shown in red.
    settings : mapping of str to str
        Settings of the run.
    facts : mapping of str to str
        Command, versions, hardware, data and time.
    load : sequence of str
        Lines of Python that load the saved models; empty if there is none.
    citation : sequence of str
        What to cite.
    """

    title: str
    summary: ReportSummary
    introduction: str = ""
    tables: Mapping[str, Table] = field(default_factory=dict)
    figures: Mapping[str, Path] = field(default_factory=dict)
    notes: Sequence[str] = ()
    alert: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    load: Sequence[str] = ()
    citation: Sequence[str] = ()


def write_report(folder: Path, report: Report) -> Path:
    """Write ``report.md`` and ``report.html`` into a run folder.

    Parameters
    ----------
    folder : path-like
        The run folder.
    report : Report
        What to write.

    Returns
    -------
    Path
        The path of ``report.html``.

    Raises
    ------
    ValueError
        If a figure does not exist.
    """
    folder = Path(folder)
    for figure in report.figures.values():
        if not Path(figure).is_file():
            raise ValueError(f"the figure {figure} of the report does not exist")
    page = report_to_html(report)
    write_text(folder / "report.md", report_to_markdown(report, folder))
    return write_text(folder / "report.html", page)
