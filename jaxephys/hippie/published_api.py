"""What the published model card offers beside the network: its file, its arrays as they come, a map, clusters."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from sklearn.cluster import HDBSCAN

from jaxephys.hippie.network.cvae import ABSENT, ConditionalVAE
from jaxephys.hippie.preprocessing import informative
from jaxephys.hippie.task import Units
from jaxephys.schemas.unit_table import TECHNOLOGIES

TECHNOLOGY_IDS = dict(TECHNOLOGIES)  # "tetrode" has a row in the published table, which was never trained


def download(repo_id: str, filename: str, cache_dir: str | Path | None = None) -> Path:
    """The local copy of a file of the Hugging Face hub."""
    try:
        from huggingface_hub import hf_hub_download  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ImportError(
            'huggingface_hub is not installed: pip install "jaxephys[hub]", or give a local file to from_checkpoint'
        ) from None
    return Path(hf_hub_download(repo_id=repo_id, filename=filename, cache_dir=cache_dir))


def as_units(network: ConditionalVAE, given: Mapping[str, np.ndarray | None], source: int) -> Units:
    """Curves that are prepared already, one row a unit; a missing modality, or a constant row of one, is absent."""
    counts = {name: len(rows) for name, rows in given.items() if rows is not None}
    if len(set(counts.values())) != 1:
        raise ValueError(f"the curves have {counts or 'no'} rows: give one row a unit in each of wave=, isi=, acg=")
    count = next(iter(counts.values()))
    curves, present = {}, []
    for name, length in network.modalities:
        told = given.get(name)
        rows = np.full((count, length), np.nan) if told is None else np.asarray(told, float).reshape(count, -1)
        if rows.shape[1] != length:
            raise ValueError(
                f"{name} has {rows.shape[1]} samples, not {length}: prepare raw curves, or give them to embed"
            )
        present.append(informative(rows))
        curves[name] = np.where(present[-1][:, None], rows, ABSENT).astype(np.float32)
    return Units(curves, np.stack(present, axis=1), np.full(count, source, np.int32))


def umap_reduce(
    embeddings: Float[np.ndarray, "cell latent"],
    n_components: int = 2,
    n_neighbors: int = 30,
    min_dist: float = 0.1,
    metric: str = "cosine",
    random_state: int = 42,
) -> Float[np.ndarray, "cell _"]:
    """A map of the units."""
    try:
        from umap import UMAP
    except ImportError:
        raise ImportError('umap-learn is not installed: pip install "jaxephys[umap]"') from None
    drawn = UMAP(
        n_components=n_components,
        n_neighbors=n_neighbors,
        min_dist=min_dist,
        metric=metric,
        random_state=random_state,
        n_jobs=1,
    ).fit_transform(embeddings)
    return np.asarray(drawn, np.float32)


def hdbscan_cluster(
    embeddings: Float[np.ndarray, "cell _"],
    min_cluster_size: int = 5,
    min_samples: int | None = None,
    metric: str = "euclidean",
) -> Int[np.ndarray, "cell"]:
    """The cluster of each unit, -1 for those of none; of embeddings, or of a map of them."""
    found = HDBSCAN(min_cluster_size=min_cluster_size, min_samples=min_samples, metric=metric, copy=True)  # pyright: ignore[reportArgumentType]
    return found.fit_predict(embeddings).astype(np.int32)
