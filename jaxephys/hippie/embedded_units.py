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
from jaxephys.reporting.maps import draw_embedding, draw_labelled_planes
from jaxephys.schemas.storage import write_npz
from jaxephys.schemas.unit_table import UnitTable

MAP_NAMES = {"umap": "UMAP", "pca": "First two principal components"}


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
        """Draw the map with the units colored by data set (``umap_by_dataset.png``), by cluster, and by class for all data sets.

        Parameters
        ----------
        folder : Path
            Run folder; the figures go to its subfolder ``figures``.

        Returns
        -------
        dict of str to Path
            Figures by caption.
        """
        arrays, note = self.arrays, f"{MAP_NAMES[self.map_name]} of n = {len(self.points):,} units."
        options: dict = {"write_names": False, "note": note}
        colored = {"dataset": arrays["dataset"], "cluster": cluster_names(self.cluster)}
        figures = {
            f"Map of all units by {name.replace('dataset', 'data set')}": draw_embedding(
                folder, self.points, column, name=f"{self.map_name}_by_{name}", **options
            )
            for name, column in colored.items()
        }
        classes = {}
        for name, units in self.tables.items():
            labelled = (arrays["dataset"] == name) & (arrays["label"] != "")
            if len(units.classes) > 1:
                classes[f"{name} (n = {labelled.sum():,})"] = (self.points[labelled], arrays["label"][labelled])
        if classes:
            drawn = draw_labelled_planes(folder, classes, name=f"{self.map_name}_by_class", note=note)
            figures["Map of the labelled units of each data set by class"] = drawn
        return figures

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
