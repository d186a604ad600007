"""Records: a table as a TensorFlow Datasets data set in array_record files, which neither writes nor reads with TensorFlow.

Every cell is one example: each family [width] float32 and its mask ``<family>_observed`` [width] bool, the id, and each text
that is known of it. ``parquet`` loses rows without a word and ``tfrecord`` needs TensorFlow, so the format is fixed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.patchseq.table import SCHEMA, Table, TableError

NAME, VERSION = "patchseq", "1.0.0"


def write_records(table: Table, out: str | Path) -> Path:
    """Write the data set and give the folder for ``tfds.builder_from_directory``; one that stands there is not overwritten."""
    try:
        import tensorflow_datasets as tfds
        from etils import epath
    except ImportError:
        raise TableError('records need TensorFlow Datasets: pip install "jaxephys[tfds]"') from None
    folder = Path(out) / NAME / VERSION
    if folder.exists():
        raise TableError(f"{folder} exists: give another folder, or delete it")
    names = {family: re.sub(r"\W", "_", family) for family in table.families}
    widths = dict(zip(names.values(), table.widths, strict=True))
    features = {
        "cell": tfds.features.Text(),
        **{name: tfds.features.Tensor(shape=(width,), dtype=np.float32) for name, width in widths.items()},
        **{f"{name}_observed": tfds.features.Tensor(shape=(width,), dtype=np.bool_) for name, width in widths.items()},
        **{f"about_{name}": tfds.features.Text() for name in table.about},
    }

    class PatchSeq(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        """Cells x feature families of current-clamp recordings."""

        name = NAME
        VERSION = tfds.core.Version("1.0.0")
        pkg_dir_path = epath.Path(out)  # where its description would lie, were it a module of its own

        def _info(self) -> Any:
            description = f"{SCHEMA}, sha256 {table.sha256}; families in order: {', '.join(table.families)}"
            return tfds.core.DatasetInfo(
                builder=self, description=description, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, dl_manager: Any) -> Any:
            del dl_manager  # nothing is downloaded
            return {"cells": self._generate_examples()}

        def _generate_examples(self) -> Iterator[tuple[str, dict[str, Any]]]:
            yield from examples(table, list(widths))

    PatchSeq(data_dir=str(out), file_format="array_record").download_and_prepare()
    return folder


def examples(table: Table, names: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each cell under its id."""
    edges = np.cumsum(table.widths)[:-1]
    for i, cell in enumerate(table.cell):
        values, observed = np.split(table.values[i], edges), np.split(table.observed[i], edges)
        yield (
            str(cell),
            {
                "cell": str(cell),
                **dict(zip(names, values, strict=True)),
                **{f"{name}_observed": seen for name, seen in zip(names, observed, strict=True)},
                **{f"about_{name}": str(column[i]) for name, column in table.about.items()},
            },
        )
