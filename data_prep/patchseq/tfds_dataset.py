"""Write a feature table as a TensorFlow Datasets data set in array_record files. TensorFlow is not needed, even for reading.

Every cell is one example: for each family its values [width] float32 and the mask ``<family>_observed`` [width] bool, the
identifier ``cell``, and an ``about_<name>`` for each text column. The file format is fixed, since ``parquet`` lost rows without
an error and ``tfrecord`` needs TensorFlow.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jaxephys.schemas.feature_table import SCHEMA, FeatureTable
from jaxephys.schemas.storage import TableError

NAME, VERSION = "patchseq", "1.0.0"


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
        The folder for ``tfds.builder_from_directory``. Its only split is ``cells``.

    Raises
    ------
    TableError
        If TensorFlow Datasets is not installed, or the folder exists.
    """
    try:
        import tensorflow_datasets as tfds
        from etils import epath
    except ImportError:
        raise TableError('this needs TensorFlow Datasets: pip install "jaxephys[tfds]"') from None
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
        pkg_dir_path = epath.Path(out)  # TFDS looks for a description of the builder in this folder

        def _info(self) -> Any:
            description = f"{SCHEMA}, sha256 {table.sha256}; families in order: {', '.join(table.families)}"
            return tfds.core.DatasetInfo(
                builder=self, description=description, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, dl_manager: Any) -> Any:
            del dl_manager  # nothing is downloaded
            return {"cells": self._generate_examples()}

        def _generate_examples(self) -> Iterator[tuple[str, dict[str, Any]]]:
            for i, cell in enumerate(table.cell.tolist()):
                example: dict[str, Any] = {"cell": cell}
                for family, columns in table.columns.items():
                    example[names[family]] = table.values[i, columns]
                    example[f"{names[family]}_observed"] = table.observed[i, columns]
                yield cell, example | {f"about_{name}": str(texts[i]) for name, texts in table.about.items()}

    PatchSeq(data_dir=str(out), file_format="array_record").download_and_prepare()
    return folder
