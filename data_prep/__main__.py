"""``python -m data_prep SYSTEM COMMAND``: convert recordings into the files that ``jaxephys`` reads."""

from __future__ import annotations

import importlib
import os
import sys

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
        Exit status: 0, 2 after an error that the user can correct, 130 after Ctrl-C, or 141 if the program that reads
        the output (such as ``head``) has ended.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        try:
            return _run(arguments)
        finally:  # after --help, too, which exits
            sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes once more at its end
        return 141
    except KeyboardInterrupt as interruption:
        print(str(interruption) or "stopped", file=sys.stderr)  # the message of a long run names what is stored
        return 130
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] in ("data_prep", "jaxephys"):
            raise  # a defect of this project
        print(f'this needs {error.name}: pip install "jaxephys[prep]"', file=sys.stderr)
        return 2


def _run(arguments: list[str]) -> int:
    if not arguments or arguments[0] not in SYSTEMS:
        unknown = f"there is no {arguments[0]!r}\n\n" if arguments and not arguments[0].startswith("-") else ""
        systems = "\n".join(f"  {name:<10} {line}" for name, line in SYSTEMS.items())
        print(f"{unknown}python -m data_prep SYSTEM COMMAND ...\n\n{systems}\n")
        print("List of commands and options: python -m data_prep SYSTEM --help")
        return 2 if unknown else 0
    import tyro

    from jaxephys.schemas.storage import DataError

    cli = importlib.import_module(f"data_prep.{arguments[0]}.cli")
    try:
        tyro.extras.subcommand_cli_from_dict(
            cli.COMMANDS,
            prog=f"python -m data_prep {arguments[0]}",
            description=cli.DESCRIPTION,
            args=arguments[1:],
            config=(tyro.conf.FlagCreatePairsOff,),
        )
    except DataError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
