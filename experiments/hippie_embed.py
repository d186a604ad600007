"""All units of a folder in one space: embeddings, a map, clusters. The published model card's script.

    python -m experiments.hippie_embed --datasets-root DIR --output embeddings.npz
    python -m experiments.hippie_embed --datasets-root DIR --output embeddings.npz --model hippie_techcond_v1.ckpt
    python -m experiments.hippie_embed smoke --datasets-root DIR

DIR holds a folder for each data set (CSV files, or units.npz of data_prep), or is itself such a folder. Units are embedded by
``--model``, a saved Hippie or a published checkpoint; without one a network is trained on the curves of all the units, which
is right for a map and for clusters, and wrong for any score of classifiers: hippie_probe is for these.

The file holds embeddings [unit, latent], map [unit, 2], cluster [unit] (-1: none), and unit, dataset, label, technology.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score

from jaxephys.hippie.benchmark import read_tables
from jaxephys.hippie.embedding_grid import recorded
from jaxephys.hippie.estimator import Hippie
from jaxephys.hippie.grid import modalities_of
from jaxephys.models.base import load
from jaxephys.reporting.maps import draw_embedding
from jaxephys.reporting.run_folder import RunFolder, Settings, main
from jaxephys.reporting.score_table import Score, table
from jaxephys.schemas.unit_table import UnitTable


@dataclass(frozen=True)
class Embed(Settings):
    datasets_root: Path = Path("hippie")
    """Folder with a folder for each data set, or a table of units."""
    output: Path | None = None
    """Where the embeddings go; without it into the run folder."""
    model: Path | None = None
    """A saved Hippie, or a published checkpoint."""
    umap: bool = True
    """The map by UMAP (the extra umap); otherwise by principal components."""
    least: int = 10
    """Units of the smallest cluster."""
    trunk: Literal["dense", "resnet"] = "dense"
    """What reads and draws curves, where a network is trained."""
    width: int = 16
    """Channels of the first layer; a dense trunk has eight times as many hidden units."""
    latent: int = 30
    """Dimensions of the latent."""
    epochs: int = 100
    """At most."""


PRESETS = {
    "default": Embed(),
    "resnet": Embed(trunk="resnet", epochs=60),
    "smoke": Embed(umap=False, width=4, latent=6, epochs=3),
}


def run(settings: Embed, folder: RunFolder) -> None:
    tables = {name: named(name, recorded(name, units)) for name, units in read_tables(settings.datasets_root).items()}
    folder.greet(int(settings.model is None), **{name: units.raw for name, units in tables.items()})
    model = trained(settings, tables) if settings.model is None else opened(settings.model)
    embeddings = np.concatenate([model.embed(units) for units in tables.values()])
    plane = Hippie.umap_reduce(embeddings) if settings.umap else PCA(2, random_state=0).fit_transform(embeddings)
    cluster = Hippie.hdbscan_cluster(plane if settings.umap else embeddings, min_cluster_size=settings.least)
    about = {
        "unit": np.concatenate([units.name for units in tables.values()]),
        "dataset": np.concatenate([np.full(len(units), name) for name, units in tables.items()]),
        "label": np.concatenate([units.label for units in tables.values()]),
        "technology": np.concatenate([units.technology for units in tables.values()]),
    }
    if not folder.first:
        return
    out = settings.output or folder.path / "embeddings.npz"
    out.parent.mkdir(parents=True, exist_ok=True)
    with open(out, "wb") as file:
        arrays = {"embeddings": embeddings, "map": plane.astype(np.float32), "cluster": cluster, **about}
        np.savez_compressed(file, allow_pickle=False, **arrays)
    folder.say(f"{len(embeddings)} units -> {out}")
    if settings.model is None:
        model.save(folder.path / "model", overwrite=True)
    scores = scores_of(model, tables, cluster)
    labelled = about["label"] != ""
    panels = {
        "data sets": draw_embedding(folder.path, plane, about["dataset"], name="datasets", written=False),
        "clusters": draw_embedding(folder.path, plane, spelled(cluster), name="clusters", written=False),
    }
    for name, units in tables.items():
        own = labelled & (about["dataset"] == name)
        if own.any() and len(units.classes) > 1:
            panels[f"{name}: classes"] = draw_embedding(
                folder.path, plane[own], about["label"][own], name=f"classes_{name}"
            )
    shown = {"units": table(scores, sorted({score.metric for score in scores}), split="all", ranked=False)}
    folder.close(scores, "Units in one space", INTRO, shown, panels, [f"{cluster.max() + 1} clusters; -1 is none."])


INTRO = """Embeddings (mu) of all units, a map of them, and clusters by HDBSCAN. The network knows the curves of these units, and no
label: agreement with labels is the adjusted Rand index of clusters among units that have both."""


def named(name: str, units: UnitTable) -> UnitTable:
    """With the data set before the names of its units, which tell copies of one recording apart."""
    return replace(units, about={**units.about, "dataset": np.full(len(units), name)})


def trained(settings: Embed, tables: Mapping[str, UnitTable]) -> Hippie:
    own = list(tables.values())
    modalities = [name for name, _ in modalities_of(own)]
    return Hippie(
        settings.latent,
        width=settings.width,
        trunk=settings.trunk,
        modalities=modalities,
        max_epochs=settings.epochs,
    ).fit(own)


def opened(path: Path) -> Hippie:
    """A folder is a saved model, a file is a checkpoint."""
    model = load(path) if path.is_dir() else Hippie.from_checkpoint(path)
    if not isinstance(model, Hippie):
        raise ValueError(f"{path} is a {type(model).__name__}: give --model a Hippie or a published checkpoint")
    return model


def spelled(cluster: np.ndarray) -> np.ndarray:
    """Names of clusters that sort as their numbers do, what is in none at the end."""
    digits = len(str(cluster.max()))
    return np.where(cluster < 0, "none", np.char.zfill(cluster.astype(str), digits))


def scores_of(model: Hippie, tables: Mapping[str, UnitTable], cluster: np.ndarray) -> list[Score]:
    """Of each data set: variance explained, active share, and how clusters agree with classes."""
    scores, start = [], 0
    for name, units in tables.items():
        own = cluster[start : start + len(units)]
        start += len(units)
        measured = {
            key: value for key, value in model.score_table(units)[0].items() if key not in ("network", "n", "loss")
        }
        both = (units.label != "") & (own >= 0)
        if both.any() and len(units.classes) > 1:
            measured["rand"] = float(adjusted_rand_score(units.label[both], own[both]))
        scores += [
            Score("hippie_embed", name, "all", name, 0, 0, "all", metric, value, len(units))
            for metric, value in measured.items()
            if np.isfinite(value)
        ]
    return scores


if __name__ == "__main__":
    main("hippie_embed", __doc__, PRESETS, run)
