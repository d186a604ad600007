"""The TensorFlow Datasets data set ``patchseq``: a feature table in array_record files. TensorFlow is not needed, even for reading.

:func:`write_dataset` builds the data set of a table, and :func:`read_dataset` returns its table, from which models train.
:func:`register_dataset` makes it known by its name, so that ``tfds.builder`` and ``tfds.data_source`` build and read it.

Every cell is one example: for each family its values [width] float32 and the mask ``<family>_observed`` [width] bool, the
identifier ``cell``, and an ``about_<name>`` for each text column. ``metadata.json`` holds the order of cells, families and text
columns, the names of the features, and the provenance. The file format is fixed, since ``parquet`` lost rows without an error and
``tfrecord`` needs TensorFlow. array_record is read with ``as_data_source``; ``as_dataset`` and ``tf.data`` cannot read it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from jaxephys.schemas.feature_table import SCHEMA, FeatureTable
from jaxephys.schemas.storage import TableError

NAME, VERSION, SPLIT = "patchseq", "1.0.0", "cells"
METADATA = "metadata.json"


def write_dataset(table: FeatureTable, out: str | Path) -> Path:
    """Write a table as a data set.

    Parameters
    ----------
    table : FeatureTable
        The table.
    out : str or Path
        Folder for the data set; it is written to ``out/patchseq/1.0.0``.

    Returns
    -------
    Path
        The folder for :func:`read_dataset` and ``tfds.builder_from_directory``. Its only split is ``cells``.

    Raises
    ------
    TableError
        If TensorFlow Datasets is not installed, or the folder exists.
    """
    folder = Path(out) / NAME / VERSION
    builder = register_dataset()
    if folder.exists():
        raise TableError(f"{folder} exists: give another folder, or delete it")
    builder(table=table, data_dir=str(out)).download_and_prepare()
    return folder


def read_dataset(folder: str | Path) -> FeatureTable:
    """Read the table of a data set.

    Parameters
    ----------
    folder : str or Path
        Folder of one version, such as ``OUT/patchseq/1.0.0``, as :func:`write_dataset` returns it.

    Returns
    -------
    FeatureTable
        The table that was written, with its cells in their order.

    Raises
    ------
    TableError
        If TensorFlow Datasets is not installed, the folder is no data set of :func:`write_dataset`, or its content differs
        from the table that was written.
    """
    tfds = _import_tfds()
    if not (Path(folder) / METADATA).is_file():
        raise TableError(f"{folder} is no data set of `patchseq tfds`, or of an earlier version: write it again")
    builder = tfds.builder_from_directory(str(folder))
    about = dict(builder.info.metadata.items())
    examples = {example["cell"].decode(): example for example in builder.as_data_source()[SPLIT]}
    rows = [examples[cell] for cell in about["cells"]]
    names = [_feature_name(family) for family in about["features"]]
    table = FeatureTable.from_arrays(
        np.stack([np.concatenate([row[name] for name in names]) for row in rows]),
        about["features"],
        cell=about["cells"],
        observed=np.stack([np.concatenate([row[f"{name}_observed"] for name in names]) for row in rows]),
        about={name: [row[f"about_{name}"].decode() for row in rows] for name in about["about"]},
        provenance=about["provenance"],
    )
    if table.sha256 != about["sha256"]:
        raise TableError(f"the cells of {folder} differ from the table that was written: write it again")
    return table


@cache
def register_dataset() -> Any:
    """Register the data set with TensorFlow Datasets under the name ``patchseq``.

    Returns
    -------
    type
        The builder, a ``tfds.core.GeneratorBasedBuilder``. Its argument ``table`` is a FeatureTable or the folder of one. It
        is required to build the data set, and compared with what a folder holds if the data set was built before.

    Raises
    ------
    TableError
        If TensorFlow Datasets is not installed; from the builder, if there is no table to build from, or the folder holds
        another one.
    """
    tfds = _import_tfds()
    from etils import epath

    class Patchseq(tfds.core.GeneratorBasedBuilder):
        """Cells x feature families of current-clamp recordings."""

        name = NAME
        VERSION = tfds.core.Version("1.0.0")
        pkg_dir_path = epath.Path(__file__).parent  # TFDS looks for a description of the builder in this folder

        def __init__(
            self,
            *,
            table: FeatureTable | str | Path | None = None,
            file_format: str | None = "array_record",
            **options: Any,
        ) -> None:
            self.table = table if isinstance(table, FeatureTable | None) else FeatureTable.read(table)
            super().__init__(file_format=file_format, **options)
            if self.table is not None and self.is_prepared() and self.info.metadata["sha256"] != self.table.sha256:
                raise TableError(f"{self.data_dir} holds another table: give another folder, or delete it")

        def _info(self) -> Any:
            if self.table is not None:
                features, metadata = _examples_layout(self.table, tfds), _metadata(self.table)
                description = (
                    f"{SCHEMA}, sha256 {self.table.sha256}; families in order: {', '.join(self.table.families)}"
                )
            elif (Path(self.data_dir) / METADATA).is_file():
                features, metadata = tfds.features.FeaturesDict.from_config(self.data_dir), {}
                description = SCHEMA
            else:
                raise TableError(f"{self.data_dir} does not exist: give the table to build it from (table=...)")
            return tfds.core.DatasetInfo(
                builder=self,
                description=description,
                features=features,
                metadata=tfds.core.MetadataDict(metadata),
            )

        def _split_generators(self, dl_manager: Any) -> Any:
            del dl_manager  # nothing is downloaded
            return {SPLIT: self._generate_examples()}

        def _generate_examples(self) -> Iterator[tuple[str, dict[str, Any]]]:
            table = self.table
            if table is None:
                raise TableError("give the table to build the data set from (table=...)")
            for i, cell in enumerate(table.cell.tolist()):
                example: dict[str, Any] = {"cell": cell}
                for family, columns in table.columns.items():
                    example[_feature_name(family)] = table.values[i, columns]
                    example[f"{_feature_name(family)}_observed"] = table.observed[i, columns]
                yield cell, example | {f"about_{name}": str(texts[i]) for name, texts in table.about.items()}

    return Patchseq


def _import_tfds() -> Any:
    try:
        import tensorflow_datasets as tfds
    except ImportError:
        raise TableError('this needs TensorFlow Datasets: pip install "jaxephys[tfds]"') from None
    return tfds


def _feature_name(family: str) -> str:
    return re.sub(r"\W", "_", family)


def _examples_layout(table: FeatureTable, tfds: Any) -> Any:
    """Return the features of one example, as TensorFlow Datasets describes them."""
    widths = {_feature_name(family): width for family, width in zip(table.families, table.widths, strict=True)}
    return tfds.features.FeaturesDict(
        {
            "cell": tfds.features.Text(),
            **{name: tfds.features.Tensor(shape=(n,), dtype=np.float32) for name, n in widths.items()},
            **{f"{name}_observed": tfds.features.Tensor(shape=(n,), dtype=np.bool_) for name, n in widths.items()},
            **{f"about_{name}": tfds.features.Text() for name in table.about},
        }
    )


def _metadata(table: FeatureTable) -> dict[str, Any]:
    """Return what examples do not hold: the order of cells, families and texts, names of features, hash and provenance."""
    return {
        "schema": SCHEMA,
        "sha256": table.sha256,
        "cells": table.cell.tolist(),
        "features": {family: list(table.features[columns]) for family, columns in table.columns.items()},
        "about": list(table.about),
        "provenance": dict(table.provenance),
    }
