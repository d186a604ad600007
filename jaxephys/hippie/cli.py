"""Commands of ``python -m jaxephys`` for sorted units: convert, embed, classify, impute, counterfactual, traverse, validate.

Each command but validate writes one file and returns a description of it.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import balanced_accuracy_score

from jaxephys.hippie.estimator import Hippie
from jaxephys.hippie.inference import TRAVERSAL_VALUES
from jaxephys.hippie.leakage_audit import audit
from jaxephys.hippie.preprocessing import ORDERS, prepare
from jaxephys.hippie.pretrained import open_model
from jaxephys.hippie.probes import PROBES, predict_classes
from jaxephys.reporting.files import write_csv
from jaxephys.schemas.storage import write_npz
from jaxephys.schemas.unit_table import TECHNOLOGIES, UnitTable


def add_commands(commands: Any) -> None:
    """Add the parsers of the commands. Each sets ``call`` to the function of this module that runs it.

    Parameters
    ----------
    commands : argparse subparsers
        Result of ``ArgumentParser.add_subparsers``.
    """

    def add(call: Any, summary: str, *positional: tuple[str, str]) -> argparse.ArgumentParser:
        description = call.__doc__.partition("\n\n    Parameters")[0]
        parser = commands.add_parser(call.__name__, help=summary, description=description)
        for argument, text in positional:
            parser.add_argument(argument, help=text)
        parser.set_defaults(call=call)
        return parser

    def add_for_model(call: Any, summary: str, out: str) -> argparse.ArgumentParser:
        models = "a saved model, a run of an experiment, or a PyTorch checkpoint of HIPPIE"
        parser = add(call, summary, ("model", models), units)
        parser.add_argument("--recorded", help="recording technology of all units (default: that of the table)")
        fetch = "download MODEL from the Hugging Face hub if it is owner/name, or hippie_techcond_v1.ckpt and not on this machine"
        parser.add_argument("--fetch", action="store_true", help=fetch)
        parser.add_argument("--out", default=out, help="output file (default %(default)s)")
        return parser

    units = ("units", "a units.npz, its folder, or a folder of CSV files")
    checkpoint = ("checkpoint", "hippie_techcond_v1.ckpt, or another PyTorch state dict of HIPPIE")
    parser = add(convert, "convert a published HIPPIE checkpoint", checkpoint, ("out", "new folder of the model"))
    order = "resample raw curves before scaling, as the model card, or after it, as the original's training (default %(default)s)"
    parser.add_argument("--order", default="card", choices=ORDERS, help=order)
    add(validate, "check a table of units for leakage", units)
    add_for_model(embed, "embed units", "embeddings.npz")
    parser = add_for_model(classify, "predict the class of units", "classes.csv")
    parser.add_argument("--reference", help="labelled units (default: the labelled units of the table itself)")
    parser.add_argument("--probe", default="knn", choices=PROBES, help="classifier of embeddings (default %(default)s)")
    parser = add_for_model(impute, "predict a missing curve", "imputed.npz")
    parser.add_argument("--modality", required=True, help="curve to predict: wave, isi or acg")
    parser = add_for_model(counterfactual, "predict another technology", "counterfactual.npz")
    parser.add_argument("--technology", required=True, help=", ".join(TECHNOLOGIES))
    parser = add_for_model(traverse, "vary one latent dimension, or go from class to class", "traversed.npz")
    default_dimension = "the one with the largest variance over units"
    parser.add_argument("--dimension", type=int, help=f"latent dimension, from 0 (default: {default_dimension})")
    values = {"type": float, "nargs": "+", "default": TRAVERSAL_VALUES}
    parser.add_argument("--values", **values, help="values of the dimension (default %(default)s)")
    ends = {"nargs": 2, "metavar": ("START", "END")}
    parser.add_argument("--between", **ends, help="two classes, whose mean latents are the ends of a path")
    parser.add_argument("--steps", type=int, default=11, help="points of that path (default %(default)s)")


def convert(arguments: argparse.Namespace) -> str:
    """Convert a PyTorch checkpoint to a saved model, without PyTorch and without executing code in the file.

    Parameters
    ----------
    arguments : argparse.Namespace
        ``checkpoint``, ``out`` and ``order``.

    Returns
    -------
    str
        Description of the model.
    """
    model = Hippie.from_checkpoint(arguments.checkpoint, order=arguments.order)
    folder = model.save(arguments.out)
    tables = ", ".join(f"{size} x {slot}" for slot, size in model.network_.slots.items()) or "none"
    return (
        f"{model.describe()}\nbase width {model.network_.width}; conditions: {tables}; every tensor is used\n"
        f"an absent curve is encoded as the constant of the original, because the network has no mask token\n-> {folder}"
    )


def embed(arguments: argparse.Namespace) -> str:
    """Embed units and write ``embeddings`` (unit, latent) with names, labels and technologies of the units.

    Parameters
    ----------
    arguments : argparse.Namespace
        ``model``, ``units``, ``recorded`` and ``out``.

    Returns
    -------
    str
        Description of the file.
    """
    model, units = _open(arguments)
    embeddings = model.embed(units)
    description = f"{len(units)} units in {embeddings.shape[1]} dimensions"
    return _write(arguments.out, units, description, embeddings=embeddings)


def classify(arguments: argparse.Namespace) -> str:
    """Predict the class of units and write a CSV file with a probability for each class.

    A probe is fitted on the embeddings of labelled units, those of ``--reference`` or the labelled ones of the table, and predicts the class
    of all other units. Its probabilities are not calibrated.

    Parameters
    ----------
    arguments : argparse.Namespace
        ``model``, ``units``, ``reference``, ``probe``, ``recorded`` and ``out``.

    Returns
    -------
    str
        Description of the file: number of units of each class, and the balanced accuracy on units with a known class.

    Raises
    ------
    ValueError
        If there is no labelled or no other unit.
    """
    model, units = _open(arguments)
    labelled = units if arguments.reference is None else UnitTable.read(arguments.reference)
    rows = np.flatnonzero(labelled.label != "")
    others = np.flatnonzero(~np.isin(units.name, labelled.name[rows]))
    if not len(rows) or not len(others):
        missing = "no labelled unit" if not len(rows) else "no unit outside the reference"
        raise ValueError(f"there is {missing}: give labelled units with --reference, and other units to classify")
    reference, query = labelled.with_technology(arguments.recorded).rows(rows), units.rows(others)
    predicted = predict_classes(model.embed(reference), reference.label, model.embed(query), arguments.probe)
    columns = ("unit", "prediction", "confidence", *(f"prob_{name}" for name in predicted.classes))
    confidence = predicted.probability.max(axis=1)
    lines_of_file = zip(query.name, predicted.label, confidence, *predicted.probability.T, strict=True)
    write_csv(Path(arguments.out), columns, lines_of_file)
    chosen = "" if predicted.k is None else f" (k = {predicted.k}, chosen by inner folds)"
    lines = [f"{arguments.probe}{chosen} on the embeddings of {len(reference)} labelled units"]
    if arguments.reference is not None and len(query) < len(units):
        lines.append(f"{len(units) - len(query)} units of the table are in the reference, by name, and are left out")
    lines += [f"{name}: {count} units" for name, count in sorted(Counter(predicted.label.tolist()).items())]
    known = np.isin(query.label, predicted.classes)
    if known.any():
        accuracy = balanced_accuracy_score(query.label[known], predicted.label[known])
        lines.append(f"balanced accuracy {accuracy:.3f} on the {known.sum()} units with a known class")
        if seen := int(model.seen(query)[known].sum()):
            lines.append(f"the network was trained on {seen} of them, so that this may be too high for new units")
    return "\n".join([*lines, f"-> {arguments.out}"])


def impute(arguments: argparse.Namespace) -> str:
    """Predict one curve of every unit from its other curves; write ``mean``, ``sd`` and ``measured`` (unit, sample), scaled to [-1, 1].

    Parameters
    ----------
    arguments : argparse.Namespace
        ``model``, ``units``, ``modality``, ``recorded`` and ``out``.

    Returns
    -------
    str
        Description of the file, with the error where the curve was measured.
    """
    model, units = _open(arguments)
    imputed = model.impute(units, arguments.modality)
    prepared = prepare(units.raw, model.preparation_)
    index = [name for name, _ in model.network_.modalities].index(arguments.modality)
    present = prepared.present[:, index]
    measured = np.where(present[:, None], prepared.curves[arguments.modality], np.nan)
    description = f"{arguments.modality} of {len(units)} units, {model.seen(units).sum()} of which were trained on"
    if present.any():
        error = np.mean((imputed.mean - measured)[present] ** 2)
        description += f"; mean squared error {error:.3f} on the {present.sum()} where it was measured"
    return _write(arguments.out, units, description, mean=imputed.mean, sd=imputed.sd, measured=measured)


def counterfactual(arguments: argparse.Namespace) -> str:
    """Predict the curves of units under another recording technology; write them (unit, sample), scaled to [-1, 1].

    Parameters
    ----------
    arguments : argparse.Namespace
        ``model``, ``units``, ``technology``, ``recorded`` and ``out``.

    Returns
    -------
    str
        Description of the file.
    """
    model, units = _open(arguments)
    curves = model.counterfactual(units, arguments.technology)
    return _write(arguments.out, units, f"{len(units)} units under {arguments.technology}", **curves)


def traverse(arguments: argparse.Namespace) -> str:
    """Decode curves along one latent dimension or between two classes, by the first network.

    Along a dimension the file holds curves (unit, value, sample), with the dimension set to each of some values. The variance that it would
    cause if it varied as in the prior is reported as a share of the variance over units. With --between, the file holds curves (step, sample)
    along the path between the mean latents of two classes, and ``share``, the position of each step.

    Parameters
    ----------
    arguments : argparse.Namespace
        ``model``, ``units``, ``dimension``, ``values``, ``between``, ``steps``, ``recorded`` and ``out``.

    Returns
    -------
    str
        Description of the file.

    Raises
    ------
    ValueError
        If both a dimension and two classes are given.
    """
    model, units = _open(arguments)
    if arguments.between is not None:
        if arguments.dimension is not None:
            raise ValueError("--dimension and --between are two ways through the latent space: give one of them")
        return _traverse_classes(model, units, arguments)
    dimension = arguments.dimension
    if dimension is None:
        dimension = int(model.embed(units).var(axis=0).argmax())
    curves, values = model.traverse(units, dimension, arguments.values), np.asarray(arguments.values, np.float32)
    prepared = prepare(units.raw, model.preparation_)
    lines = [f"dimension {dimension} of {len(units)} units at {', '.join(f'{value:g}' for value in values)}"]
    for index, (name, _) in enumerate(model.network_.modalities):
        present = prepared.present[:, index]
        if present.any() and len(values) > 1:
            total = prepared.curves[name][present].var(axis=0).mean()
            share = curves[name].var(axis=1).mean() / values.var() / total
            lines.append(f"{name}: {share:.1%} of the variance over units")
    return _write(arguments.out, units, "\n".join(lines), **curves, values=values)


def validate(arguments: argparse.Namespace) -> str:
    """Check a table of units for leakage: row position, shuffled labels, copies, subjects and sessions, rows.

    Parameters
    ----------
    arguments : argparse.Namespace
        ``units``.

    Returns
    -------
    str
        One line per finding.

    Raises
    ------
    ValueError
        If a check found a leak; the command then ends with exit status 2.
    """
    table = UnitTable.read(arguments.units)
    findings = audit(table)
    lines = [f"{table!r}", *map(str, findings)]
    leaks = sum(finding.severity == "leak" for finding in findings)
    if leaks:
        print("\n".join(lines))
        raise ValueError(f"{leaks} checks found a leak in {arguments.units}: correct it before using any score")
    return "\n".join(lines)


def _traverse_classes(model: Hippie, units: UnitTable, arguments: argparse.Namespace) -> str:
    start, end = arguments.between
    path = model.traverse_classes(units, start, end, arguments.steps)
    lines = [f"{arguments.steps} steps from {start} to {end}"]
    for name, curves in path.curves.items():
        steps = np.sqrt(np.mean(np.diff(curves, axis=0) ** 2, axis=1))
        lines.append(
            f"{name}: {np.sqrt(np.mean((curves[-1] - curves[0]) ** 2)):.3f} from end to end, {steps.max():.3f} in a step"
        )
    write_npz(
        arguments.out, {**path.curves, "share": path.share, "latent": path.latent, "class": np.array([start, end])}
    )
    return "\n".join([*lines, f"-> {arguments.out}"])


def _open(arguments: argparse.Namespace) -> tuple[Hippie, UnitTable]:
    return open_model(arguments.model, fetch=arguments.fetch), UnitTable.read(arguments.units).with_technology(
        arguments.recorded
    )


def _write(out: str, units: UnitTable, description: str, **arrays: np.ndarray) -> str:
    arrays |= {"unit": units.name, "label": units.label, "technology": units.technology_codes}
    write_npz(out, arrays)
    return f"{description}\n-> {out}"
