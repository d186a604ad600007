"""Saved models on the Hugging Face hub: :func:`load_pretrained`, :func:`fetch_model` and :func:`push_model`.

Each of them prints a line when it uses the network, and nothing else in ``jaxephys.models`` uses it. They need the extra
``hub`` (``huggingface_hub``), which is imported when it is used. Downloaded files are kept in the cache of ``huggingface_hub``, from which
they are read without a network. No code of a repository is run: a model consists of arrays and settings, and its checksums are compared.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jaxephys.engine.orbax_files import CheckpointError
from jaxephys.models.loading import load
from jaxephys.models.saved_model import ARRAYS, CARD, CHECKSUMS, CONFIG, EXPORT, INFO, SKOPS, read_model

FILES = (CONFIG, CHECKSUMS, EXPORT, INFO, CARD, f"{ARRAYS}/*")  # patterns; a repository may hold other files
REPOSITORY_NAME = re.compile(r"[\w.-]+/[\w.-]+")  # owner/name
INSTALL = 'pip install "jaxephys[hub]"'


class HubError(ValueError):
    """The hub cannot be used: it is not reached, has no such repository, or refuses an upload."""


def load_pretrained(
    name: str | Path,
    revision: str | None = None,
    *,
    cache_dir: str | Path | None = None,
    endpoint: str | None = None,
    local_files_only: bool = False,
) -> Any:
    """Load a trained model from a folder or from the Hugging Face hub.

    A folder of that name is loaded without the network, as by :func:`jaxephys.load`. Otherwise the name is a repository of the hub:
    what is not in the cache is downloaded, and a line is printed.

    Parameters
    ----------
    name : str or Path
        Folder of a saved model or of an experiment, or a repository ``owner/name`` of the hub.
    revision : str, optional
        Branch, tag or commit of the repository; by default ``main``. Give the commit in a publication, since a branch may move.
    cache_dir : str or Path, optional
        Folder of the cache; by default that of ``huggingface_hub`` (``HF_HOME``).
    endpoint : str, optional
        Address of the hub; by default the variable ``HF_ENDPOINT``, or https://huggingface.co.
    local_files_only : bool, default False
        Read a repository from the cache only, without the network.

    Returns
    -------
    PatchSeqClassifier or Hippie or SpikeTransformer
        The fitted estimator.

    Raises
    ------
    HubError
        If there is no such folder or repository, or the hub cannot be reached and the model is not in the cache. It is a ``ValueError``.
    CheckpointError
        If the folder or repository holds no model, or a damaged one. It is a ``ValueError``.

    Examples
    --------
    >>> import jaxephys
    >>> from jaxephys.hippie.synthetic import make_synthetic_units
    >>> units = make_synthetic_units(60)
    >>> model = jaxephys.Hippie(4, width=2, trunk="dense", seeds=2, max_epochs=2, progress=False).fit(units)
    >>> folder = model.save("small_hippie")
    >>> jaxephys.load_pretrained("small_hippie").embed(units).shape
    (60, 4)
    >>> jaxephys.load_pretrained("some-laboratory/interneurons", revision="v1")  # doctest: +SKIP
    """
    if Path(name).is_dir():
        if revision is not None:
            raise HubError(
                f"{name} is a folder on this machine, which has no revision {revision!r}: leave revision out"
            )
        return load(name)
    options: dict[str, Any] = {"cache_dir": cache_dir, "endpoint": endpoint, "local_files_only": local_files_only}
    return load(fetch_model(str(name), revision=revision, **options))


def fetch_model(
    repo_id: str,
    folder: str | Path | None = None,
    revision: str | None = None,
    *,
    cache_dir: str | Path | None = None,
    endpoint: str | None = None,
    local_files_only: bool = False,
) -> Path:
    """Download a saved model from the Hugging Face hub into the cache, and copy it to a folder.

    Parameters
    ----------
    repo_id : str
        Repository, ``owner/name``.
    folder : str or Path, optional
        Folder to create. By default the model stays in the cache.
    revision, cache_dir, endpoint, local_files_only : see load_pretrained
        As in `load_pretrained`.

    Returns
    -------
    Path
        The folder, or that of the cache. Its files have passed the comparison with their checksums.

    Raises
    ------
    HubError
        If there is no such repository, it cannot be reached, or ``folder`` exists.
    CheckpointError
        If the repository holds no model of jaxephys, or a damaged one.
    """
    if not REPOSITORY_NAME.fullmatch(repo_id):
        raise HubError(
            f"there is no folder {repo_id}, and a repository of the hub has the form owner/name: give one of them"
        )
    if folder is not None and Path(folder).exists():
        raise HubError(f"{folder} exists: choose another name")
    hub = _import_hub()
    endpoint, cache_dir = str(endpoint or hub.constants.ENDPOINT), Path(cache_dir or hub.constants.HF_HUB_CACHE)
    source = "the cache" if local_files_only or hub.constants.HF_HUB_OFFLINE else endpoint
    print(f"reading {repo_id} (revision {revision or 'main'}) from {source}, cache {cache_dir}", file=sys.stderr)
    options = {"revision": revision, "cache_dir": cache_dir, "endpoint": endpoint, "local_files_only": local_files_only}
    with _readable_errors(hub, repo_id, source, revision):
        cached = Path(hub.snapshot_download(repo_id, allow_patterns=list(FILES), **options))
    if not (cached / CONFIG).exists():
        raise CheckpointError(f"the repository {repo_id} holds no saved model of jaxephys: {CONFIG} is missing")
    read_model(cached)
    if folder is None:
        return cached
    Path(folder).parent.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copytree(cached, folder))  # files of the cache are links, of which the content is copied


def push_model(
    folder: str | Path,
    repo_id: str,
    *,
    private: bool = False,
    message: str | None = None,
    endpoint: str | None = None,
) -> str:
    """Upload a saved model, or a folder for SpikeInterface, to the Hugging Face hub, in one commit.

    The files of the model are uploaded and no others. Files of an earlier model in the repository that this one lacks are deleted;
    files that are not those of a model stay.

    Parameters
    ----------
    folder : str or Path
        Folder that ``save`` of an estimator or `jaxephys.export_for_spikeinterface` has written. Its checksums are compared first.
    repo_id : str
        Repository, ``owner/name``. It is created if there is none.
    private : bool, default False
        Create a repository that only its owner sees. An existing one stays as it is.
    message : str, optional
        Message of the commit.
    endpoint : str, optional
        Address of the hub; by default the variable ``HF_ENDPOINT``, or https://huggingface.co.

    Returns
    -------
    str
        Address of the commit.

    Raises
    ------
    HubError
        If the hub cannot be reached or refuses the upload, for instance without a login.
    CheckpointError
        If the folder holds no saved model, or a damaged one.
    """
    folder = Path(folder)
    if not REPOSITORY_NAME.fullmatch(repo_id):
        raise HubError(f"{repo_id!r} is no repository of the hub: give owner/name")
    kind = _check_folder(folder)
    hub = _import_hub()
    endpoint = str(endpoint or hub.constants.ENDPOINT)
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and _is_of_model(path.relative_to(folder))]
    size = sum(path.stat().st_size for path in files) / 1e6
    print(f"uploading {len(files)} files ({size:.1f} MB) of {folder} to {endpoint}/{repo_id}", file=sys.stderr)
    with _readable_errors(hub, repo_id, endpoint, None):
        api = hub.HfApi(endpoint=endpoint, library_name="jaxephys")
        api.create_repo(repo_id, private=private, exist_ok=True)
        names = {path.relative_to(folder).as_posix(): path for path in files}
        former = [name for name in api.list_repo_files(repo_id) if _is_of_model(Path(name)) and name not in names]
        operations = [hub.CommitOperationDelete(name) for name in former]
        operations += [hub.CommitOperationAdd(name, path) for name, path in names.items()]
        commit = api.create_commit(repo_id, operations, commit_message=message or f"{kind} of jaxephys")
    return str(commit.commit_url)


def _check_folder(folder: Path) -> str:
    """Compare the checksums of a folder, and return the kind of its model."""
    if not (folder / SKOPS).exists():
        return read_model(folder)[1]["kind"]
    try:
        info = json.loads((folder / INFO).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder / INFO} is missing or damaged: export the classifier again") from error
    if hashlib.sha256((folder / SKOPS).read_bytes()).hexdigest() != info.get("sha256"):
        raise CheckpointError(f"{folder / SKOPS} was damaged or changed after the export: export the classifier again")
    return info["kind"]


def _is_of_model(path: Path) -> bool:
    """Whether a file belongs to a saved model, by its path in the folder or repository."""
    return path.as_posix() in (*FILES, SKOPS) or path.parts[0] == ARRAYS


def _import_hub() -> Any:
    try:
        import huggingface_hub
        import huggingface_hub.errors
    except ImportError:
        raise HubError(f"the Hugging Face hub needs huggingface_hub, which is not installed: {INSTALL}") from None
    return huggingface_hub


@contextmanager
def _readable_errors(hub: Any, repo_id: str, endpoint: str, revision: str | None) -> Iterator[None]:
    """Turn the errors of ``huggingface_hub`` into one sentence each."""
    errors = hub.errors
    try:
        yield
    except errors.RevisionNotFoundError as error:
        raise HubError(
            f"{repo_id} has no revision {revision!r} at {endpoint}: give a branch, a tag or a commit"
        ) from error
    except errors.RepositoryNotFoundError as error:
        reason = "check the name, or log in with `hf auth login` if it is private"
        raise HubError(f"there is no repository {repo_id} at {endpoint} for this user: {reason}") from error
    except errors.LocalEntryNotFoundError as error:
        reason = "connect to the network, or give the folder of a model"
        where = "the hub was not used" if endpoint == "the cache" else f"{endpoint} was not reached"
        raise HubError(f"{repo_id} is not in the cache, and {where}: {reason}") from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        reason = "log in with `hf auth login`" if status in (401, 403) else "try again later"
        raise HubError(f"{endpoint} refused the request for {repo_id} with status {status}: {reason}") from error
    except errors.HFValidationError as error:
        raise HubError(f"{repo_id!r} is no valid name of a repository: give owner/name") from error
    except (OSError, errors.HTTPError) as error:
        if getattr(error, "filename", None):  # a file of this machine
            raise
        raise HubError(
            f"{endpoint} was not reached ({type(error).__name__}): check the network and try again"
        ) from error
