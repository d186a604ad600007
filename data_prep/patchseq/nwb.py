"""Read the current-clamp sweeps of one cell from an NWB file with h5py.

No sweep table and no lab notebook are needed: a response in ``/acquisition`` and a stimulus in ``/stimulus/presentation`` with
the same sweep number belong together. Only sweeps of the three protocols are read, which limits the bytes that are
transferred from a remote file. pynwb and IPFX's own reader are available as ``reader="pynwb"`` and ``reader="ipfx"``. They read
the same sweeps, but more slowly: ``docs/data_preparation.md`` has the measurement.
"""

from __future__ import annotations

import re
import warnings
from collections import defaultdict
from collections.abc import Mapping
from io import IOBase
from pathlib import Path
from typing import IO, Any, cast

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
# Type of a series in the format: the group that holds such series.
KINDS = {
    "CurrentClampSeries": "acquisition",
    "VoltageClampSeries": "acquisition",
    "CurrentClampStimulusSeries": "stimulus/presentation",
}
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
    reader : {"h5py", "pynwb", "ipfx"}, default "h5py"
        "pynwb" reads with the reference library of the format, which is slower, refuses files that deviate from the schema and
        takes every response for volts and every stimulus for amperes. "ipfx" uses IPFX's reader, which is slower and needs a
        local file with a sweep table.

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
            return READERS[reader](nwb, path)
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


class _Series:
    """A series of an open HDF5 file, with those attributes of pynwb's series that are used here; each is read on demand."""

    def __init__(self, name: str, group: Group) -> None:
        self.name, self.group = name, group

    @property
    def sweep_number(self) -> int | None:
        number = self.group.attrs.get("sweep_number")
        return None if number is None else int(np.ravel(number)[0])

    @property
    def stimulus_description(self) -> str:
        return _text(self.group.attrs.get("stimulus_description"))

    @property
    def data(self) -> Any:
        return self.group.get("data")

    @property
    def unit(self) -> str:
        return _text(self.data.attrs.get("unit"))

    @property
    def conversion(self) -> float:
        return float(self.data.attrs.get("conversion", 1.0))

    @property
    def offset(self) -> float:
        return float(self.data.attrs.get("offset", 0.0))

    @property
    def rate(self) -> float | None:
        start = self.group.get("starting_time")
        return float(start.attrs["rate"]) if start is not None and "rate" in start.attrs else None

    @property
    def timestamps(self) -> Any:
        return self.group.get("timestamps")


def _read_with_h5py(nwb: Group, path: Path) -> Recording:
    series = {
        kind: [_Series(name, group) for name, group in (nwb.get(folder) or {}).items() if _is_kind(group, kind)]
        for kind, folder in KINDS.items()
    }
    return _pair_series(series, path, _subject(nwb), "h5py")


def _is_kind(group: Group, kind: str) -> bool:
    return isinstance(group, h5py.Group) and _text(group.attrs.get("neurodata_type")) == kind


def _read_with_pynwb(nwb: Group, path: Path) -> Recording:
    """Read with pynwb, which builds an object for every series of the file and needs a file that follows its schema."""
    from pynwb import NWBHDF5IO

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of old schemas, and of units that are not those of the schema
        try:
            file = cast(Any, NWBHDF5IO(file=nwb, mode="r", load_namespaces=True).read())
        except Exception as error:  # hdmf passes on many kinds of errors
            raise UnreadableFile("unreadable file", f"{type(error).__name__}: {error}") from error
        series: dict[str, list[Any]] = {kind: [] for kind in KINDS}
        for found in (*file.acquisition.values(), *file.stimulus.values()):
            if found.data_type in series:
                series[found.data_type].append(found)
    subject = file.subject
    texts = {name: getattr(subject, name, None) for name in ("subject_id", "species")}
    return _pair_series(series, path, texts, "pynwb")


