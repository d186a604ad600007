"""EmbeddedUnits: embeddings, map and clusters of the units of several data sets, and the files that are written of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from jaxephys.evaluation.scores import Score
from jaxephys.hippie.estimator import Hippie
from jaxephys.hippie.report import cluster_names, score_clusters
from jaxephys.reporting.maps import draw_embedding
from jaxephys.schemas.storage import write_npz
from jaxephys.schemas.unit_table import UnitTable


@dataclass(frozen=True)
class EmbeddedUnits:
    """The units of some data sets with their embeddings, their positions on a map, and their clusters.

    Parameters
    ----------
    tables : mapping of str to UnitTable
        Units by data set; together they have n_units.
    embeddings : array (n_units, latent)
        Embeddings, one table after the other.
    points : array (n_units, 2)
        Positions on the map.
    cluster : int array (n_units,)
        Cluster of each unit; -1 for none.
    map_name : str, default "umap"
        How the map was made; the beginning of the names of its files.
    """

    tables: Mapping[str, UnitTable]
    embeddings: Float[np.ndarray, "cell latent"]
    points: Float[np.ndarray, "cell 2"]
    cluster: Int[np.ndarray, "cell"]
    map_name: str = "umap"

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """What is written of the units, by name.

        These are the published names ``embeddings``, ``labels``, ``dataset_ids``, ``technology_ids`` and ``neuron_ids`` (row in the data
        set), and ours: ``map``, ``cluster``, ``unit``, ``dataset``, ``label`` and ``technology``.
        """
        units = [*self.tables.values()]
        label = np.concatenate([table.label for table in units])
        dataset = np.concatenate([np.full(len(table), name) for name, table in self.tables.items()])
        technology = np.concatenate([table.technology_codes for table in units])
        return {
            "embeddings": self.embeddings,
            "labels": label,
            "dataset_ids": dataset,
            "technology_ids": technology,
            "neuron_ids": np.concatenate([np.arange(len(table)) for table in units]),
            "map": self.points.astype(np.float32),
            "cluster": self.cluster,
            "unit": np.concatenate([table.name for table in units]),
            "dataset": dataset,
            "label": label,
            "technology": technology,
        }

    def write(self, folder: Path, output: Path | None = None) -> Path:
        """Write the embeddings, and the map as ``umap_coords.npz`` (``coords``, ``labels``, ``dataset_ids``, ``cluster``).

        Parameters
        ----------
        folder : Path
            Folder of both files.
        output : Path, optional
            File of the embeddings; by default ``embeddings.npz`` in the folder.

        Returns
        -------
        Path
            The file of the embeddings, with the content of ``arrays``.
        """
        arrays = self.arrays
        kept = {name: arrays[name] for name in ("labels", "dataset_ids", "cluster")}
        write_npz(folder / f"{self.map_name}_coords.npz", {"coords": arrays["map"], **kept})
        return write_npz(output or folder / "embeddings.npz", arrays)

    def draw(self, folder: Path) -> dict[str, Path]:
        """Draw the map with the units colored by data set (``umap_by_dataset.png``), cluster, and class of each data set.

        Parameters
        ----------
        folder : Path
            Run folder; the figures go to its subfolder ``figures``.

        Returns
        -------
        dict of str to Path
            Figures by caption.
        """
        arrays = self.arrays
        panels = {
            "data sets": ("dataset", np.full(len(self.points), True), arrays["dataset"]),
            "clusters": ("cluster", np.full(len(self.points), True), cluster_names(self.cluster)),
        }
        for name, units in self.tables.items():
            if len(units.classes) > 1:
                labelled = (arrays["dataset"] == name) & (arrays["label"] != "")
                panels[f"{name}: classes"] = (f"class_{name}", labelled, arrays["label"])
        return {
            caption: draw_embedding(
                folder, self.points[rows], column[rows], name=f"{self.map_name}_by_{name}", write_names=False
            )
            for caption, (name, rows, column) in panels.items()
        }

    def scores(self, model: Hippie) -> list[Score]:
        """Score the reconstruction of the units of each data set, and the agreement of clusters with labels.

        Parameters
        ----------
        model : Hippie
            The model that has embedded them.

        Returns
        -------
        list of Score
            Scores of `jaxephys.hippie.report.score_clusters` for each data set.
        """
        dataset = self.arrays["dataset"]
        return [
            score
            for name, units in self.tables.items()
            for score in score_clusters(model, name, units, self.cluster[dataset == name])
        ]
