"""Check a feature table: count its classes and missing values, and list what looks wrong.

Start with :func:`check_table`. Problems are duplicate cells, missing labels, classes too small for folds, constant columns, values
outside the plausible range of their unit, and values that seem to be in another unit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress

import numpy as np

from data_prep.patchseq import feature_names
from data_prep.patchseq.feature_csv import find_repeated_rows
from data_prep.patchseq.labels import clean_id
from data_prep.report import Block, Report, shorten
from jaxephys.schemas.feature_table import FeatureTable

FOLDS = 5
SYSTEMATIC = 0.05  # fraction of implausible values above which a wrong unit is suspected
# Unit -> factor that makes a value plausible, and the unit that the value then has.
UNIT_ERRORS = {
    "mV": ((1e3, "volts: multiply by 1000"), (1e-3, "microvolts: divide by 1000")),
    "s": ((1e-3, "milliseconds: divide by 1000"),),
    "ms": ((1e3, "seconds: multiply by 1000"),),
    "pA": ((1e3, "nanoamperes: multiply by 1000"), (1e12, "amperes: multiply by 1e12")),
    "MOhm": ((1e3, "gigaohms: multiply by 1000"), (1e-6, "ohms: divide by 1e6")),
    "Hz": ((1e3, "kilohertz: multiply by 1000"),),
    "V/s": ((1e3, "volts per millisecond: multiply by 1000"), (1e-3, "millivolts per second: divide by 1000")),
    "": ((1e-2, "per cent: divide by 100"),),
}


def check_table(table: FeatureTable) -> Report:
    """Check a feature table.

    Parameters
    ----------
    table : FeatureTable
        The table; its ``provenance["naming"]``, if present, determines the unit of ``tau``.

    Returns
    -------
    Report
        Counts, facts and possible problems.

    Examples
    --------
    >>> import numpy as np
    >>> values = np.array([[-70.0, 15.0], [-0.068, 14.0], [-0.071, 16.0]])
    >>> table = FeatureTable.from_arrays(values, {"subthreshold": ["vrest", "sag_area"]}, cell=["a", "b", "c"])
    >>> check_table(table).findings[-1]
    'vrest: the median size is 0.071, expected 45 to 95 mV; looks like volts: multiply by 1000'
    """
    label, species, condition = (_texts(table, name) for name in ("label", "species", "condition"))
    blocks = [_class_counts("classes and species", label, species)]
    if any(table.about.get("condition", ())):
        blocks.append(_class_counts("classes and conditions", label, condition))
    blocks.append(_family_counts(table))
    problems = [*_cell_problems(table), *_column_problems(table), *_value_problems(table)]
    return Report(_facts(table), problems, blocks)


def _texts(table: FeatureTable, name: str) -> list[str]:
    return [str(text) or "(none)" for text in table.about.get(name, [""] * len(table))]


def _chosen(names: np.ndarray, problems: Mapping[str, np.ndarray]) -> Iterator[str]:
    """Yield each problem that concerns some of the names, with the first of them."""
    for problem, concerned in problems.items():
        if concerned.any():
            yield f"{problem}: {shorten(names[concerned].tolist())}"


def _class_counts(title: str, labels: list[str], groups: list[str]) -> Block:
    pairs, columns = Counter(zip(labels, groups, strict=True)), sorted(set(groups))
    rows = [[label, *(str(pairs[label, group]) for group in columns)] for label in sorted(set(labels))]
    total = ["all", *(str(groups.count(group)) for group in columns)]
    rows = [[*row, str(sum(map(int, row[1:])))] for row in (*rows, total)]
    return Block(title, ["class", *columns, "all"], rows)


def _family_counts(table: FeatureTable) -> Block:
    rows = []
    for i, (name, columns) in enumerate(table.columns.items(), 1):
        observed = table.observed[:, columns]
        without = str(int((~observed.any(axis=1)).sum()))
        rows.append([f"{i} {name}", str(observed.shape[1]), f"{100 * (1 - observed.mean()):.1f} %", without])
    return Block("input of a model", ["family", "width", "not measured", "cells without"], rows)


def _facts(table: FeatureTable) -> dict[str, str]:
    """Return sentences on donors, and the numbers to which any score has to be compared."""
    donors = Counter(filter(None, table.about.get("donor", np.array([])).tolist()))
    shared = sum(n for n in donors.values() if n > 1)
    facts = {"donors": "no donor is known: folds cannot be grouped by donor"}
    if donors:
        donor, most = donors.most_common(1)[0]
        facts["donors"] = f"{len(donors)} donors, at most {most} cells of one ({donor})"
    if shared:
        facts["shared donors"] = (
            f"{shared} cells share their donor with another cell: folds by cell put one donor on both sides, "
            f"so report folds by donor as well"
        )
    families = (name for name in table.families if name not in feature_names.FAMILIES)
    unknown = [name for name in families if feature_names.known_vectors(name) is None]
    if unknown:
        facts["units"] = f"no unit is known for {shorten(unknown)}: their values were not checked"
    facts["size"] = f"{len(table)} cells, {len(table.families)} families, {sum(table.widths)} features"
    labels = list(filter(None, table.about.get("label", np.array([])).tolist()))
    if labels:
        label, most = Counter(labels).most_common(1)[0]
        share = f"{100 * most / len(labels):.1f} % of the cells"
        facts["classes"] = f"{len(set(labels))} classes; always predicting {label} is right for {share}"
    return facts


def _cell_problems(table: FeatureTable) -> Iterator[str]:
    """Yield problems of identifiers, repeated rows, labels, and classes too small for folds."""
    counts = Counter(clean_id(cell).lower() for cell in table.cell.tolist())
    similar = [cell for cell, n in counts.items() if n > 1]
    if similar:
        yield f"ids that differ only in how they are written: {shorten(similar)}"
    labels, donors = (table.about.get(name, np.full(len(table), "")) for name in ("label", "donor"))
    yield from _chosen(
        table.cell,
        {
            "cells with exactly the features of an earlier one, perhaps copies": find_repeated_rows(
                np.where(table.observed, table.values, np.nan)
            ),
            "cells with nothing measured": ~table.observed.any(axis=1),
            "cells without a label, to be left out of training": labels == "",
            "cells without a donor, where others have one": (donors == "") & (donors != "").any(),
        },
    )
    for label in sorted(set(labels.tolist()) - {""}):
        n, groups = int((labels == label).sum()), set(donors[labels == label].tolist())
        if n < FOLDS:
            yield f"class {label} has fewer than {FOLDS} cells ({n}): {FOLDS} folds cannot each hold one"
        elif groups != {""} and len(groups) < FOLDS:
            yield (
                f"class {label} has fewer than {FOLDS} donors ({len(groups)}): {FOLDS} folds by donor cannot each hold one"
            )


def _column_problems(table: FeatureTable) -> Iterator[str]:
    """Yield families with columns that were never measured or are constant."""
    for family, columns in table.columns.items():
        features, observed = np.array(table.features[columns]), table.observed[:, columns]
        values = np.where(observed, table.values[:, columns], np.nan)
        never = ~observed.any(axis=0)
        constant = np.fmin.reduce(values, axis=0) == np.fmax.reduce(values, axis=0)
        found = {"were never measured": never, "are constant": constant}
        kinds = {f"{family}: {which.sum()} of {len(features)} columns {kind}": which for kind, which in found.items()}
        yield from _chosen(features, kinds)


def _value_problems(table: FeatureTable) -> Iterator[str]:
    """Yield values that are implausible in their unit, for each species, since tables of two species may mix units."""
    species = np.array(_texts(table, "species"))
    groups = sorted(set(species))
    for name, known, columns in _known_features(table):
        for group in groups:
            values, observed = (array[species == group, columns] for array in (table.values, table.observed))
            problem = describe_implausible(values[observed], known) if observed.any() else ""
            if problem:
                yield f"{name}{f' ({group})' if len(groups) > 1 else ''}: {problem}"


def _known_features(table: FeatureTable) -> Iterator[tuple[str, feature_names.Feature, slice]]:
    """Yield what has a known unit: each scalar feature, and each family of feature vectors as a whole."""
    naming = table.provenance.get("naming")
    if naming is None:
        with suppress(ValueError):  # then no unit depends on the naming
            naming = feature_names.find_naming(table.features)
    for family, columns in table.columns.items():
        parts = [(family, feature_names.known_vectors(family), columns)]
        if family in feature_names.FAMILIES:
            parts = [
                (table.features[i], feature_names.known_feature(table.features[i], naming), slice(i, i + 1))
                for i in range(columns.start, columns.stop)
            ]
        yield from ((name, known, part) for name, known, part in parts if known is not None)


def describe_implausible(values: np.ndarray, known: feature_names.Feature) -> str:  # values [value]
    """Describe values in a wrong unit, which shift the median, or outside the plausible range.

    Parameters
    ----------
    values : ndarray of float, shape (n_values,)
        Measured values of a feature; at least one.
    known : Feature
        Its unit and plausible range.

    Returns
    -------
    str
        The problem, with a guess of the unit that the values have; "" if there is none.

    Examples
    --------
    >>> import numpy as np
    >>> known = feature_names.known_feature("width_ramp", "old")
    >>> describe_implausible(np.array([0.4, 0.9]), known)
    'the median size is 0.65, expected 0.00015 to 0.005 s; looks like milliseconds: divide by 1000'
    """
    middle = float(np.median(np.abs(values)))
    outside = values[(values < known.low) | (values > known.high)]
    if known.typical and not _within(middle, known.typical):
        low, high = known.typical
        text, size = f"the median size is {middle:.3g}, expected {low:g} to {high:g} {known.unit}", middle
    elif outside.size:
        text = f"{outside.size} of {values.size} values outside {known.low:g} to {known.high:g} {known.unit}".rstrip()
        text += f" ({', '.join(f'{x:.4g}' for x in sorted({outside.min(), outside.max()}))})"
        # A few implausible cells do not indicate a wrong unit.
        size = float(np.median(np.abs(outside))) if outside.size > SYSTEMATIC * values.size else 0.0
    else:
        return ""
    guesses = [
        unit
        for factor, unit in UNIT_ERRORS.get(known.unit, ())
        if known.typical and _within(size * factor, known.typical)
    ]
    return text.rstrip() + (f"; looks like {guesses[0]}" if guesses else "")


def _within(size: float, span: tuple[float, float]) -> bool:
    return span[0] <= size <= span[1]
