"""Read the current-clamp sweeps of one cell from an NWB file with h5py.

No sweep table and no lab notebook are needed: a response in ``/acquisition`` and a stimulus in ``/stimulus/presentation`` with
the same sweep number belong together. Only sweeps of the three protocols are read, which limits the bytes that are
transferred from a remote file. IPFX's own reader is available as ``reader="ipfx"``.
"""

from __future__ import annotations

import re
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping
from io import IOBase
from pathlib import Path
from typing import IO, Any

import h5py
import numpy as np

from data_prep.patchseq.sweeps import Recording, Sweep, protocol_of

SPECIES = {"mus musculus": "mouse", "house mouse": "mouse", "homo sapiens": "human", "human": "human", "mouse": "mouse"}
PREFIXES = {
    "": 1.0,
    **dict.fromkeys(("m", "milli"), 1e-3),
    **dict.fromkeys(("u", "micro"), 1e-6),
    **dict.fromkeys(("n", "nano"), 1e-9),
    **dict.fromkeys(("p", "pico"), 1e-12),
}
UNIT = re.compile(r"(milli|micro|nano|pico|[munp]?)(volts?|v|amperes?|amps?|a)$", re.IGNORECASE)
NO_STIMULUS = ("n/a", "na", "none", "unknown", "no description")
# The type checker cannot know whether a path of an HDF5 file leads to a group or to a data set.
Group = Any


class UnreadableFile(Exception):
    """A file without a usable recording.

    Parameters
    ----------
    reason : str
        A code of :data:`data_prep.patchseq.drop_reasons.REASONS`.
    detail : str, default ""
        The error message, or what the file holds instead.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


class _UnreadableSweep(Exception):
    """A sweep that cannot be read; the message is the reason code."""


def read_recording(
    file: str | Path | IO[bytes] | IOBase, *, name: str | None = None, reader: str = "h5py"
) -> Recording:
    """Read the sweeps of one NWB file.

    Parameters
    ----------
    file : str, Path or binary file object
        The file, or an open remote file.
    name : str, optional
        Path of a remote file in the archive; cell and donor are taken from it.
    reader : {"h5py", "ipfx"}, default "h5py"
        "ipfx" uses IPFX's reader, which is slower and needs a local file with a sweep table.

    Returns
    -------
    Recording
        Sweeps in mV, pA and Hz, and the reason for each series that was not read.

    Raises
    ------
    UnreadableFile
        If the file is damaged or has no current-clamp sweep with a stimulus name.
    """
    path = Path(name or str(file))
    try:
        with h5py.File(file, "r") as nwb:
            return _read_with_ipfx(nwb, path) if reader == "ipfx" else _read_with_h5py(nwb, path)
    except OSError as error:  # h5py raises OSError for truncated files, other formats and network errors alike
        raise UnreadableFile("unreadable file", f"{type(error).__name__}: {error}") from error


def ids_from_path(path: str | Path) -> tuple[str, str]:
    """Return the identifiers of cell and donor that a path contains.

    Parameters
    ----------
    path : str or Path
        Path of a file; in the archive ``sub-<donor>/sub-<donor>_ses-<cell>_icephys.nwb``.

    Returns
    -------
    cell : str
        Identifier of the cell; the name of the file without its suffix if the path has another form.
    donor : str
        Identifier of the donor, or "".

    Examples
    --------
    >>> ids_from_path("sub-599387254/sub-599387254_ses-601506492_icephys.nwb")
    ('601506492', '599387254')
    """
    match = re.search(r"sub-(?P<donor>[^_/]+)_ses-(?P<cell>[^_/]+)", Path(path).name)
    return (match["cell"], match["donor"]) if match else (Path(path).stem, "")


def _read_with_h5py(nwb: Group, path: Path) -> Recording:
    responses, excluded = _by_sweep_number(nwb.get("acquisition"), "CurrentClampSeries")
    stimuli, _ = _by_sweep_number(nwb.get("stimulus/presentation"), "CurrentClampStimulusSeries")
    excluded |= {name: "voltage clamp" for name, _ in _series(nwb.get("acquisition"), "VoltageClampSeries")}
    if not responses:
        raise UnreadableFile("no current clamp", f"{len(excluded)} other series")
    names = {number: _stimulus_name(series[0], stimuli.get(number)) for number, series in responses.items()}
    if not any(names.values()):
        raise UnreadableFile("no stimulus metadata", f"{len(names)} sweeps without stimulus_description")
    sweeps = []
    for number, series in responses.items():
        try:
            sweeps.append(_sweep(number, names[number], series, stimuli.get(number, [])))
        except _UnreadableSweep as error:
            excluded[number] = str(error)
    return _recording(nwb, path, sweeps, excluded, "h5py")


def _read_with_ipfx(nwb: Group, path: Path) -> Recording:
    """Read with IPFX's own reader, which needs the whole file, a sweep table and one sweep for each number."""
    from ipfx.dataset.create import create_ephys_data_set

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = create_ephys_data_set(nwb_file=str(path))
        sweeps, excluded = [], {}
        for row in data.filtered_sweep_table(clamp_mode=data.CURRENT_CLAMP).to_dict("records"):
            number, stimulus = int(row["sweep_number"]), str(row["stimulus_code"])
            if protocol_of(stimulus) is None:
                excluded[number] = "other stimulus"
                continue
            traces = data.get_sweep_data(number)
            sweeps.append(Sweep(number, stimulus, traces["response"], traces["stimulus"], traces["sampling_rate"]))
    return _recording(nwb, path, sweeps, excluded, "ipfx")


