"""Table of the recordings of an experiment, with what is known of their origin. Start with :func:`recordings_table`."""

from __future__ import annotations

from collections.abc import Sequence

from jaxephys.reporting.tables import Cell, Table
from jaxephys.schemas.recording import SPLITS, Recording

PUBLISHED_TEST_SECONDS = 150.0  # length of the test part of each recording of Shimono (2026)
SIMULATED = "simulated"
MAX_DRAWN = 4  # recordings that all have figures of their own


def recordings_table(recordings: Sequence[Recording]) -> Table:
    """List the recordings with region, identifier, units, mean rate, and the length of each split, as Table 1 of the paper.

    Parameters
    ----------
    recordings : sequence of Recording
        The recordings. Region and identifier are those of their provenance, which recordings of the registry of data_prep have.

    Returns
    -------
    Table
        One row per recording. A note warns of recordings whose test part is shorter than the 2.5 minutes of the paper.
    """
    columns = {
        "recording": [Cell(recording.name) for recording in recordings],
        "domain": [Cell(recording.domain or "unknown") for recording in recordings],
        "region": [Cell(_origin(recording, "region")) for recording in recordings],
        "identifier": [Cell(_origin(recording, "identifier")) for recording in recordings],
        "units": [Cell(str(recording.units)) for recording in recordings],
        "bin (ms)": [Cell(f"{recording.bin_ms:g}") for recording in recordings],
        "spikes per unit and s": [Cell(f"{_mean_rate(recording):.1f}") for recording in recordings],
    }
    for split in SPLITS:
        lengths = [f"{split_seconds(recording, split):g}" for recording in recordings]
        columns[f"{split} (s)"] = [Cell(length) for length in lengths]
    return Table(columns, [describe_test_length(recordings)])


def recordings_by_domain(recordings: Sequence[Recording]) -> dict[str, list[str]]:
    """Return the names of the recordings of each domain.

    Parameters
    ----------
    recordings : sequence of Recording
        The recordings.

    Returns
    -------
    dict of str to list of str
        Names by domain, such as "in vitro".
    """
    names: dict[str, list[str]] = {}
    for recording in recordings:
        names.setdefault(recording.domain, []).append(recording.name)
    return names


def drawn_recordings(recordings: Sequence[Recording]) -> list[str]:
    """Choose the recordings that have figures of their own.

    Parameters
    ----------
    recordings : sequence of Recording
        All recordings.

    Returns
    -------
    list of str
        Names of all of up to four recordings, or of the first one of each domain, whatever their scores.
    """
    if len(recordings) <= MAX_DRAWN:
        return [recording.name for recording in recordings]
    return [names[0] for names in recordings_by_domain(recordings).values()]


def describe_test_length(recordings: Sequence[Recording]) -> str:
    """Describe how long the test parts are, with a warning where they are shorter than those of the paper.

    Parameters
    ----------
    recordings : sequence of Recording
        The recordings.

    Returns
    -------
    str
        One sentence, and for short test parts a second one on how to get longer ones.
    """
    short = [recording for recording in recordings if split_seconds(recording, "test") < PUBLISHED_TEST_SECONDS]
    if not short:
        return f"All test parts have the {PUBLISHED_TEST_SECONDS:g} s of the paper or more."
    lengths = sorted({split_seconds(recording, "test") for recording in short})
    span = f"{lengths[0]:g} s" if len(lengths) == 1 else f"{lengths[0]:g} to {lengths[-1]:g} s"
    everywhere = len(short) == len(recordings)
    which = "the test parts" if everywhere else f"the test parts of {', '.join(one.name for one in short)}"
    remedies = {
        SIMULATED: "simulated ones have 150 s with `--minutes 10`",
        "": "`data_prep spikes build` gives those of the registry 150 s with `--long-test`",
    }
    kinds = {SIMULATED if _is_simulated(recording) else "" for recording in short}
    remedy = "; ".join(text for kind, text in remedies.items() if kind in kinds)
    return (
        f"Warning: {which} have {span}, less than the {PUBLISHED_TEST_SECONDS:g} s of the paper, so that scores vary more. "
        f"{remedy[0].upper() + remedy[1:]}."
    )


def split_seconds(recording: Recording, split: str) -> float:
    """Return the length of a split.

    Parameters
    ----------
    recording : Recording
        The recording.
    split : {"train", "validation", "test"}
        Name of the split.

    Returns
    -------
    float
        Length in seconds.
    """
    start, stop = recording.span(split)
    return (stop - start) * recording.bin_ms / 1000


def _origin(recording: Recording, key: str) -> str:
    if _is_simulated(recording):
        return SIMULATED
    return str(recording.provenance.get(key, "unknown"))


def _is_simulated(recording: Recording) -> bool:
    return recording.provenance.get("source") == "simulated"


def _mean_rate(recording: Recording) -> float:
    """Return the mean rate over units in the training bins, in Hz."""
    return recording.counts("train").mean() / split_seconds(recording, "train")
