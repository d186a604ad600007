"""The command line ``jaxephys``, which is also ``python -m jaxephys``.

``main`` builds the parser. The commands of a system are in its ``cli.py``; each registers a function under ``call`` that takes the
parsed arguments and returns the text to print. ``jaxephys.cli.experiments`` is the command ``jaxephys-experiments``.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

DESCRIPTION = """Train, inspect and apply models of electrophysiology data.

Without a command the doctor runs: it prints the versions of JAX and of the libraries that jaxephys needs, and times a matrix
product on every device. The command plan estimates what an experiment needs before it is run. The commands push and
fetch share a model on the Hugging Face hub, and export writes it for other programs. The other commands apply a saved model, a folder that the
save method of an estimator or an experiment has written, to a file that data_prep has written."""
EPILOG = "Every command has its own help: %(prog)s COMMAND --help"


def main(arguments: list[str] | None = None) -> int:
    """Run one command of ``jaxephys``.

    An error that the user can correct is printed as one sentence.

    Parameters
    ----------
    arguments : list of str, optional
        Arguments without the name of the program; by default those of the process.

    Returns
    -------
    int
        Exit status: 0 on success, 1 if the doctor finds a GPU that is not used, 2 after an error.
    """
    # Imported here, since each starts JAX, which `jaxephys-experiments` does not need for its list.
    import jaxephys.hippie.cli
    import jaxephys.patchseq.cli
    import jaxephys.spikes.cli
    from jaxephys.cli import doctor, export, info, plan, share

    program = "jaxephys" if Path(sys.argv[0]).stem == "jaxephys" else "python -m jaxephys"
    parser = argparse.ArgumentParser(
        prog=program, description=DESCRIPTION, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    commands.add_parser("doctor", help="check versions and devices (the default)", description=doctor.__doc__)
    info.add_command(commands)
    plan.add_command(commands)
    export.add_command(commands)
    share.add_commands(commands)
    for module in (jaxephys.patchseq.cli, jaxephys.hippie.cli, jaxephys.spikes.cli):
        module.add_commands(commands)
    parsed = parser.parse_args(arguments)
    try:
        if parsed.command in (None, "doctor"):
            return doctor.run()
        print(parsed.call(parsed))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"error: {where}{error.strerror or error}", file=sys.stderr)
        return 2
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0
