"""Labels: what stands in a file as a class -> a clean name, "" where there is none."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from data_prep.units.table import UnitsError

NAMES = ("label", "labels", "cell_type", "celltype", "class", "expert_label", "ground_truth_label")
MISSING = ("", "nan", "none", "null", "na", "n/a", "unlabeled", "unlabelled", "unknown", "undefined")
# One name for one class, whatever the source calls it.
SYNONYMS = {
    "pvalb": "PV",
    "parvalbumin": "PV",
    "sst": "SOM",
    "somnan": "SOM",
    "somatostatin": "SOM",
    "pyra": "Pyramidal",
}
BYTES = re.compile(r"""b(['"])(.*)\1""")


def clean_label(text: object) -> str:
    """The text of a label: bytes decoded, also those that were printed as ``b'PkC_ss'``, blanks single, "" if it is none."""
    plain = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
    plain = " ".join(plain.split())
    printed = BYTES.fullmatch(plain)
    plain = printed.group(2).strip() if printed else plain
    return "" if plain.lower() in MISSING else plain


def canonical(labels: Iterable[object], mapping: Mapping[str, str] | None = None) -> list[str]:
    """Clean labels under one name a class; ``mapping`` (of a data set) comes before the synonyms, and "" in it drops a label."""
    own = {key.lower(): value for key, value in (mapping or {}).items()}
    names = (clean_label(label) for label in labels)
    return [own.get(name.lower(), SYNONYMS.get(name.lower(), name)) for name in names]


def label_column(columns: Sequence[str], wanted: str | None, where: str) -> str:
    """Which column is the label: ``wanted`` is its name, "first", "last", or None for the only one that can be meant."""
    columns = list(columns)
    if wanted in ("first", "last") and wanted not in columns and columns:
        return columns[0] if wanted == "first" else columns[-1]
    if wanted is not None:
        if wanted not in columns:
            raise UnitsError(f"{where} has no column {wanted!r}: choose from {', '.join(columns)}, first or last")
        return wanted
    known = [column for column in columns if column.lower() in NAMES]
    if len(known) == 1 or len(columns) == 1:
        return (known or columns)[0]
    raise UnitsError(f"{where} has the columns {', '.join(columns)}: say which is the label with --label")
