"""Download the files of a published data set of units, or list the steps where no program may download them.

Start with :func:`fetch_dataset` and :func:`instruction`.

Files come from DANDI, from single addresses, or, for the International Brain Laboratory, through its client ONE.
"""

from __future__ import annotations

from pathlib import Path

from data_prep.ibl import IblServer
from data_prep.progress import ProgressReport
from data_prep.units.registry import Dataset
from jaxephys.schemas.storage import DataError

IBL_PROJECT = "ibl_neuropixel_brainwide_01"


def fetch_dataset(
    dataset: Dataset,
    out: Path,
    *,
    limit: int | None = None,
    match: str | None = None,
    jobs: int = 4,
    version: str | None = None,
) -> None:
    """Download the files of a data set and print a summary.

    Parameters
    ----------
    dataset : Dataset
        The data set.
    out : Path
        Folder for the files. Of several dandisets each has a folder of its own in it.
    limit : int, optional
        Largest number of files of each dandiset, or of sessions of the IBL.
    match : str, optional
        Pattern of the paths to fetch from DANDI; by default that of the registry.
    jobs : int, default 4
        Number of simultaneous downloads. ONE does not use it.
    version : str, optional
        Version on DANDI, see :func:`data_prep.dandi_archive.query_archive`.

    Raises
    ------
    DataError
        If the data set cannot be downloaded by a program or does not take one of the options, or a file could not be
        downloaded.
    """
    given = {"limit": limit, "match": match, "version": version}
    taken = tuple(given) if dataset.dandisets else ("limit",) if dataset.name == "ibl" else ()
    refused = [f"--{name}" for name, value in given.items() if value is not None and name not in taken]
    if refused:
        raise DataError(f"{dataset.name} does not take {', '.join(refused)}: leave out the option")
    # These import libraries of the prep extra, which the other commands do not need.
    if dataset.dandisets:
        from data_prep.cli import fetch_recordings

        for number, pattern in dataset.dandisets.items():
            folder = out / number if len(dataset.dandisets) > 1 else out
            fetch_recordings(number, folder, limit=limit, match=match or pattern, jobs=jobs, version=version)
    elif dataset.urls:
        from data_prep.download import RemoteFile, download_files

        files = [RemoteFile(name, url) for name, url in dataset.urls.items()]
        downloaded, present, failed = download_files(files, out, jobs=jobs)
        print(f"{len(downloaded)} files downloaded, {len(present)} already present, {len(failed)} failed")
        if failed:
            path, reason = next(iter(failed.items()))
            raise DataError(f"{dataset.name} was not fetched: {path}: {reason}; the files are of {dataset.source}")
    elif dataset.name == "ibl":
        fetch_brain_wide_map(out, limit)
    else:
        raise DataError(f"{dataset.name} cannot be fetched by a program: follow the steps above")


def fetch_brain_wide_map(out: Path, limit: int | None = None) -> None:
    """Download sorted spikes, waveforms, quality and regions of the IBL's brain-wide map. Complete files stay.

    Parameters
    ----------
    out : Path
        Folder in which ONE arranges the files.
    limit : int, optional
        Largest number of sessions, in the order of their identifiers.

    Raises
    ------
    DataError
        If ONE is not installed, the server has no sessions, or some could not be downloaded.
    """
    server = IblServer(out)
    sessions = sorted(server.search(project=IBL_PROJECT))[:limit]
    if not sessions:
        raise DataError(f"the server has no public session of the project {IBL_PROJECT}")
    probes, failed = 0, {}
    with ProgressReport("sessions", len(sessions)) as progress:
        for session in sessions:
            try:
                for sorting in server.sortings(session, "clusters.waveforms*").values():
                    requested = [
                        ("spikes", sorting, ["times", "clusters"]),
                        ("clusters", sorting, ["waveforms", "metrics", "channels"]),
                        ("channels", sorting, ["brainLocationIds_ccf_2017"]),
                    ]
                    server.download(session, requested)
                    probes += 1
            except DataError as error:
                failed[session] = str(error)
            progress.advance(failed=session in failed)
    print(f"{probes} probes of {len(sessions)} sessions are in {out}")
    if failed:
        session, reason = next(iter(failed.items()))
        raise DataError(f"{len(failed)} sessions failed, {session}: {reason}; the same command tries them again")


def instruction(dataset: Dataset, out: str = "FILES", table: str = "TABLE") -> list[str]:
    """List the steps from nothing to a table of a data set.

    Parameters
    ----------
    dataset : Dataset
        The data set.
    out : str, default "FILES"
        Folder for the files.
    table : str, default "TABLE"
        Folder for the table.

    Returns
    -------
    list of str
        One text per step.

    Examples
    --------
    >>> from data_prep.units.registry import find_dataset
    >>> print("\\n".join(instruction(find_dataset("watson"))))
    python -m data_prep units fetch FILES watson
    python -m data_prep units build TABLE --nwb FILES --name watson
    """
    source = f"{out}/{dataset.download}" if dataset.download else out
    steps = [f"python -m data_prep units fetch {out} {dataset.name}"]
    if dataset.download:
        steps = [
            f"open {dataset.source}/apps/about and request the password of the database",
            f"open {dataset.source}/apps/download and store {dataset.download} in {out}",
        ]
    elif dataset.name == "ibl":
        steps.insert(0, 'pip install "jaxephys[ibl]" iblatlas pandas pyarrow')
    return [*steps, f"python -m data_prep units build {table} --{dataset.reader} {source} --name {dataset.name}"]
