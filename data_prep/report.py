"""The reports of the ``check`` commands: facts about a table or recording, and what would mislead a model or a score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

FACT_WIDTH = 14  # characters of the name of a fact


class Block(NamedTuple):
    """A small table of a report.

    Parameters
    ----------
    title : str
        Heading.
    header : sequence of str
        Names of the columns.
    rows : sequence of sequence of str
        Entries; the first of each row is a name.

    Examples
    --------
    >>> print("\\n".join(Block("cells", ["class", "mouse"], [["Sst", "12"], ["Vip", "8"]]).lines()))
    cells
      class  mouse
      Sst       12
      Vip        8
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    def lines(self) -> list[str]:
        """Return the table as lines of text.

        Returns
        -------
        list of str
            Title, header and rows. Columns of numbers are aligned to the right, others and the first to the left.
        """
        columns = []
        for i, column in enumerate(zip(self.header, *self.rows, strict=True)):
            side = ">" if i and all(entry[:1].isdigit() for entry in column[1:]) else "<"
            columns.append([f"{entry:{side}{max(map(len, column))}}" for entry in column])
        return [self.title, *("  " + "  ".join(row).rstrip() for row in zip(*columns, strict=True))]


@dataclass(frozen=True)
class Finding:
    """A problem to correct or to consider before training.

    Parameters
    ----------
    kind : str
        Short name of the problem, such as "repeated rows".
    text : str
        One sentence.
    modality : str, default ""
        "waveform", "isi", "acg", "all" or, where it concerns none of them, ``""``.
    units : sequence of str, optional
        Identifiers of the units concerned; empty where it concerns the whole table.
    """

    kind: str
    text: str
    modality: str = ""
    units: Sequence[str] = ()

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Report:
    """Tables, facts and findings.

    Parameters
    ----------
    facts : mapping of str to object
        Facts by name: texts, numbers, or mappings and lists of these.
    findings : sequence of Finding or str
        The problems; empty if nothing looks wrong.
    blocks : sequence of Block, optional
        Small tables above the facts.
    """

    facts: Mapping[str, Any]
    findings: Sequence[Finding | str]
    blocks: Sequence[Block] = ()

    def json(self) -> dict[str, Any]:
        """Return facts and findings as values that JSON stores, with the identifiers of all units concerned.

        Returns
        -------
        dict
            Keys ``facts`` and ``findings``.
        """
        findings = [asdict(finding) if isinstance(finding, Finding) else finding for finding in self.findings]
        return {"facts": dict(self.facts), "findings": findings}

    def lines(self) -> list[str]:
        """Return the report as lines of text.

        Returns
        -------
        list of str
            The tables, and one line for each fact and finding.
        """
        tables = [line for block in self.blocks for line in (*block.lines(), "")]
        facts = [f"{name:<{FACT_WIDTH}} {_fact_text(value)}" for name, value in self.facts.items()]
        heading = f"{len(self.findings)} to look at:" if self.findings else "nothing looks wrong"
        return [*tables, *facts, "", heading, *(f"  - {finding}" for finding in self.findings)]


def shorten(items: Sequence[str], shown: int = 5) -> str:
    """Join the first of some names.

    Parameters
    ----------
    items : sequence of str
        The names.
    shown : int, default 5
        How many are named.

    Returns
    -------
    str
        The names, and how many more there are.

    Examples
    --------
    >>> shorten(["a", "b", "c"], shown=2)
    'a, b and 1 more'
    """
    return ", ".join(items[:shown]) + (f" and {len(items) - shown} more" if len(items) > shown else "")


def _fact_text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_fact_text(entry)}" for key, entry in value.items()) or "none"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
