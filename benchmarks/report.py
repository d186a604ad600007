"""Tables and figures of README.md, made from the stored results.

    python -m benchmarks report               write all tables between their markers in benchmarks/README.md
    python -m benchmarks report ablation      print a summary of one benchmark

A marker ``<!-- report KIND NAME -->`` names what the lines up to ``<!-- end -->`` hold: ``compiled TARGET``, ``accelerator DEVICE`` or
``scaling DEVICE``. Text outside of markers is not changed.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.runner import RESULTS, Row, read_rows, select

README = Path(__file__).parent / "README.md"
MARKED = re.compile(r"<!-- report (\S+) (\S+) -->\n.*?<!-- end -->", re.DOTALL)


def update_readme(path: Path = README) -> list[str]:
    """Write the tables between the markers of a document.

    Parameters
    ----------
    path : Path
        Markdown file.

    Returns
    -------
    list of str
        Kinds and names of results for which the document has no marker.
    """
    written = set()

    def replace(match: re.Match) -> str:
        kind, name = match.groups()
        written.add((kind, name))
        try:
            text = SECTIONS[kind](name)
        except FileNotFoundError:
            text = "`python -m benchmarks {kind}` has not been run yet for {name}."
        return f"<!-- report {kind} {name} -->\n{text}\n<!-- end -->"

    path.write_text(MARKED.sub(replace, path.read_text()))
    stored = {("compiled", file.stem) for file in RESULTS.glob("compiled/*.csv")}
    for kind in ("accelerator", "scaling"):
        stored |= {(kind, file.parent.name) for file in RESULTS.glob(f"*/{kind}.csv")}
    return [f"{kind} {name}" for kind, name in sorted(stored - written)]


def compiled_table(target: str) -> str:
    """Return the table of the programs that are compiled for a device.

    Parameters
    ----------
    target : str
        Name of the target.

    Returns
    -------
    str
        Markdown.
    """
    columns = {
        "system": lambda row: f"{row['system']}, width {row['width']}",
        "runs": lambda row: row["runs"],
        "precision": lambda row: row["precision"],
        "kernels a step": lambda row: f"{row['kernels_step']:,}",
        "of these copies": lambda row: row["copy"],
        "GiB a step": lambda row: f"{row['gib_step']:.3g}",
        "in copies": lambda row: f"{row['gib_copies']:.2g}",
        "kernels an epoch besides": lambda row: f"{row['kernels_epoch']:,}",
        "copies of the data, collectives, host calls": lambda row: (
            f"{row['data_copies_step']}, {row['collectives']}, {row['host_calls']}"
        ),
        "memory, GiB": lambda row: f"{row['temp_gib'] + row['argument_gib']:.2g}",
        "lowering and compilation, s": lambda row: f"{row['lower_s']:.0f} + {row['compile_s']:.0f}",
    }
    command = f"`python -m benchmarks compiled --target {target} --out benchmarks/results/compiled/{target}.csv`"
    return f"{command}:\n\n{_table(read_rows(RESULTS / 'compiled' / f'{target}.csv'), columns)}"


def accelerator_table(device: str) -> str:
    """Return the table of the measurements on a device, without those of small sizes.

    Parameters
    ----------
    device : str
        Name of the folder of results.

    Returns
    -------
    str
        Markdown.
    """
    everything = read_rows(RESULTS / device / "accelerator.csv")
    stored = [row for row in everything if row["small"] != "True"]
    if not stored:
        n_measured = sum(row["status"] == "measured" for row in everything)
        return f"`python -m benchmarks accelerator --small` on {device}: {n_measured} of {len(everything)} cases ran."
    rows = list({(row["case"], row["round"]): row for row in stored}.values())
    cases = [_median_row(select(rows, case=name)) for name in dict.fromkeys(row["case"] for row in rows)]
    ceilings = next((row for row in cases if row["case"] == "ceilings"), None)
    cases = [row for row in cases if row["case"] != "ceilings"]

    def number(column: str, text: str = "{:.3g}") -> Callable[[Row], str]:
        return lambda row: text.format(row[column]) if isinstance(row[column], float | int) else ""

    def ratio(row: Row) -> str:
        if row["library"] != "jaxephys":
            return ""
        column = "wall_s" if row["system"] == "embedding" else "ms_run_step"
        torch = [
            (other["library"].removeprefix("torch "), other[column] / row[column])
            for other in cases
            if other["library"] != "jaxephys"
            and (other["system"], other["width"]) == (row["system"], row["width"])
            and (other["precision"] == "bfloat16") == (row["precision"] == "bfloat16")
            and all(isinstance(some[column], float | int) for some in (row, other))
        ]
        return ", ".join(f"{mode} {value:.2g}" for mode, value in torch)

    columns = {
        "case": lambda row: row["case"],
        "width": lambda row: row["width"],
        "runs": lambda row: row["runs"],
        "execution": lambda row: row["execution"],
        "precision": lambda row: row["precision"],
        "compiled in, s": number("compile_s", "{:.0f}"),
        "ms a step": number("ms_step"),
        "ms a run and step": number("ms_run_step"),
        "total, s": number("wall_s"),
        "PyTorch's time / ours": ratio,
        "bytes": number("bandwidth", "{:.0%}"),
        "products": number("arithmetic", "{:.0%}"),
        "kernels": number("kernels_step", "{:,}"),
        "GiB": number("peak_gib", "{:.2g}"),
        "same bits": lambda row: {"True": "yes", "False": "no"}.get(str(row["same_bits"]), ""),
        "": lambda row: "" if row["status"] == "measured" else str(row["status"])[:80],
    }
    text = "`python -m benchmarks accelerator`"
    if cases:
        text += f" on {cases[0]['device'] or device}, {cases[0]['date']} ({cases[0]['versions']})"
    if ceilings is not None:
        rates = ", ".join(
            f"{name.removesuffix('_tflop_s')} {ceilings[name]:.3g} TFLOP/s"
            for name in ("float32_tflop_s", "tf32_tflop_s", "bfloat16_tflop_s")
            if isinstance(ceilings[name], float | int)
        )
        text += f"; the ceilings are {ceilings['copy_gb_s']:.3g} GB/s of copies and, for products, {rates}"
    return f"{text}:\n\n{_table(cases, columns)}"


def scaling_figure(device: str) -> str:
    """Return the figure of the curves, and the table of runs.

    Parameters
    ----------
    device : str
        Name of the folder of results.

    Returns
    -------
    str
        Markdown.
    """
    stored = [row for row in read_rows(RESULTS / device / "scaling.csv") if row["status"] == "measured"]
    rows = list({(row["kind"], row["system"], row["value"]): row for row in stored}.values())
    runs = sorted({row["value"] for row in select(rows, kind="runs")})
    lines: list[dict[Any, Any]] = []
    for system in dict.fromkeys(row["system"] for row in rows):
        times = {row["value"]: row["ms_step"] for row in select(rows, kind="runs", system=system)}
        lines.append({"system": system} | {value: times.get(value) for value in runs})

    def rate(value: Any) -> Callable[[Row], str]:
        return lambda row: f"{1e3 * value / row[value]:,.3g}" if row[value] else ""

    columns: dict[str, Callable[[Row], Any]] = {"steps a second of all runs": lambda row: row["system"]}
    columns |= {f"{value} run{'s' * (value > 1)}": rate(value) for value in runs}
    return f"`python -m benchmarks scaling` on {device}:\n\n![Scaling](results/{device}/scaling.png)\n\n{_table(lines, columns)}"


def _median_row(rows: Sequence[Row]) -> Row:
    """The last row, with the median over rounds of what is measured."""
    measured = [row for row in rows if row["status"] == "measured"] or list(rows)
    row = dict(measured[-1])
    for name in ("ms_step", "ms_run_step", "wall_s"):
        if all(isinstance(some[name], float | int) for some in measured):
            row[name] = statistics.median(some[name] for some in measured)
    return row


def _table(rows: Sequence[Row], columns: dict[str, Callable[[Row], Any]]) -> str:
    """A Markdown table, without columns that are empty in all rows."""
    cells = {title: [str(cell(row)) for row in rows] for title, cell in columns.items()}
    cells = {title: column for title, column in cells.items() if any(column)}
    lines = [
        " | ".join(cells),
        " | ".join("---" for _ in cells),
        *(" | ".join(row) for row in zip(*cells.values(), strict=True)),
    ]
    return "\n".join(f"| {line} |" for line in lines)


SECTIONS: dict[str, Callable[[str], str]] = {
    "compiled": compiled_table,
    "accelerator": accelerator_table,
    "scaling": scaling_figure,
}
