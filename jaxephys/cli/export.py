"""The command ``export``: write a trained model as a program, or as arrays, that need not be read by this package."""

from __future__ import annotations

import argparse
from typing import Any

from jaxephys.models.export import FORMATS, export_model
from jaxephys.models.loading import load

EXPORT = """Write a trained model as a program that runs without its classes.

stablehlo  the whole computation, weights, scaling and calibration included, for any number of samples on CPUs, NVIDIA GPUs and TPUs.
           jaxephys.models.export.load_exported and jax.export.deserialize read it. It needs the extra export.
numpy      the arrays alone, in params.npz, with a table of their names and shapes.

README.md in the new folder describes inputs and outputs.

example: python -m jaxephys export interneurons interneurons_program --format stablehlo"""


def add_command(commands: Any) -> None:
    """Add the command to the command line.

    Parameters
    ----------
    commands : argparse subparsers
        What ``ArgumentParser.add_subparsers`` returns. The new parser stores its function as ``call``.
    """
    form = argparse.RawDescriptionHelpFormatter
    parser = commands.add_parser(
        "export", help="write a model as StableHLO or NumPy arrays", description=EXPORT, formatter_class=form
    )
    parser.add_argument("model", help="folder of a saved model, or of an experiment")
    parser.add_argument("out", help="folder to create")
    parser.add_argument("--format", choices=FORMATS, default=FORMATS[0], help="what to write (default %(default)s)")
    parser.set_defaults(call=export_text)


def export_text(arguments: argparse.Namespace) -> str:
    """Export a model and describe what was written.

    Parameters
    ----------
    arguments : argparse.Namespace
        ``model``, ``out`` and ``format``.

    Returns
    -------
    str
        The model, its inputs and outputs, and the folder.
    """
    model = load(arguments.model)
    folder = export_model(model, arguments.out, arguments.format)
    program = model.export_program()
    arrays = [
        f"{heading} {array.name} ({array.shape}): {array.description}"
        for heading, some in (("input", program.inputs), ("output", program.outputs))
        for array in some
    ]
    return "\n".join([model.describe(), *arrays, f"-> {folder}"])
