"""The verbs of ``python -m jaxephys`` on units. Each but validate writes one file and says what it is; validate audits."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from jaxephys.hippie.estimator import Hippie
from jaxephys.hippie.inference import STEPS
from jaxephys.hippie.leakage_audit import audit
from jaxephys.hippie.preprocessing import prepare
from jaxephys.models.base import load
from jaxephys.schemas.unit_table import TECHNOLOGIES, UnitTable

UNITS = "units: a units.npz, its folder, or a folder of CSV files"


def add_verbs(verbs: Any) -> None:
    """The parsers; each names the function that it calls under ``call``."""

    def add(name: str, call: Any, short: str, *places: tuple[str, str]) -> argparse.ArgumentParser:
        parser = verbs.add_parser(name, help=short, description=call.__doc__)
        for place, what in places:
            parser.add_argument(place, help=what)
        parser.set_defaults(call=call)
        return parser

    model, units = ("model", "a folder that save, convert or an experiment has written"), ("units", UNITS)
    checkpoint = ("checkpoint", "hippie_techcond_v1.ckpt, or a state dict of PyTorch")
    add("convert", convert, "a published HIPPIE checkpoint as a model", checkpoint, ("out", "a new folder"))
    add("validate", validate, "could a score on these units be higher than it ought to be?", units)
    parsers = [
        add("embed", embed, "the place of units in the latent space", model, units),
        add("impute", impute, "a curve that units lack", model, units),
        add("counterfactual", counterfactual, "units under another technology", model, units),
        add("traverse", traverse, "what one dimension of the latent space draws", model, units),
    ]
    parsers[1].add_argument("--modality", required=True, help="wave, isi or acg")
    parsers[2].add_argument("--technology", required=True, help=", ".join(TECHNOLOGIES))
    parsers[3].add_argument(
        "--dimension", type=int, help="counted from 0; the one in which units differ most, unless told"
    )
    parsers[3].add_argument("--values", type=float, nargs="+", default=STEPS, help="put there in turn (%(default)s)")
    outs = ("embeddings.npz", "imputed.npz", "counterfactual.npz", "traversed.npz")
    for parser, out in zip(parsers, outs, strict=True):
        parser.add_argument("--recorded", help="what all units were recorded with, where the table does not tell")
        parser.add_argument("--out", default=out, help="where to write (%(default)s)")


def convert(arguments: argparse.Namespace) -> str:
    """Read a checkpoint without PyTorch and without running anything in it, and save it as a model."""
    model = Hippie.from_checkpoint(arguments.checkpoint)
    folder = model.save(arguments.out)
    tables = ", ".join(f"{size} x {slot}" for slot, size in model.network_.slots.items()) or "none"
    return (
        f"{model.describe()}\nbase width {model.network_.width}; conditions: {tables}; every tensor is used\n"
        f"an absent curve is encoded from the constant of the original, for it has no mask token\n-> {folder}"
    )


def embed(arguments: argparse.Namespace) -> str:
    """embeddings [unit, latent], in float32, with names, labels and technologies of the units."""
    model, units = opened(arguments)
    embeddings = model.embed(units)
    about = f"{len(units)} units in {embeddings.shape[1]} dimensions"
    return written(arguments.out, units, embeddings=embeddings, about=about)


def impute(arguments: argparse.Namespace) -> str:
    """mean and sd [unit, sample] of one curve of every unit from its others, and the curve as measured, scaled to [-1, 1]."""
    model, units = opened(arguments)
    drawn = model.impute(units, arguments.modality)
    measured = prepare(units.raw, model.preparation_)
    place = [name for name, _ in model.network_.modalities].index(arguments.modality)
    there = measured.present[:, place]
    truth = np.where(there[:, None], measured.curves[arguments.modality], np.nan)
    about = f"{arguments.modality} of {len(units)} units, {model.seen(units).sum()} of which were trained on"
    if there.any():
        off = np.mean((drawn.mean - truth)[there] ** 2)
        about += f"; mean squared error {off:.3f} on the {there.sum()} where it was measured"
    return written(arguments.out, units, mean=drawn.mean, sd=drawn.sd, measured=truth, about=about)


def counterfactual(arguments: argparse.Namespace) -> str:
    """The curves [unit, sample] that units would have under another technology, scaled to [-1, 1]."""
    model, units = opened(arguments)
    curves = model.counterfactual(units, arguments.technology)
    return written(arguments.out, units, **curves, about=f"{len(units)} units under {arguments.technology}")


def traverse(arguments: argparse.Namespace) -> str:
    """Curves [unit, step, sample] with one number of the embedding put to each value, drawn by the first network.

    Said of each curve: what the dimension makes, were it to vary as the prior does, as a share of the variance over units.
    """
    model, units = opened(arguments)
    dimension = arguments.dimension
    if dimension is None:
        dimension = int(model.embed(units).var(axis=0).argmax())
    curves, values = model.traverse(units, dimension, arguments.values), np.asarray(arguments.values, np.float32)
    measured = prepare(units.raw, model.preparation_)
    lines = [f"dimension {dimension} of {len(units)} units at {', '.join(f'{value:g}' for value in values)}"]
    for (name, drawn), there in zip(curves.items(), measured.present.T, strict=True):
        if there.any() and len(values) > 1:
            share = drawn.var(axis=1).mean() / values.var() / measured.curves[name][there].var(axis=0).mean()
            lines.append(f"{name}: {share:.1%} of the variance over units")
    return written(arguments.out, units, **curves, values=values, about="\n".join(lines))


def validate(arguments: argparse.Namespace) -> str:
    """A line a check: row position, shuffled labels, copies across folds, siblings, rows. A leak ends with exit code 2."""
    table = UnitTable.read(arguments.units)
    findings = audit(table)
    lines = [f"{table!r}", *map(str, findings)]
    leaks = sum(finding.severity == "leak" for finding in findings)
    if leaks:
        print("\n".join(lines))
        raise ValueError(f"{leaks} checks found a leak in {arguments.units}: mend it before any score is believed")
    return "\n".join(lines)


def opened(arguments: argparse.Namespace) -> tuple[Hippie, UnitTable]:
    model = load(arguments.model)
    if not isinstance(model, Hippie):
        raise ValueError(f"{arguments.model} is a {type(model).__name__}: {arguments.verb} needs a Hippie")
    return model, UnitTable.read(arguments.units).recorded_with(arguments.recorded)


def written(out: str, units: UnitTable, *, about: str, **arrays: np.ndarray) -> str:
    arrays |= {"unit": units.name, "label": units.label, "technology": units.technology}
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    with open(out, "wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
    return f"{about}\n-> {out}"
