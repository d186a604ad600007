"""NWB files: the current-clamp sweeps of one cell, read with h5py alone.

Neither a sweep table nor a lab notebook is asked for: a response in ``/acquisition`` and a stimulus in ``/stimulus/presentation``
belong together when they have one sweep number. Only the sweeps of the three protocols are read, so that a remote file
gives no more bytes than are used. IPFX's own reader stands beside as a second way (``reader="ipfx"``).
"""

from __future__ import annotations

import re
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping
from io import RawIOBase
from pathlib import Path
from typing import IO, Any

import h5py
import numpy as np

from data_prep.patchseq.sweeps import Recording, Sweep, protocol_of

SPECIES = {"mus musculus": "mouse", "house mouse": "mouse", "homo sapiens": "human", "human": "human", "mouse": "mouse"}
FACTORS = {
    "": 1.0,
    "m": 1e-3,
    "milli": 1e-3,
    "u": 1e-6,
    "micro": 1e-6,
    "n": 1e-9,
    "nano": 1e-9,
    "p": 1e-12,
    "pico": 1e-12,
}
UNIT = re.compile(r"(milli|micro|nano|pico|[munp]?)(volts?|v|amperes?|amps?|a)$", re.IGNORECASE)
# h5py types whatever a path leads to as anything from a link to a data set; it is checked here by what it holds.
Group = Any


