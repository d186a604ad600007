"""Run the command line of one system: tyro parses its commands, and every expected error is printed as one sentence."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tyro


def run(
    system: str,
    description: str | None,
    commands: Mapping[str, Callable[..., Any]],
    arguments: Sequence[str],
    errors: tuple[type[Exception], ...],
) -> int:
    """Run a command of ``python -m data_prep SYSTEM``.

    Parameters
    ----------
    system : str
        "patchseq", "units" or "spikes".
    description : str or None
        Text of ``--help`` above the list of commands.
    commands : mapping of str to callable
        Function of each command; its signature defines the options and its docstring the help.
    arguments : sequence of str
        Command and options as the user typed them.
    errors : tuple of exception types
        Errors that the user can correct; their message is printed without a traceback.

    Returns
    -------
    int
        Exit status: 0, 2 after an error that the user can correct, 130 after Ctrl-C.
    """
    try:
        tyro.extras.subcommand_cli_from_dict(
            dict(commands),
            prog=f"python -m data_prep {system}",
            description=description,
            args=list(arguments),
            config=(tyro.conf.FlagCreatePairsOff,),
        )
    except errors as error:
        print(error, file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        return report_missing_package(error)
    except KeyboardInterrupt as interruption:
        print(str(interruption) or "stopped", file=sys.stderr)  # the message of a long run names what is stored
        return 130
    return 0


def report_missing_package(error: ModuleNotFoundError) -> int:
    """Print which extra installs a missing package.

    Parameters
    ----------
    error : ModuleNotFoundError
        The error. If a module of this project is missing, it is a defect and is raised again.

    Returns
    -------
    int
        Exit status 2.
    """
    if (error.name or "").split(".")[0] in ("data_prep", "jaxephys"):
        raise error
    print(f'this needs {error.name}: pip install "jaxephys[prep]"', file=sys.stderr)
    return 2
