"""Open a trained network from wherever it is: a saved model, a PyTorch checkpoint, a repository or the published weights of the hub."""

from __future__ import annotations

from pathlib import Path

from jaxephys.hippie.estimator import Hippie
from jaxephys.hippie.published_api import FILE, REPOSITORY, download_checkpoint
from jaxephys.models.hub import REPOSITORY_NAME, load_pretrained

PUBLISHED_WEIGHTS = Path(FILE)
REMEDY = (
    "give the path of a saved model or of a PyTorch checkpoint, or allow the download with --fetch "
    '(290 MB; pip install "jaxephys[hub]")'
)


def open_model(path: str | Path = PUBLISHED_WEIGHTS, *, fetch: bool = False) -> Hippie:
    """Open a saved model or convert a PyTorch checkpoint.

    Parameters
    ----------
    path : str or Path, default "hippie_techcond_v1.ckpt"
        Folder of a saved model or of a run of an experiment, or a PyTorch checkpoint. If there is no file of the default name, the
        published weights are taken from the cache of the Hugging Face hub. With ``fetch`` also a repository of the hub, ``owner/name``.
    fetch : bool, default False
        Download the published weights, or the model of a repository, if the cache does not have them. Without it the network is
        never used.

    Returns
    -------
    Hippie
        The fitted estimator, see `Hippie.from_checkpoint`.

    Raises
    ------
    ValueError
        If there is no such file or folder, or the published weights are not on this machine and cannot be downloaded.

    Examples
    --------
    >>> from jaxephys.hippie.synthetic import make_synthetic_units
    >>> settings = {"width": 2, "trunk": "dense", "max_epochs": 2, "progress": False}
    >>> folder = Hippie(4, **settings).fit(make_synthetic_units(60)).save("small")
    >>> open_model(folder).network_.latent
    4
    """
    path = Path(path)
    if path.is_dir():
        return Hippie.load(path)
    if path.exists():
        return Hippie.from_checkpoint(path)
    if fetch and REPOSITORY_NAME.fullmatch(path.as_posix()):
        model = load_pretrained(path.as_posix())
        if not isinstance(model, Hippie):
            raise ValueError(f"{path} is a {type(model).__name__}: give the repository of a Hippie")
        return model
    if path != PUBLISHED_WEIGHTS:
        raise ValueError(f"there is no model {path}: {REMEDY}")
    try:
        file = download_checkpoint(local_files_only=not fetch)
    except ImportError:
        reason = "huggingface_hub is not installed"
    except Exception as error:  # the hub's library raises many types of errors, of several libraries
        reason = str(error).strip().partition("\n")[0]
    else:
        return Hippie.from_checkpoint(file)
    raise ValueError(f"the published weights {FILE} of {REPOSITORY} are not on this machine ({reason}): {REMEDY}")
