"""``python -m data_prep SYSTEM COMMAND``: convert recordings into the files that ``jaxephys`` reads."""

from __future__ import annotations

import importlib
import sys

from data_prep.cli import report_missing_package

SYSTEMS = {
    "patchseq": "current-clamp recordings (NWB, or a table of features) -> feature families, labels, one table",
    "units": "sorted units (spike times and templates, or tables of features) -> waveform, intervals, autocorrelogram",
    "spikes": "spike times of sorted units (asdf, IBL, NumPy, NWB), or simulated populations -> packed bins with splits",
}


def main(arguments: list[str] | None = None) -> int:
    """Run a command of ``python -m data_prep``.

    Parameters
    ----------
    arguments : list of str, optional
        System, command and options; by default those of the process. Without a system the list of systems is printed.

    Returns
    -------
    int
        Exit status: 0, or 2 after an error that the user can correct.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] not in SYSTEMS:
        unknown = f"there is no {arguments[0]!r}\n\n" if arguments and not arguments[0].startswith("-") else ""
        systems = "\n".join(f"  {name:<10} {line}" for name, line in SYSTEMS.items())
        print(f"{unknown}python -m data_prep SYSTEM COMMAND ...\n\n{systems}\n")
        print("List of commands and options: python -m data_prep SYSTEM --help")
        return 2 if unknown else 0
    try:
        cli = importlib.import_module(f"data_prep.{arguments[0]}.cli")
    except ModuleNotFoundError as error:
        return report_missing_package(error)
    return cli.main(arguments[1:])


if __name__ == "__main__":
    sys.exit(main())
