"""What each column of a CSV file of scalar features is: identifier, text, feature of a family, or left out with a reason.

A file of another laboratory is described by a map, a TOML file that :func:`read_feature_map` reads::

    id = "cell_name"                                   # column of the identifiers
    [text]                                             # our text column = column of the file
    label = "Subclass"
    donor = "animal"
    [features]                                         # our name = column of the file; the name determines family and unit
    vrest = "RMP (mV)"
    width_ramp = { column = "AP width (ms)", times = 0.001 }   # our unit is s
    [families]                                         # further features, under their own names
    morphology = ["soma area", "stems"]

Start with :func:`find_columns`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_prep.csv_files import is_number
from data_prep.patchseq import feature_names
from data_prep.patchseq.table import TEXT_COLUMNS
from jaxephys.schemas.data_frames import GROUPINGS, group_columns
from jaxephys.schemas.storage import TableError

KEYS = ("cell_id", "dataset", *TEXT_COLUMNS)  # columns that are no features
ID_NAMES = (
    "cell_id",
    "cell",
    "cell_name",
    "cellid",
    "cell id",
    "cell name",
    "specimen_id",
    "id",
    "name",
    "index",
    "unnamed: 0",
    "",
)
# Numbers that depend on how or where a cell was chosen, or count rows. They predict the label without being features of the cell.
DESIGN = re.compile(
    r"(layer|age|age_\w+|\w*depth\w*|structure|region|genotype|sex|date|rig|operator|plate|batch|cluster|condition|slice|"
    r"hemisphere|index|row|unnamed: \d+|id|\w*[_ ]id|\w*label|)",
    re.IGNORECASE,
)
MAP_PARTS = ("id", "text", "features", "families")


@dataclass(frozen=True)
class FeatureMap:
    """Meaning of the columns of a file, as a user describes it.

    Parameters
    ----------
    id_column : str, optional
        Column of the identifiers.
    text : mapping of str to str, optional
        Column of the file for each text column of the table.
    features : mapping of str to (str, float), optional
        Column of the file and factor for each known feature of the table.
    families : mapping of str to sequence of str, optional
        Columns of the file that are further features, by family.
    """

    id_column: str | None = None
    text: Mapping[str, str] = field(default_factory=dict)
    features: Mapping[str, tuple[str, float]] = field(default_factory=dict)
    families: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Columns:
    """What each column of a file is.

    Parameters
    ----------
    id_column : str
        Column of the identifiers.
    text : mapping of str to str
        Column of the file for each text column of the table.
    features : mapping of str to (str, float)
        Column of the file and factor for each feature of the table.
    families : mapping of str to sequence of str
        The features whose names are not known, by family.
    naming : str or None
        "old", "new" or "aligned"; None if the names that are known do not determine it.
    left_out : mapping of str to str
        Reason for each other column of the file.
    """

    id_column: str
    text: Mapping[str, str]
    features: Mapping[str, tuple[str, float]]
    families: Mapping[str, Sequence[str]]
    naming: str | None
    left_out: Mapping[str, str]

    def family(self, feature: str) -> str:
        """Return the family of a feature.

        Parameters
        ----------
        feature : str
            A key of ``features``.

        Returns
        -------
        str
            The family.
        """
        known = feature_names.known_feature(feature, self.naming)
        return next((name for name, some in self.families.items() if feature in some), known.family if known else "")


def read_feature_map(path: str | Path) -> FeatureMap:
    """Read a map of columns.

    Parameters
    ----------
    path : str or Path
        TOML file; its parts are described at the top of this module.

    Returns
    -------
    FeatureMap
        The map.

    Raises
    ------
    TableError
        If the file is missing or no TOML, or a part of it is unknown or has another form.
    """
    try:
        content = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise TableError(f"{path} cannot be read ({error.strerror}): give a TOML file with --map") from None
    except ValueError as error:  # also of bytes that are not UTF-8
        raise TableError(f"{path} is not a TOML file ({error}): see `python -m data_prep patchseq preview`") from None
    unknown = [name for name in content if name not in MAP_PARTS]
    if unknown:
        raise TableError(f"{path} has the part {unknown[0]!r}: the parts of a map are {', '.join(MAP_PARTS)}")
    identifier = content.get("id")
    text, features, families = (
        {**content.get(name, {})} if isinstance(content.get(name, {}), dict) else None for name in MAP_PARTS[1:]
    )
    if text is None or features is None or families is None or not isinstance(identifier, str | None):
        raise TableError(f"{path} has another form: id is a text, and [text], [features] and [families] are tables")
    known = set(TEXT_COLUMNS)
    for name, column in text.items():
        if name not in known or not isinstance(column, str):
            raise TableError(
                f"[text] of {path} has {name} = {column!r}: give a column for one of {', '.join(TEXT_COLUMNS)}"
            )
    for name, columns in families.items():
        if not isinstance(columns, list) or not all(isinstance(column, str) for column in columns):
            raise TableError(f"[families] of {path} has {name} = {columns!r}: give a list of columns")
    return FeatureMap(
        identifier, text, {name: _source(name, entry, path) for name, entry in features.items()}, families
    )


def find_columns(
    columns: Sequence[str],
    rows: Sequence[Mapping[str, str]],
    path: str | Path,
    *,
    feature_map: FeatureMap | None = None,
    naming: str | None = None,
    others: str | None = None,
) -> Columns:
    """Find out what each column of a file is.

    Parameters
    ----------
    columns : sequence of str
        Names of the columns of the file.
    rows : sequence of mapping of str to str
        Its rows.
    path : str or Path
        The file, for error messages.
    feature_map : FeatureMap, optional
        Meaning of columns as the user describes it; it takes precedence over their names.
    naming : {"old", "new", "aligned"}, optional
        Naming of the features; by default found from the names that only one naming has.
    others : {"drop", "number", "prefix", "column"}, optional
        What becomes of columns of numbers without a known name: left out, or features grouped by
        :func:`jaxephys.schemas.data_frames.group_columns`. Default: left out if any name is known, else "number".

    Returns
    -------
    Columns
        The meaning of each column.

    Raises
    ------
    TableError
        If there is no column of identifiers or of numbers, a column of the map does not exist, or names of two namings occur and
        ``naming`` is not given.
    """
    if not rows:
        raise TableError(f"{path} has 0 rows and the columns {', '.join(columns)}: it needs cell_id and cells")
    given = feature_map or FeatureMap()
    mapped = [given.id_column, *given.text.values(), *(column for column, _ in given.features.values())]
    mapped += [column for some in given.families.values() for column in some]
    absent = [column for column in mapped if column is not None and column not in columns]
    if absent:
        raise TableError(f"{path} has no column {absent[0]!r}: it has {', '.join(columns)}")
    if others not in (None, "drop", *GROUPINGS):
        raise TableError(f"others is {others!r}: give one of drop, {', '.join(GROUPINGS)}")
    identifier = given.id_column or _find_identifier(columns, rows, path)
    text = {name: name for name in TEXT_COLUMNS if name in columns} | dict(given.text)
    taken = {identifier, "dataset", *text.values(), *(column for column in mapped if column is not None)}
    features = {name: (name, 1.0) for name in columns if name not in taken and feature_names.known_feature(name, None)}
    features |= given.features
    naming = _find_naming(features, path) if naming is None else naming
    rest = [name for name in columns if name not in taken and name not in features]
    numeric = [name for name in rest if DESIGN.fullmatch(name) is None and _holds_numbers(name, rows)]
    others = others or ("drop" if features or given.families else "number")
    families = {name: list(some) for name, some in given.families.items()}
    if others != "drop":
        for family, some in group_columns(numeric, others).items():
            families.setdefault(family, []).extend(some)
    further = [name for some in families.values() for name in some]
    features |= {name: (name, 1.0) for name in further}
    if not features:
        raise TableError(
            f"{path} is no table of features: none of its columns {', '.join(columns)} holds numbers of cells"
        )
    reasons = {
        name: "no known feature" if name in numeric or others == "drop" else "no number or no property of the cell"
        for name in rest
    }
    left_out = {name: reason for name, reason in reasons.items() if name not in features}
    return Columns(identifier, text, features, families, naming, left_out)


def _find_identifier(columns: Sequence[str], rows: Sequence[Mapping[str, str]], path: str | Path) -> str:
    """Return the column of identifiers: ``cell_id``, or a usual name whose entries are all different."""
    if "cell_id" in columns:
        return "cell_id"
    by_name = {name.lower(): name for name in reversed(columns)}
    for name in (by_name[candidate] for candidate in ID_NAMES if candidate in by_name):
        entries = [row[name] for row in rows]
        if all(entries) and len(set(entries)) == len(entries):
            return name
    raise TableError(
        f"{path} has {len(rows)} rows and the columns {', '.join(columns)}: it needs cell_id and cells, or --id-column COLUMN"
    )


def _find_naming(features: Mapping[str, Any], path: str | Path) -> str | None:
    """Return the naming; None if no name belongs to one naming only."""
    matching = feature_names.matching_namings(features)
    if len(matching) > 1:
        raise TableError(
            f"{path} is no table of features: the naming is not clear, there are names of {' and '.join(matching)} naming: give it as "
            f"one of {', '.join(feature_names.NAMINGS)} (--naming), which determines the unit of tau"
        )
    return matching[0] if matching else None


def _holds_numbers(name: str, rows: Sequence[Mapping[str, str]]) -> bool:
    entries = [row[name] for row in rows if row[name]]
    return bool(entries) and all(map(is_number, entries))


def _source(name: str, entry: Any, path: str | Path) -> tuple[str, float]:
    if isinstance(entry, dict):
        column, times = entry.get("column"), entry.get("times", 1.0)
        unknown = set(entry) - {"column", "times"}
    else:
        column, times, unknown = entry, 1.0, set()
    if unknown or not isinstance(column, str) or isinstance(times, bool) or not isinstance(times, int | float):
        raise TableError(
            f'[features] of {path} has {name} = {entry!r}: give "COLUMN" or {{ column = "COLUMN", times = FACTOR }}'
        )
    if feature_names.known_feature(name, None) is None:
        raise TableError(f"[features] of {path} has {name!r}, which is no known feature: give its column in [families]")
    return column, float(times)