def _pair_series(
    series: Mapping[str, list[Any]], path: Path, subject: Mapping[str, str | None], reader: str
) -> Recording:
    """Make sweeps of the responses and stimuli with the same sweep number."""
    responses, excluded = _by_sweep_number(series["CurrentClampSeries"])
    stimuli, _ = _by_sweep_number(series["CurrentClampStimulusSeries"])
    excluded |= {found.name: "voltage clamp" for found in series["VoltageClampSeries"]}
    if not responses:
        raise UnreadableFile("no current clamp", f"{len(excluded)} other series")
    names = {number: _stimulus_name([some[0], *stimuli.get(number, [])]) for number, some in responses.items()}
    if not any(names.values()):
        raise UnreadableFile("no stimulus metadata", f"{len(names)} sweeps without stimulus_description")
    sweeps = []
    for number, some in responses.items():
        try:
            sweeps.append(_sweep(number, names[number], some, stimuli.get(number, [])))
        except _UnreadableSweep as error:
            excluded[number] = str(error)
    return _recording(path, subject, sweeps, excluded, reader)


def _read_with_ipfx(nwb: Group, path: Path) -> Recording:
    """Read with IPFX's own reader, which needs the whole file, a sweep table and one sweep for each number."""
    if "general/intracellular_ephys/sweep_table" not in nwb:
        raise UnreadableFile(
            "unreadable file", "IPFX needs a sweep table: use another reader, or simulate with --sweep-table"
        )
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
    return _recording(path, _subject(nwb), sweeps, excluded, "ipfx")


def _subject(nwb: Group) -> dict[str, str | None]:
    """Return identifier and species of the subject, None where the file does not have them."""
    group = nwb.get("general/subject") or {}
    return {name: _text(group[name][()]) if name in group else None for name in ("subject_id", "species")}


def _recording(
    path: Path, subject: Mapping[str, str | None], sweeps: list[Sweep], excluded: Mapping[int | str, str], reader: str
) -> Recording:
    cell, donor = ids_from_path(path)
    donor = donor if subject["subject_id"] is None else subject["subject_id"]
    species = (subject["species"] or "").lower()
    rates = sorted({sweep.rate for sweep in sweeps})
    source: dict[str, Any] = {"file": path.name, "reader": reader, "rates": rates}
    return Recording(cell, tuple(sweeps), donor, SPECIES.get(species, species), dict(excluded), source)


def _by_sweep_number(series: list[Any]) -> tuple[dict[int, list[Any]], dict[int | str, str]]:
    """Return series by sweep number: an attribute, or the digits of a name such as ``data_00012_AD0``."""
    by_number, excluded = defaultdict(list), {}
    for found in series:
        digits = re.search(r"\d+", found.name)
        if found.sweep_number is not None:
            by_number[int(found.sweep_number)].append(found)
        elif digits is not None:
            by_number[int(digits[0])].append(found)
        else:
            excluded[found.name] = "no sweep number"
    return dict(sorted(by_number.items())), excluded


def _stimulus_name(series: list[Any]) -> str:
    """Return the description of the stimulus from the response, or else from the stimulus series."""
    for found in series:
        text = found.stimulus_description or ""
        if text and text.lower() not in NO_STIMULUS:
            return text
    return ""


def _sweep(number: int, stimulus: str, responses: list[Any], stimuli: list[Any]) -> Sweep:
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


def _trace(series: Any, quantity: str, factor: float) -> np.ndarray:
    """Return the samples in volts or amperes times ``factor``, that is in mV or pA."""
    if series.data is None or not np.size(series.data):
        raise _UnreadableSweep("empty sweep")
    unit = UNIT.match(series.unit.strip())
    if unit is None or unit[2][0].lower() != quantity:
        raise _UnreadableSweep("unknown unit")
    prefix = PREFIXES[unit[1].lower()]
    scale = series.conversion * prefix * factor
    return np.asarray(series.data[:], float) * scale + series.offset * prefix * factor


def _rate(series: Any) -> float:
    """Return the sampling rate in Hz, from ``starting_time`` or from evenly spaced timestamps."""
    stamps, rate = series.timestamps, 0.0
    if series.rate is not None:
        rate = series.rate
    elif stamps is not None and len(stamps) > 1:
        rate = (len(stamps) - 1) / float(stamps[-1] - stamps[0])
    if not np.isfinite(rate) or rate <= 0:
        raise _UnreadableSweep("no sampling rate")
    return rate


def _text(value: Any) -> str:
    if isinstance(value, np.ndarray):
        value = value.ravel()[0] if value.size else ""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value or "")


READERS = {"h5py": _read_with_h5py, "pynwb": _read_with_pynwb, "ipfx": _read_with_ipfx}
