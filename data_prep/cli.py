"""The command line of one system: its verbs by tyro, and one sentence for whatever stops it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tyro


def run(
    system: str,
    description: str | None,
    verbs: Mapping[str, Callable[..., Any]],
    arguments: Sequence[str],
    errors: tuple[type[Exception], ...],
) -> int:
    """Exit status of ``python -m data_prep SYSTEM VERB ...``; of `errors`, which a user can mend, only the sentence is shown."""
    try:
        tyro.extras.subcommand_cli_from_dict(
            dict(verbs),
            prog=f"python -m data_prep {system}",
            description=description,
            args=list(arguments),
            config=(tyro.conf.FlagCreatePairsOff,),
        )
    except errors as error:
        print(error, file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        return lacking(error)
    except KeyboardInterrupt as stop:
        print(str(stop) or "stopped", file=sys.stderr)  # a long run says what it has kept
        return 130
    return 0


def lacking(error: ModuleNotFoundError) -> int:
    """Say which extra brings a missing library; a missing module of our own is a defect and stays an error."""
    if (error.name or "").split(".")[0] == "data_prep":
        raise error
    print(f'this needs {error.name}: pip install "jaxephys[prep]"', file=sys.stderr)
    return 2
