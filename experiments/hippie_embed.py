"""Embeddings, a map and clusters of all units of a folder, by default with the published weights: the script of the model card.

    python -m experiments.hippie_embed --datasets-root DIR --checkpoint hippie_techcond_v1.ckpt --output embeddings.npz
    python -m experiments.hippie_embed --datasets-root DIR --fetch            published weights from the Hugging Face hub (290 MB)
    python -m experiments.hippie_embed trained --datasets-root DIR            our objective, trained on these units
    python -m experiments.hippie_embed smoke --datasets-root DIR

DIR has one folder per data set (CSV files, or units.npz of data_prep), or is itself such a folder. ``--checkpoint`` is a PyTorch checkpoint
of HIPPIE or a saved model. Without it, the published weights are taken from the working folder or from the cache of the hub;
only ``--fetch`` uses the network. The presets trained, dense and resnet train a network on the curves of all units, which is right for a
map and for clusters but wrong for any score of classifiers; hippie_probe is for these.

The embeddings are in ``embeddings.npz`` of the run folder, or in ``--output``, under the published keys ``embeddings`` (unit, latent),
``labels``, ``dataset_ids``, ``technology_ids`` and ``neuron_ids`` (row in the data set), and also ``map`` (unit, 2), ``cluster`` (unit; -1 for
none), ``unit``, ``dataset``, ``label`` and ``technology``. The run folder has the map in ``umap_coords.npz`` (``coords``, ``labels``,
``dataset_ids``, ``cluster``) and ``figures/umap_by_dataset.png``; with ``--no-umap`` these are principal components, in files named pca.

With the published weights nothing is trained: a thousand units take a few seconds after a minute of compilation on two CPU cores.
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
from jaxephys.hippie.embedded_units import EmbeddedUnits
from jaxephys.hippie.estimator import Hippie
from jaxephys.hippie.pretrained import PUBLISHED_WEIGHTS, open_model
from jaxephys.hippie.protocol import NetworkSize
from jaxephys.hippie.published_values import QUESTIONS
from jaxephys.hippie.report import embedding_rows
from jaxephys.reporting.run_folder import RunFolder
from jaxephys.reporting.tables import model_table
from jaxephys.schemas.unit_table import UnitTable


@dataclass(frozen=True)
class Embed(NetworkSize):
    """Settings of the experiment."""

    datasets_root: Path = Path("hippie")
    """Folder with one folder per data set, or a table of units."""
    datasets: tuple[str, ...] = ()
    """Folders of the data sets to embed; by default all."""
    checkpoint: Path | None = PUBLISHED_WEIGHTS
    """A saved model or a PyTorch checkpoint; by default the published weights. None: train a network on these units."""
    fetch: bool = False
    """Download the published weights from the Hugging Face hub if they are not on this machine."""
    output: Path | None = None
    """File of the embeddings; by default embeddings.npz in the run folder."""
    umap: bool = True
    """Map by UMAP (needs the extra umap); otherwise by principal components."""
    min_cluster_size: int = 10
    """Units of the smallest cluster."""

    renamed: ClassVar[Mapping[str, str]] = {
        **NetworkSize.renamed,
        "least": "min_cluster_size",
        "model": "checkpoint",
    }
    added: ClassVar[tuple[str, ...]] = ("datasets", "fetch")


TRAINED = Embed(checkpoint=None)
PRESETS = {
    "default": Embed(),
    "trained": TRAINED,
    "dense": replace(TRAINED, trunk="dense", width=16, latent=30),
    "resnet": replace(TRAINED, width=16, latent=30, max_epochs=60),
    "smoke": replace(TRAINED, trunk="dense", umap=False, width=4, latent=6, max_epochs=3),
}

INTRODUCTION = """Embeddings of all units, a map of them, and clusters by HDBSCAN, with {weights}. The agreement of clusters with labels is
the adjusted Rand index of units that have both."""


def run(settings: Embed, folder: RunFolder) -> None:
    """Embed and cluster all units and write the report.

    Parameters
    ----------
    settings : Embed
        Settings of the run.
    folder : RunFolder
        Its folder.
    """
    tables = read_tables(settings.datasets_root, find_dataset, settings.datasets)
    tables = {
        name: replace(units, about={**units.about, "dataset": np.full(len(units), name)})  # distinguishes copies
        for name, units in tables.items()
        if name in (settings.datasets or tables)
    }
    folder.announce_run(int(settings.checkpoint is None), **{name: units.raw for name, units in tables.items()})
    model, weights = _model(settings, [*tables.values()])
    embeddings = np.concatenate([model.embed(units) for units in folder.track(tables.values(), "embedding")])
    with folder.step("map"):
        points = Hippie.umap_reduce(embeddings) if settings.umap else PCA(2, random_state=0).fit_transform(embeddings)
    clustered = points if settings.umap else embeddings
    with folder.step("clusters"):
        cluster = Hippie.hdbscan_cluster(clustered, min_cluster_size=settings.min_cluster_size)
    if not folder.is_first_host:
        return
    if settings.checkpoint is None:
        model.save(folder.path / "model", overwrite=True)
    embedded = EmbeddedUnits(tables, embeddings, points, cluster, "umap" if settings.umap else "pca")
    folder.print(f"{len(embeddings)} units -> {embedded.write(folder.path, settings.output)}")
    scores = embedded.scores(model)
    report = {"Units": model_table(scores, sorted({score.metric for score in scores}), split="all", ranked=False)}
    notes = [f"{cluster.max() + 1} clusters; units of cluster -1 are in none."]
    introduction, figures = INTRODUCTION.format(weights=weights), embedded.draw(folder.path)
    title, question = "Embedding of sorted units", QUESTIONS["hippie_embed"]
    folder.write_report(scores, title, introduction, report, figures, notes, question, embedding_rows(scores))


def _model(settings: Embed, units: list[UnitTable]) -> tuple[Hippie, str]:
    """Return the network, trained on the units or opened, and what it is in words."""
    if settings.checkpoint is not None:
        model = open_model(settings.checkpoint, fetch=settings.fetch)
        return model, f"the weights of {settings.checkpoint.name} ({model.describe()})"
    modalities = [name for name, _ in available_modalities(units)]
    sizes: Any = {"width": settings.width, "trunk": settings.trunk, "max_epochs": settings.max_epochs}
    model = Hippie(settings.latent_size(len(modalities)), modalities=modalities, **sizes).fit(units)
    return model, f"our objective, trained on the curves of these units and on no label ({settings.network_name})"


if __name__ == "__main__":
    main("hippie_embed", __doc__, PRESETS, run)