def _recording(
    nwb: Group, path: Path, sweeps: list[Sweep], excluded: Mapping[int | str, str], reader: str
) -> Recording:
    cell, donor = ids_from_path(path)
    subject = nwb.get("general/subject") or {}
    donor = _text(subject["subject_id"][()]) if "subject_id" in subject else donor
    species = _text(subject["species"][()]).lower() if "species" in subject else ""
    rates = sorted({sweep.rate for sweep in sweeps})
    source: dict[str, Any] = {"file": path.name, "reader": reader, "rates": rates}
    return Recording(cell, tuple(sweeps), donor, SPECIES.get(species, species), dict(excluded), source)


def _by_sweep_number(group: Group, kind: str) -> tuple[dict[int, list[Group]], dict[int | str, str]]:
    """Return series by sweep number: an attribute, or the digits of a name such as ``data_00012_AD0``."""
    by_number, excluded = defaultdict(list), {}
    for name, series in _series(group, kind):
        number = series.attrs.get("sweep_number")
        digits = re.search(r"\d+", name)
        if number is None and digits is None:
            excluded[name] = "no sweep number"
        else:
            by_number[int(digits[0] if number is None else np.ravel(number)[0])].append(series)  # type: ignore[index]
    return dict(sorted(by_number.items())), excluded


def _series(group: Group, kind: str) -> Iterator[tuple[str, Group]]:
    for name, series in (group or {}).items():
        if isinstance(series, h5py.Group) and _text(series.attrs.get("neurodata_type")) == kind:
            yield name, series


def _stimulus_name(response: Group, stimuli: list[Group] | None) -> str:
    """Return the description of the stimulus from the response, or else from the stimulus series."""
    for series in (response, *(stimuli or [])):
        text = _text(series.attrs.get("stimulus_description"))
        if text and text.lower() not in NO_STIMULUS:
            return text
    return ""


def _sweep(number: int, stimulus: str, responses: list[Group], stimuli: list[Group]) -> Sweep:
    if not stimulus:
        raise _UnreadableSweep("no stimulus name")
    if protocol_of(stimulus) is None:
        raise _UnreadableSweep("other stimulus")
    if len(responses) > 1 or len(stimuli) > 1:
        raise _UnreadableSweep("duplicate sweep number")
    if not stimuli:
        raise _UnreadableSweep("no stimulus trace")
    voltage = _trace(responses[0], "v", 1e3)
    rate = _rate(responses[0])
    current = _trace(stimuli[0], "a", 1e12)
    _rate(stimuli[0])  # a stimulus without a rate cannot be aligned
    return Sweep(number, stimulus, voltage, current, rate)


def _trace(series: Group, quantity: str, factor: float) -> np.ndarray:
    """Return the samples in volts or amperes times ``factor``, that is in mV or pA."""
    data = series.get("data")
    if data is None or not np.size(data):
        raise _UnreadableSweep("empty sweep")
    unit = UNIT.match(_text(data.attrs.get("unit")).strip())
    if unit is None or unit[2][0].lower() != quantity:
        raise _UnreadableSweep("unknown unit")
    prefix = PREFIXES[unit[1].lower()]
    scale = float(data.attrs.get("conversion", 1.0)) * prefix * factor
    return np.asarray(data[:], float) * scale + float(data.attrs.get("offset", 0.0)) * prefix * factor


def _rate(series: Group) -> float:
    """Return the sampling rate in Hz, from ``starting_time`` or from evenly spaced timestamps."""
    start, stamps, rate = series.get("starting_time"), series.get("timestamps"), 0.0
    if start is not None and "rate" in start.attrs:
        rate = float(start.attrs["rate"])
    elif stamps is not None and len(stamps) > 1:
        rate = (len(stamps) - 1) / float(stamps[-1] - stamps[0])
    if not np.isfinite(rate) or rate <= 0:
        raise _UnreadableSweep("no sampling rate")
    return rate


def _text(value: Any) -> str:
    if isinstance(value, np.ndarray):
        value = value.ravel()[0] if value.size else ""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value or "")
