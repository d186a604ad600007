"""``python -m experiments`` lists the experiments, compares finished runs, and writes the results page.

    python -m experiments                                           list of the experiments
    python -m experiments compare RUN RUN ... [--metric NAME] [--out FILE.md]
    python -m experiments results RUNS ... [--out docs/results.md]

RUN is a run folder. RUNS are run folders, or folders that contain them: unfinished runs in them are left out.
"""

from __future__ import annotations

import argparse
import ast
import sys
from pathlib import Path

from rich.console import Console

from jaxephys.reporting.files import write_text
from jaxephys.reporting.markdown import table_to_markdown
from jaxephys.reporting.published_values import PublishedPaper
from jaxephys.reporting.results_page import results_page
from jaxephys.reporting.run_comparison import compare_runs
from jaxephys.reporting.saved_run import SavedRun, read_run
from jaxephys.reporting.tables import print_table

TABLE_WIDTH = 140  # characters
SHARED = ("__init__", "__main__", "command_line")  # modules that are not experiments


def list_experiments() -> dict[str, str]:
    """Return the experiments and the first lines of their docstrings, without importing them.

    Returns
    -------
    dict of str to str
        Descriptions by module name, sorted by name.
    """
    modules = sorted(path for path in Path(__file__).parent.glob("*.py") if path.stem not in SHARED)
    docs = {path.stem: ast.get_docstring(ast.parse(path.read_text())) or "" for path in modules}
    return {name: doc.splitlines()[0] if doc else "" for name, doc in docs.items()}


def find_runs(folders: list[Path]) -> list[SavedRun]:
    """Read the finished runs in folders.

    Parameters
    ----------
    folders : list of Path
        Run folders, or folders that contain them at any depth.

    Returns
    -------
    list of SavedRun
        Runs in the order of their experiments and folders.

    Raises
    ------
    ValueError
        If a folder holds no finished run.
    """
    runs = []
    for folder in folders:
        found = [folder] if (folder / "config.json").exists() else [path.parent for path in folder.rglob("config.json")]
        finished = [path for path in found if (path / "scores.csv").exists() and (path / "manifest.json").exists()]
        if not finished:
            raise ValueError(f"{folder} holds no finished run of an experiment: give a run folder or its parent")
        runs += [read_run(path) for path in finished]
    return sorted(runs, key=lambda run: (run.experiment, run.path.name))


def papers() -> list[PublishedPaper]:
    """Return the published tables and figures of the three systems.

    Returns
    -------
    list of PublishedPaper
        In the order of the results page.
    """
    from jaxephys.hippie import published_values as hippie
    from jaxephys.patchseq import published_values as patchseq
    from jaxephys.spikes import published_values as spikes

    return [patchseq.PUBLISHED, hippie.PUBLISHED, spikes.PUBLISHED]


def main(arguments: list[str]) -> int:
    """List the experiments, compare runs or write the results page.

    Parameters
    ----------
    arguments : list of str
        Arguments of the command line.

    Returns
    -------
    int
        Exit status: 0, or 2 after a message in one sentence.
    """
    if not arguments:
        for name, line in list_experiments().items():
            print(f"experiments.{name:<18} {line}")
        print("\npython -m experiments.NAME [PRESET] [--field value ...], and --help for its presets and fields")
        print(
            "python -m experiments compare RUN RUN ..., python -m experiments results RUNS ... [--out docs/results.md]"
        )
        return 0
    parser = argparse.ArgumentParser("python -m experiments", description="Compare finished runs of the experiments.")
    commands = parser.add_subparsers(dest="command", required=True)
    compare = commands.add_parser("compare", help="settings that differ, scores side by side, paired differences")
    compare.add_argument("runs", type=Path, nargs="+", help="run folders; the first one is the reference")
    compare.add_argument("--metric", action="append", default=[], help="metric of scores.csv; may be given repeatedly")
    results = commands.add_parser("results", help="published, reproduced, our and baseline scores of every table")
    results.add_argument("runs", type=Path, nargs="+", help="run folders, or folders that contain them")
    for command in (compare, results):
        command.add_argument("--out", type=Path, help="Markdown file to write; by default it is printed")
    options = parser.parse_args(arguments)
    try:
        if options.command == "results":
            _show(results_page(papers(), find_runs(options.runs)), options.out)
            return 0
        tables = compare_runs([read_run(path) for path in options.runs], options.metric)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if options.out is None:
        screen = Console()
        screen.width = max(screen.width, TABLE_WIDTH)  # a wrapped table is hard to read
        for heading, table in tables.items():
            screen.print(f"\n{heading}", style="bold")
            print_table(table, screen)
    else:
        sections = [f"## {heading}\n\n{table_to_markdown(table)}" for heading, table in tables.items()]
        _show("# Comparison of runs\n\n" + "\n".join(sections), options.out)
    return 0


def _show(text: str, path: Path | None) -> None:
    if path is None:
        print(text)
    else:
        print(write_text(path, text))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
