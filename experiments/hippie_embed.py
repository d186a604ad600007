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

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from sklearn.decomposition import PCA

from data_prep.units.registry import find_dataset
from experiments.command_line import main
from jaxephys.hippie.benchmark import read_tables
from jaxephys.hippie.estimator import Hippie, load_or_convert
from jaxephys.hippie.grid import available_modalities
from jaxephys.hippie.report.clusters import cluster_names, score_clusters
from jaxephys.reporting.maps import draw_embedding
from jaxephys.reporting.run_folder import RunFolder
from jaxephys.reporting.settings import Settings
from jaxephys.reporting.tables import model_table
from jaxephys.schemas.storage import write_npz
from jaxephys.schemas.unit_table import UnitTable


@dataclass(frozen=True)
class Embed(Settings):
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
    trunk: Literal["dense", "resnet"] = "dense"
    """Type of encoders and decoders, if a network is trained."""
    width: int = 16
    """Channels of the first layer; a dense trunk has eight times as many hidden units."""
    latent: int = 30
    """Number of latent dimensions."""
    epochs: int = 100
    """Largest number of epochs."""


PRESETS = {
    "default": Embed(),
    "resnet": Embed(trunk="resnet", epochs=60),
    "smoke": Embed(umap=False, width=4, latent=6, epochs=3),
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
    model = fit_model(settings, list(tables.values())) if settings.model is None else load_or_convert(settings.model)
    embeddings = np.concatenate([model.embed(units) for units in tables.values()])
    points = Hippie.umap_reduce(embeddings) if settings.umap else PCA(2, random_state=0).fit_transform(embeddings)
    clustered = points if settings.umap else embeddings
    cluster = Hippie.hdbscan_cluster(clustered, min_cluster_size=settings.min_cluster_size)
    columns: dict[str, Any] = {
        "unit": np.concatenate([units.name for units in tables.values()]),
        "dataset": np.concatenate([units.column("dataset") for units in tables.values()]),
        "label": np.concatenate([units.label for units in tables.values()]),
        "technology": np.concatenate([units.technology_codes for units in tables.values()]),
    }
    if not folder.is_first_host:
        return
    output = settings.output or folder.path / "embeddings.npz"
    arrays = {"embeddings": embeddings, "map": points.astype(np.float32), "cluster": cluster, **columns}
    write_npz(output, arrays)
    folder.print(f"{len(embeddings)} units -> {output}")
    if settings.model is None:
        model.save(folder.path / "model", overwrite=True)
    figures = {}
    for title, name, column in (
        ("data sets", "datasets", columns["dataset"]),
        ("clusters", "clusters", cluster_names(cluster)),
    ):
        figures[title] = draw_embedding(folder.path, points, column, name=name, write_names=False)
    scores = []
    for name, units in tables.items():
        rows = columns["dataset"] == name
        scores += score_clusters("hippie_embed", model, name, units, cluster[rows])
        labelled = rows & (columns["label"] != "")
        if labelled.any() and len(units.classes) > 1:
            labels, file = columns["label"][labelled], f"classes_{name}"
            figures[f"{name}: classes"] = draw_embedding(folder.path, points[labelled], labels, name=file)
    metrics = sorted({score.metric for score in scores})
    report = {"Units": model_table(scores, metrics, split="all", ranked=False)}
    notes = [f"{cluster.max() + 1} clusters; units of cluster -1 are in none."]
    folder.write_report(scores, "Embedding of sorted units", INTRODUCTION, report, figures, notes)


def fit_model(settings: Embed, tables: Sequence[UnitTable]) -> Hippie:
    """Train a network on all units, with the modalities that any of them has.

    Parameters
    ----------
    settings : Embed
        Settings of the run.
    tables : sequence of UnitTable
        Units.

    Returns
    -------
    Hippie
        The fitted model.
    """
    sizes: Any = {"width": settings.width, "trunk": settings.trunk, "max_epochs": settings.epochs}
    modalities = [name for name, _ in available_modalities(tables)]
    return Hippie(settings.latent, modalities=modalities, **sizes).fit(tables)


if __name__ == "__main__":
    main("hippie_embed", __doc__, PRESETS, run)
