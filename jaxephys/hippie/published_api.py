"""The functions of the published model card: download of the checkpoint, prepared arrays as input, UMAP and HDBSCAN.

`Hippie.get_embeddings`, `Hippie.umap_reduce` and `Hippie.hdbscan_cluster` offer them under the names of the card. Scripts of the card
import them from `jaxephys.hippie.inference`, see there.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from sklearn.cluster import HDBSCAN

from jaxephys.evaluation.neighbors import MissingExtraError, load_umap
from jaxephys.hippie.network.cvae import ABSENT, ConditionalVAE
from jaxephys.hippie.task import UnitArrays
from jaxephys.schemas.unit_table import TECHNOLOGIES, informative

REPOSITORY, FILE = "Jesusgf23/hippie", "hippie_techcond_v1.ckpt"  # of the published weights on the Hugging Face hub
TECHNOLOGY_IDS = dict(TECHNOLOGIES)  # the published table has a row for "tetrode", which was never trained


def download_checkpoint(
    repo_id: str = REPOSITORY,
    filename: str = FILE,
    cache_dir: str | Path | None = None,
    *,
    local_files_only: bool = False,
) -> Path:
    """Download a file from the Hugging Face hub, unless it is in the cache.

    Parameters
    ----------
    repo_id : str
        Name of the repository, ``owner/name``.
    filename : str
        File in the repository.
    cache_dir : str or Path, optional
        Folder of the cache; by default that of ``huggingface_hub``.
    local_files_only : bool, default False
        Use the cache only, without the network.

    Returns
    -------
    Path
        The local file.

    Raises
    ------
    MissingExtraError
        If ``huggingface_hub`` is not installed. It is an ``ImportError``.
    """
    try:
        from huggingface_hub import hf_hub_download  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise MissingExtraError(
            'huggingface_hub is not installed: pip install "jaxephys[hub]", or give a local file to from_checkpoint'
        ) from None
    options = {"cache_dir": cache_dir, "local_files_only": local_files_only}
    return Path(hf_hub_download(repo_id=repo_id, filename=filename, **options))


def as_unit_arrays(network: ConditionalVAE, curves: Mapping[str, np.ndarray | None], source: int) -> UnitArrays:
    """Turn curves that are already preprocessed into network inputs.

    Parameters
    ----------
    network : ConditionalVAE
        The network.
    curves : mapping of str to array (n_units, length) or (n_units, 1, length), or None
        Curves scaled to [-1, 1] at the lengths of the network. A modality that is None, and a constant row, is absent.
    source : int
        Technology of all units; -1 if unknown.

    Returns
    -------
    UnitArrays
        Inputs of the network.

    Raises
    ------
    ValueError
        If no curve is given, or numbers of rows or lengths do not fit.
    """
    counts = {name: len(rows) for name, rows in curves.items() if rows is not None}
    if len(set(counts.values())) != 1:
        raise ValueError(f"the curves have {counts or 'no'} rows: give one row per unit in each of wave=, isi=, acg=")
    count = next(iter(counts.values()))
    arrays, present = {}, []
    for name, length in network.modalities:
        given = curves.get(name)
        rows = np.full((count, length), np.nan) if given is None else np.asarray(given, float).reshape(count, -1)
        if rows.shape[1] != length:
            raise ValueError(
                f"{name} has {rows.shape[1]} samples, not {length}: prepare raw curves, or give them to embed"
            )
        present.append(informative(rows))
        arrays[name] = np.where(present[-1][:, None], rows, ABSENT).astype(np.float32)
    return UnitArrays(arrays, np.stack(present, axis=1), np.full(count, source, np.int32))


def umap_reduce(
    embeddings: Float[np.ndarray, "cell latent"],
    n_components: int = 2,
    n_neighbors: int = 30,
    min_dist: float = 0.1,
    metric: str = "cosine",
    random_state: int = 42,
) -> Float[np.ndarray, "cell _"]:
    """Project embeddings to a map by UMAP, with the defaults of the published model card.

    Parameters
    ----------
    embeddings : array (n_units, latent)
        Output of ``Hippie.embed``.
    n_components : int
        Dimensions of the map.
    n_neighbors : int
        Number of neighbors that define the local structure.
    min_dist : float
        Smallest distance of points in the map.
    metric : str
        Distance between embeddings.
    random_state : int
        Seed; the result is reproducible on one machine.

    Returns
    -------
    float32 array (n_units, n_components)
        Coordinates.

    Raises
    ------
    MissingExtraError
        If ``umap-learn`` is not installed. It is an ``ImportError``.
    """
    options = {"n_components": n_components, "n_neighbors": n_neighbors, "min_dist": min_dist, "metric": metric}
    coordinates = load_umap()(**options, random_state=random_state, n_jobs=1).fit_transform(embeddings)
    return np.asarray(coordinates, np.float32)


def hdbscan_cluster(
    embeddings: Float[np.ndarray, "cell _"],
    min_cluster_size: int = 5,
    min_samples: int | None = None,
    metric: str = "euclidean",
) -> Int[np.ndarray, "cell"]:
    """Cluster embeddings, or a map of them, by HDBSCAN, with the defaults of the published model card.

    Parameters
    ----------
    embeddings : array (n_units, n_dimensions)
        Points.
    min_cluster_size : int
        Number of units of the smallest cluster.
    min_samples : int, optional
        Neighbors that define the density at a point; by default ``min_cluster_size``.
    metric : str
        Distance between points.

    Returns
    -------
    int array (n_units,)
        Cluster of each unit; -1 for units in no cluster.
    """
    model = HDBSCAN(min_cluster_size=min_cluster_size, min_samples=min_samples, metric=metric, copy=True)  # pyright: ignore[reportArgumentType]
    return model.fit_predict(embeddings).astype(np.int32)
