"""The command ``jaxephys-experiments``: list the experiments, run one, or compare finished runs.

It works from an installed package and from a checkout.
"""

from __future__ import annotations

import difflib
import runpy
import sys
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
USAGE = """jaxephys-experiments NAME [PRESET] [--field value ...], and --help for its presets and fields
jaxephys-experiments compare RUN RUN ...
jaxephys-experiments results RUNS ... [--out FILE.md]"""
RUN_COMMANDS = ("compare", "results")  # commands on finished runs


def main(arguments: list[str] | None = None) -> int:
    """List the experiments, or run one of them.

    Parameters
    ----------
    arguments : list of str, optional
        Name of the experiment, "compare" or "results", and its arguments; by default those of the process. Without a name the
        experiments are listed.

    Returns
    -------
    int
        Exit status: 0 after the list, 2 for an unknown name. Experiments and commands end the process with their own status.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        experiments = find_experiments()
    except FileNotFoundError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if not arguments or arguments[0] in ("-h", "--help"):
        width = max(map(len, experiments))
        print("\n".join(f"{name:<{width}}  {description}" for name, description in experiments.items()))
        print(f"\n{USAGE}")
        return 0
    name, *rest = arguments
    if name in RUN_COMMANDS:
        sys.argv = ["jaxephys-experiments", *arguments]
        runpy.run_module("experiments", run_name="__main__", alter_sys=True)
        return 0
    if name not in experiments:
        close = difflib.get_close_matches(name, experiments, n=1)
        hint = f"did you mean {close[0]}?" if close else "run jaxephys-experiments for a list"
        print(f"error: there is no experiment {name!r}: {hint}", file=sys.stderr)
        return 2
    sys.argv = [f"jaxephys-experiments {name}", *rest]
    runpy.run_module(f"experiments.{name}", run_name="__main__", alter_sys=True)
    return 0


def find_experiments() -> dict[str, str]:
    """Make the package ``experiments`` importable and list its modules.

    Returns
    -------
    dict of str to str
        First lines of the docstrings by name of the experiment.

    Raises
    ------
    FileNotFoundError
        If there are no experiments.
    """
    folder = str(experiments_folder())
    if sys.path[0] != folder:
        sys.path.insert(0, folder)
    # The experiments are no part of the package, so the function that lists them is not imported but looked up.
    return runpy.run_module("experiments.__main__", run_name="list")["list_experiments"]()


def experiments_folder() -> Path:
    """Return the folder that contains the package ``experiments``.

    Returns
    -------
    Path
        ``jaxephys/bundled`` in an installed package, the root of the repository in a checkout.

    Raises
    ------
    FileNotFoundError
        If there is neither.
    """
    for folder in (PACKAGE / "bundled", PACKAGE.parent):
        if (folder / "experiments" / "__main__.py").exists():
            return folder
    raise FileNotFoundError(
        "this installation of jaxephys contains no experiments: install it from its wheel or a checkout"
    )
