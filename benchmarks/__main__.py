"""Command line of the benchmarks.

python -m benchmarks                          list the benchmarks
python -m benchmarks run NAME [options]       run one, as python -m benchmarks.NAME does
python -m benchmarks report [NAME ...]        summarize the stored measurements
"""

from __future__ import annotations

import argparse
import ast
import importlib
import sys
from pathlib import Path

from benchmarks.runner import RESULTS, read_rows

FOLDER = Path(__file__).parent
SHARED = ("__init__", "__main__", "patchseq_runs", "runner")  # modules that are not benchmarks


def list_benchmarks() -> dict[str, str]:
    """Return the benchmarks and the first lines of their docstrings, without importing them.

    Returns
    -------
    dict of str to str
        Descriptions by name, sorted by name.
    """
    paths = sorted(path for path in FOLDER.glob("*.py") if path.stem not in SHARED)
    docs = {path.stem: ast.get_docstring(ast.parse(path.read_text())) or "" for path in paths}
    return {name: doc.splitlines()[0] if doc else "" for name, doc in docs.items()}


def main(arguments: list[str] | None = None) -> None:
    """List, run or report benchmarks.

    Parameters
    ----------
    arguments : list of str, optional
        Arguments of the command line; by default those of this process.
    """
    names = list_benchmarks()
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", metavar="command")
    commands.add_parser("list", help="list the benchmarks (default)")
    run = commands.add_parser("run", help="run a benchmark", add_help=False)
    run.add_argument("name", choices=names, nargs="?")
    report = commands.add_parser("report", help="summarize stored measurements")
    report.add_argument("name", nargs="*", help="benchmarks; all that have measurements by default")
    chosen, options = parser.parse_known_args(arguments)
    if options and chosen.command != "run":
        parser.error(f"unrecognized arguments: {' '.join(options)}")
    if chosen.command == "run" and chosen.name:
        sys.argv[0] = f"python -m benchmarks run {chosen.name}"  # the name of the program in --help
        importlib.import_module(f"benchmarks.{chosen.name}").main(options)
    elif chosen.command == "report":
        if unknown := set(chosen.name) - set(names):
            parser.error(f"there is no benchmark {unknown.pop()!r}: choose from {', '.join(names)}")
        for name in chosen.name or [name for name in names if (RESULTS / f"{name}.csv").exists()]:
            path = RESULTS / f"{name}.csv"
            if not path.exists():
                sys.exit(f"error: {path} does not exist: run the benchmark first")
            print(f"{name}: {names[name]}")
            importlib.import_module(f"benchmarks.{name}").summarize(read_rows(path))
            print()
    else:
        for name, description in names.items():
            print(f"{name:<18} {description}")
        print("\npython -m benchmarks run NAME [options], and --help after NAME for its options")


if __name__ == "__main__":
    main()
