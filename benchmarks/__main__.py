"""Command line of the benchmarks.

python -m benchmarks                          list the benchmarks
python -m benchmarks accelerator [options]    all systems on the device at hand, against PyTorch and against the device's limits
python -m benchmarks compiled [options]       the programs compiled for a GPU or a TPU that is not at hand: kernels, bytes, memory
python -m benchmarks scaling [options]        speed against the number of runs, bins, units and devices, with a figure
python -m benchmarks run NAME [options]       one of the other benchmarks
python -m benchmarks report                   write the tables of README.md from the stored measurements
python -m benchmarks report NAME ...          print a summary of stored measurements

--help after a command or NAME describes its options and its results.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import sys
from pathlib import Path
from typing import Any

from benchmarks.report import README, update_readme
from benchmarks.runner import RESULTS, read_rows

FOLDER = Path(__file__).parent
COMMANDS = ("accelerator", "compiled", "scaling")  # benchmarks with a command of their own
SHARED = ("__init__", "__main__", "cases", "hlo", "report", "runner", "worker")  # modules that are not benchmarks


def list_benchmarks() -> dict[str, str]:
    """Return the benchmarks and the first lines of their docstrings, without importing them.

    Returns
    -------
    dict of str to str
        Descriptions by name: first those with a command of their own, then the others, sorted.
    """
    paths = sorted(path for path in FOLDER.glob("*.py") if path.stem not in SHARED)
    paths.sort(key=lambda path: path.stem not in COMMANDS)
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
    summarized = [name for name in names if name not in COMMANDS]
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", metavar="command")
    commands.add_parser("list", help="list the benchmarks (default)")
    for name in COMMANDS:
        commands.add_parser(name, help=names[name], add_help=False)
    run = commands.add_parser("run", help="run a benchmark", add_help=False)
    run.add_argument("name", choices=names, nargs="?")
    report = commands.add_parser("report", help="write the tables of README.md, or print a summary")
    report.add_argument("name", nargs="*", help=f"print a summary of {', '.join(summarized)}")
    chosen, options = parser.parse_known_args(arguments)
    name: Any = chosen.command if chosen.command in COMMANDS else getattr(chosen, "name", None)
    if options and chosen.command not in ("run", *COMMANDS):
        parser.error(f"unrecognized arguments: {' '.join(options)}")
    if chosen.command in ("run", *COMMANDS) and name:
        sys.argv[0] = f"python -m benchmarks run {name}"  # the name of the program in --help
        importlib.import_module(f"benchmarks.{name}").main(options)
    elif chosen.command == "report" and not name:
        print(f"written: {README}")
        for missing in update_readme():
            print(f"no marker in it for {missing}: add <!-- report {missing} --> and <!-- end -->")
    elif chosen.command == "report":
        if unknown := set(name) - set(summarized):
            parser.error(f"there is no summary of {unknown.pop()!r}: choose from {', '.join(summarized)}")
        for one in name:
            path = RESULTS / f"{one}.csv"
            if not path.exists():
                sys.exit(f"error: {path} does not exist: run the benchmark first")
            print(f"{one}: {names[one]}")
            importlib.import_module(f"benchmarks.{one}").summarize(read_rows(path))
            print()
    else:
        for name, description in names.items():
            command = f"{'' if name in COMMANDS else 'run '}{name}"
            print(f"python -m benchmarks {command:22} {description}")
        print("\n--help after it for its options; python -m benchmarks report writes the tables of README.md")


if __name__ == "__main__":
    main()
