"""The scalar features of a cell under the names of the old IPFX cell record and under the newer names.

The old record (that of the mouse table of Gouwens et al. 2020) has tau and the mean interspike interval in ms, absolute
voltages, and times that count from 0.5 s before the step; adaptation, latency and mean interval are those of the "hero" sweep,
39 to 61 pA above rheobase. The newer names (those of the human table of Lee & Dalley et al. 2023) use seconds, and voltages
relative to the threshold. :mod:`data_prep.patchseq.feature_names` has the unit of each feature.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from ipfx.feature_record import build_cell_feature_record

from data_prep.patchseq.families import CellSweeps

PROTOCOLS = ("long_square", "ramp", "short_square")
SPIKE_FEATURES = (
    *("upstroke_downstroke_ratio", "peak_v", "peak_t", "trough_v", "trough_t", "fast_trough_v", "fast_trough_t"),
    *("slow_trough_v", "slow_trough_t", "threshold_v", "threshold_i", "threshold_t"),
)
CELL_FEATURES = ("vrest", "ri", "sag", "tau", "vm_for_sag", "f_i_curve_slope", "adaptation", "latency", "avg_isi")
INTERVALS = {
    "peak_minus_thr_t": ("peak_t", "threshold_t"),
    "fast_trough_minus_peak_t": ("fast_trough_t", "peak_t"),
    "trough_minus_peak_t": ("trough_t", "peak_t"),
}
OLD_NAMES = (
    *CELL_FEATURES,
    *(f"{name}_{protocol}" for protocol in PROTOCOLS for name in SPIKE_FEATURES),
    *(f"{name}_{protocol}" for protocol in PROTOCOLS for name in INTERVALS),
)

# New name -> key in IPFX's features of the cell, of the rheobase sweep, of the hero sweep, and of all spiking sweeps.
NEW_CELL_FEATURES = ("v_baseline", "input_resistance", "tau", "sag", "vm_for_sag", "rheobase_i", "fi_fit_slope")
CELL_KEYS = {name: name for name in NEW_CELL_FEATURES}
RHEOBASE_KEYS = {f"{key}_rheo": key for key in ("latency", "avg_rate", "mean_isi")}
HERO_KEYS = {f"{key}_hero": key for key in ("adapt", "avg_rate", "latency", "mean_isi", "median_isi", "isi_cv")}
TRAIN_MEAN_KEYS = {f"{key}_mean": key for key in ("adapt", "isi_cv")}
NEW_SPIKE_FEATURES = ("upstroke_downstroke_ratio", "threshold_v", "width", "upstroke", "downstroke")
RELATIVE_KEYS = {"peak_deltav": "peak_v", "trough_deltav": "trough_v", "fast_trough_deltav": "fast_trough_v"}
SPIKE_SUFFIXES = ("rheo", "ramp", "short_square")
NEW_NAMES = (
    *(*CELL_KEYS, *RHEOBASE_KEYS, *HERO_KEYS, *TRAIN_MEAN_KEYS, "first_isi_inv_rheo", "first_isi_inv_hero"),
    *(f"{name}_{suffix}" for suffix in SPIKE_SUFFIXES for name in (*NEW_SPIKE_FEATURES, *RELATIVE_KEYS)),
    "threshold_i_ramp",
)


def old_record(cell: CellSweeps) -> dict[str, float]:
    """Return the features of IPFX's cell record, and nine intervals between its times.

    Parameters
    ----------
    cell : CellSweeps
        An analyzed cell.

    Returns
    -------
    dict of str to float
        A value for each of ``OLD_NAMES``: mV, pA, MOhm, ms for ``tau`` and ``avg_isi``, s for other times; NaN if missing.
    """
    long = cell.long_square or {}
    rheobase, hero = _sweep(long, "rheobase_sweep"), _sweep(long, "hero_sweep")
    features = {
        "long_squares": long | {"rheobase_sweep": rheobase, "hero_sweep": hero} if cell.long_square else {},
        "short_squares": cell.short_square or {},
        "ramps": cell.ramps or {},
    }
    ipfx_record = build_cell_feature_record(features)
    record = {name: _number(ipfx_record.get(name)) for name in OLD_NAMES}
    for protocol in PROTOCOLS:
        for name, (later, earlier) in INTERVALS.items():
            record[f"{name}_{protocol}"] = record[f"{later}_{protocol}"] - record[f"{earlier}_{protocol}"]
    return record


def new_record(cell: CellSweeps) -> dict[str, float]:
    """Return the features under the newer names whose definition IPFX's own routines determine.

    Parameters
    ----------
    cell : CellSweeps
        An analyzed cell.

    Returns
    -------
    dict of str to float
        A value for each of ``NEW_NAMES``: mV (``*_deltav_*`` relative to the threshold), pA, MOhm, s, Hz and V/s; NaN if
        missing.
    """
    long = cell.long_square or {}
    rheobase, hero = _sweep(long, "rheobase_sweep"), _sweep(long, "hero_sweep")
    record = dict.fromkeys(NEW_NAMES, np.nan)
    for keys, source in ((CELL_KEYS, long), (RHEOBASE_KEYS, rheobase), (HERO_KEYS, hero)):
        record |= {name: _number(source.get(key)) for name, key in keys.items()}
    if "spiking_sweeps" in long:
        record |= {name: float(np.nanmean(long["spiking_sweeps"][key])) for name, key in TRAIN_MEAN_KEYS.items()}
    for suffix, sweep in (("rheo", rheobase), ("hero", hero)):
        first = _number(sweep.get("first_isi"))
        record[f"first_isi_inv_{suffix}"] = 1 / first if first > 0 else np.nan
    for suffix, spike in _first_spikes(cell, rheobase).items():
        record |= {f"{name}_{suffix}": _number(spike.get(name)) for name in NEW_SPIKE_FEATURES}
        threshold = _number(spike.get("threshold_v"))
        record |= {f"{name}_{suffix}": _number(spike.get(key)) - threshold for name, key in RELATIVE_KEYS.items()}
    record["threshold_i_ramp"] = _number(((cell.ramps or {}).get("mean_spike_0") or {}).get("threshold_i"))
    return record


def _sweep(long: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return a long-square sweep with its spikes in the form of IPFX's record; an empty sweep if there is none."""
    if key not in long:
        return {"sweep_number": -1, "spikes": [{}]}
    row = long[key]
    return {**row.to_dict(), "sweep_number": int(row.name), "spikes": long["spikes_set"][row.name].to_dict("records")}


def _first_spikes(cell: CellSweeps, rheobase: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the first spike at rheobase, and the means over the first spikes of ramps and of short squares."""
    means = {}
    for suffix, analysis in (("ramp", cell.ramps), ("short_square", cell.short_square)):
        spikes = [spikes.iloc[0] for spikes in (analysis or {}).get("spikes_set", []) if len(spikes)]
        names = (*NEW_SPIKE_FEATURES, *RELATIVE_KEYS.values())
        means[suffix] = {name: np.mean([_number(spike[name]) for spike in spikes]) for name in names} if spikes else {}
    return {"rheo": rheobase["spikes"][0], **means}


def _number(value: Any) -> float:
    return np.nan if value is None else float(value)
