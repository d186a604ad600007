"""Embeddings, a map and clusters of all units of a folder. The script of the published model card.

    python -m experiments.hippie_embed --datasets-root DIR --output embeddings.npz
    python -m experiments.hippie_embed --datasets-root DIR --output embeddings.npz --model hippie_techcond_v1.ckpt
    python -m experiments.hippie_embed smoke --datasets-root DIR

DIR has one folder per data set (CSV files, or units.npz of data_prep), or is itself such a folder. Units are embedded by ``--model``, a
saved Hippie or a published checkpoint. Without it a network is trained on the curves of all units, which is right for a map and for
clusters but wrong for any score of classifiers; hippie_probe is for these.

The file holds ``embeddings`` (unit, latent), ``map`` (unit, 2), ``cluster`` (unit; -1 for none), and ``unit``, ``dataset``, ``label``,
``technology``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from sklearn.decomposition import PCA

from data_prep.units.registry import find_dataset
from experiments.command_line import main
from jaxephys.hippie.datasets import available_modalities, read_tables
from jaxephys.hippie.estimator import Hippie
from jaxephys.hippie.grid import NetworkSize
from jaxephys.hippie.report import cluster_names, score_clusters
from jaxephys.reporting.maps import draw_embedding
from jaxephys.reporting.run_folder import RunFolder
from jaxephys.reporting.tables import model_table
from jaxephys.schemas.storage import write_npz


@dataclass(frozen=True)
class Embed(NetworkSize):
    """Settings of the experiment."""

    datasets_root: Path = Path("hippie")
    """Folder with one folder per data set, or a table of units."""
    output: Path | None = None
    """File of the embeddings; by default embeddings.npz in the run folder."""
    model: Path | None = None
    """A saved Hippie, or a published checkpoint."""
    umap: bool = True
    """Map by UMAP (needs the extra umap); otherwise by principal components."""
    min_cluster_size: int = 10
    """Units of the smallest cluster."""

    renamed: ClassVar[Mapping[str, str]] = {**NetworkSize.renamed, "least": "min_cluster_size"}


PRESETS = {
    "default": Embed(),
    "resnet": Embed(trunk="resnet", max_epochs=60),
    "smoke": Embed(umap=False, width=4, latent=6, max_epochs=3),
}

INTRODUCTION = """Embeddings of all units, a map of them, and clusters by HDBSCAN. The network was trained on the curves of these units, but on
no label. The agreement of clusters with labels is the adjusted Rand index of units that have both."""


def run(settings: Embed, folder: RunFolder) -> None:
    """Embed and cluster all units and write the report.

    Parameters
    ----------
    settings : Embed
        Settings of the run.
    folder : RunFolder
        Its folder.
    """
    tables = {
        name: replace(units, about={**units.about, "dataset": np.full(len(units), name)})  # distinguishes copies
        for name, units in read_tables(settings.datasets_root, find_dataset).items()
    }
    folder.announce_run(int(settings.model is None), **{name: units.raw for name, units in tables.items()})
    units = list(tables.values())
    if settings.model is None:
        modalities = [name for name, _ in available_modalities(units)]
        sizes: Any = {"width": settings.width, "trunk": settings.trunk, "max_epochs": settings.max_epochs}
        model = Hippie(settings.latent, modalities=modalities, **sizes).fit(units)
    else:
        path = settings.model
        model = Hippie.load(path) if path.is_dir() else Hippie.from_checkpoint(path)
    embeddings = np.concatenate([model.embed(table) for table in units])
    points = Hippie.umap_reduce(embeddings) if settings.umap else PCA(2, random_state=0).fit_transform(embeddings)
    clustered = points if settings.umap else embeddings
    cluster = Hippie.hdbscan_cluster(clustered, min_cluster_size=settings.min_cluster_size)
    if not folder.is_first_host:
        return
    label, dataset = (np.concatenate([table.column(name) for table in units]) for name in ("label", "dataset"))
    output = settings.output or folder.path / "embeddings.npz"
    arrays: dict[str, Any] = {
        "embeddings": embeddings,
        "map": points.astype(np.float32),
        "cluster": cluster,
        "unit": np.concatenate([table.name for table in units]),
        "dataset": dataset,
        "label": label,
        "technology": np.concatenate([table.technology_codes for table in units]),
    }
    write_npz(output, arrays)
    folder.print(f"{len(embeddings)} units -> {output}")
    if settings.model is None:
        model.save(folder.path / "model", overwrite=True)
    columns = {"data sets": ("datasets", dataset), "clusters": ("clusters", cluster_names(cluster))}
    figures = {
        title: draw_embedding(folder.path, points, column, name=name, write_names=False)
        for title, (name, column) in columns.items()
    }
    scores = []
    for name, table in tables.items():
        scores += score_clusters(model, name, table, cluster[dataset == name])
        labelled = (dataset == name) & (label != "")
        if len(table.classes) > 1:
            file = f"classes_{name}"
            figures[f"{name}: classes"] = draw_embedding(folder.path, points[labelled], label[labelled], name=file)
    metrics = sorted({score.metric for score in scores})
    report = {"Units": model_table(scores, metrics, split="all", ranked=False)}
    notes = [f"{cluster.max() + 1} clusters; units of cluster -1 are in none."]
    folder.write_report(scores, "Embedding of sorted units", INTRODUCTION, report, figures, notes)


if __name__ == "__main__":
    main("hippie_embed", __doc__, PRESETS, run)