class UnreadableFile(Exception):
    """A file that gives no recording: the reason code, and the detail."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


class _Refused(Exception):
    """A series that cannot be read, with its reason code."""


def read_recording(
    file: str | Path | IO[bytes] | RawIOBase, *, name: str | None = None, reader: str = "h5py"
) -> Recording:
    """The sweeps of a file (a path, or an open remote one with its ``name``), and why others are not among them."""
    path = Path(name or str(file))
    try:
        with h5py.File(file, "r") as nwb:
            recording = _ipfx_recording(nwb, path) if reader == "ipfx" else _recording(nwb, path)
    except (
        OSError
    ) as error:  # h5py's one error for a file that is cut off, is no HDF5 or cannot be read from the network
        raise UnreadableFile("unreadable file", f"{type(error).__name__}: {error}") from error
    return recording


def cell_of(path: str | Path) -> tuple[str, str]:
    """Cell and donor from a path of the archive, ``sub-<donor>_ses-<cell>_icephys.nwb``; elsewhere the name of the file."""
    match = re.search(r"sub-(?P<donor>[^_/]+)_ses-(?P<cell>[^_/]+)", Path(path).name)
    return (match["cell"], match["donor"]) if match else (Path(path).stem, "")


def _recording(nwb: Group, path: Path) -> Recording:
    responses, refused = _by_number(nwb.get("acquisition"), "CurrentClampSeries")
    stimuli, _ = _by_number(nwb.get("stimulus/presentation"), "CurrentClampStimulusSeries")
    refused |= dict.fromkeys(_names(nwb.get("acquisition"), "VoltageClampSeries"), "voltage clamp")
    if not responses:
        raise UnreadableFile("no current clamp", f"{len(refused)} other series")
    named = {number: _stimulus_name(series[0], stimuli.get(number)) for number, series in responses.items()}
    if not any(named.values()):
        raise UnreadableFile("no stimulus metadata", f"{len(named)} sweeps without stimulus_description")
    sweeps = []
    for number, series in responses.items():
        try:
            sweeps.append(_sweep(number, named[number], series, stimuli.get(number, [])))
        except _Refused as why:
            refused[number] = str(why)
    return _described(nwb, path, sweeps, refused, "h5py")


def _sweep(number: int, stimulus: str, responses: list[Group], stimuli: list[Group]) -> Sweep:
    if not stimulus:
        raise _Refused("no stimulus name")
    if protocol_of(stimulus) is None:
        raise _Refused("other stimulus")
    if len(responses) > 1 or len(stimuli) > 1:
        raise _Refused("duplicate sweep number")
    if not stimuli:
        raise _Refused("no stimulus trace")
    voltage, rate = _trace(responses[0], "v", 1e3)
    current, _ = _trace(stimuli[0], "a", 1e12)
    return Sweep(number, stimulus, voltage, current, rate)


def _series(group: Group, kind: str) -> Iterator[tuple[str, Group]]:
    for name, series in (group or {}).items():
        if isinstance(series, h5py.Group) and _text(series.attrs.get("neurodata_type")) == kind:
            yield name, series


def _names(group: Group, kind: str) -> list[str]:
    return [name for name, _ in _series(group, kind)]


def _by_number(group: Group, kind: str) -> tuple[dict[int, list[Group]], dict[int | str, str]]:
    """Series by sweep number, in its order: the attribute, or the digits of a name such as ``data_00012_AD0``."""
    found, refused = defaultdict(list), {}
    for name, series in _series(group, kind):
        number = series.attrs.get("sweep_number")
        digits = re.search(r"\d+", name)
        if number is None and digits is None:
            refused[name] = "no sweep number"
        else:
            found[int(digits[0] if number is None else np.ravel(number)[0])].append(series)  # type: ignore[index]
    return dict(sorted(found.items())), refused


def _stimulus_name(response: Group, stimuli: list[Group] | None) -> str:
    """What the response says of its stimulus, or else the stimulus of itself."""
    for series in (response, *(stimuli or [])):
        text = _text(series.attrs.get("stimulus_description"))
        if text and text.lower() not in ("n/a", "na", "none", "unknown", "no description"):
            return text
    return ""


def _trace(series: Group, quantity: str, to: float) -> tuple[np.ndarray, float]:
    """Samples in mV or pA, and the rate: from ``starting_time``, or from evenly spaced timestamps."""
    data = series.get("data")
    if data is None or not np.size(data):
        raise _Refused("empty sweep")
    unit = UNIT.match(_text(data.attrs.get("unit")).strip())
    if unit is None or unit[2][0].lower() != quantity:
        raise _Refused("unknown unit")
    scale = float(data.attrs.get("conversion", 1.0)) * FACTORS[unit[1].lower()] * to
    samples = np.asarray(data[:], float) * scale + float(data.attrs.get("offset", 0.0)) * FACTORS[unit[1].lower()] * to
    return samples, _rate(series)


def _rate(series: Group) -> float:
    start, stamps = series.get("starting_time"), series.get("timestamps")
    if start is not None and "rate" in start.attrs:
        rate = float(start.attrs["rate"])
    elif stamps is not None and len(stamps) > 1:
        rate = (len(stamps) - 1) / float(stamps[-1] - stamps[0])
    else:
        raise _Refused("no sampling rate")
    if not np.isfinite(rate) or rate <= 0:
        raise _Refused("no sampling rate")
    return rate


def _described(nwb: Group, path: Path, sweeps: list[Sweep], refused: Mapping[int | str, str], reader: str) -> Recording:
    cell, donor = cell_of(path)
    subject = nwb.get("general/subject") or {}
    donor = _text(subject["subject_id"][()]) if "subject_id" in subject else donor
    species = _text(subject["species"][()]).lower() if "species" in subject else ""
    rates = sorted({sweep.rate for sweep in sweeps})
    source: dict[str, Any] = {"file": path.name, "reader": reader, "rates": rates}
    return Recording(cell, tuple(sweeps), donor, SPECIES.get(species, species), dict(refused), source)


def _text(value: Any) -> str:
    if isinstance(value, np.ndarray):
        value = value.ravel()[0] if value.size else ""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value or "")


def _ipfx_recording(nwb: Group, path: Path) -> Recording:
    """The same by IPFX's stock reader, which needs the whole file, a sweep table and one sweep a number."""
    from ipfx.dataset.create import create_ephys_data_set

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = create_ephys_data_set(nwb_file=str(path))
        sweeps, refused = [], {}
        for row in data.filtered_sweep_table(clamp_mode=data.CURRENT_CLAMP).to_dict("records"):
            number, stimulus = int(row["sweep_number"]), str(row["stimulus_code"])
            if protocol_of(stimulus) is None:
                refused[number] = "other stimulus"
                continue
            traces = data.get_sweep_data(number)
            sweeps.append(Sweep(number, stimulus, traces["response"], traces["stimulus"], traces["sampling_rate"]))
    return _described(nwb, path, sweeps, refused, "ipfx")
