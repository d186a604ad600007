"""Record: the scalar features of a cell, under the names of the old IPFX cell record and under the newer ones.

The old record (that of the mouse table) counts tau and mean interspike interval in ms, gives voltages as they are and
times from 0.5 s before the step; adaptation, latency and mean interval are of the "hero" sweep, 39 to 61 pA above
rheobase. The newer names (those of the human table) use seconds, and voltages relative to the threshold.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from ipfx.feature_record import build_cell_feature_record

from data_prep.patchseq.families import Cell

PROTOCOLS = ("long_square", "ramp", "short_square")
SPIKE = (
    *("upstroke_downstroke_ratio", "peak_v", "peak_t", "trough_v", "trough_t", "fast_trough_v", "fast_trough_t"),
    *("slow_trough_v", "slow_trough_t", "threshold_v", "threshold_i", "threshold_t"),
)
WHOLE = ("vrest", "ri", "sag", "tau", "vm_for_sag", "f_i_curve_slope", "adaptation", "latency", "avg_isi")
INTERVALS = {
    "peak_minus_thr_t": ("peak_t", "threshold_t"),
    "fast_trough_minus_peak_t": ("fast_trough_t", "peak_t"),
    "trough_minus_peak_t": ("trough_t", "peak_t"),
}
OLD = (
    *WHOLE,
    *(f"{name}_{protocol}" for protocol in PROTOCOLS for name in SPIKE),
    *(f"{name}_{protocol}" for protocol in PROTOCOLS for name in INTERVALS),
)

# New name -> what it is called in IPFX's sweep features.
OF_CELL = {"v_baseline": "v_baseline", "input_resistance": "input_resistance", "tau": "tau", "sag": "sag"} | {
    "vm_for_sag": "vm_for_sag",
    "rheobase_i": "rheobase_i",
    "fi_fit_slope": "fi_fit_slope",
}
OF_RHEOBASE = {"latency_rheo": "latency", "avg_rate_rheo": "avg_rate", "mean_isi_rheo": "mean_isi"}
OF_HERO = {
    "adapt_hero": "adapt",
    "avg_rate_hero": "avg_rate",
    "latency_hero": "latency",
    "mean_isi_hero": "mean_isi",
    "median_isi_hero": "median_isi",
    "isi_cv_hero": "isi_cv",
}
OF_TRAINS = {"adapt_mean": "adapt", "isi_cv_mean": "isi_cv"}
OF_SPIKE = ("upstroke_downstroke_ratio", "threshold_v", "width", "upstroke", "downstroke")
RELATIVE = {"peak_deltav": "peak_v", "trough_deltav": "trough_v", "fast_trough_deltav": "fast_trough_v"}
OF_PROTOCOL = {"rheo": "long_square", "ramp": "ramp", "short_square": "short_square"}
NEW = (
    *(*OF_CELL, *OF_RHEOBASE, *OF_HERO, *OF_TRAINS, "first_isi_inv_rheo", "first_isi_inv_hero"),
    *(f"{name}_{where}" for where in OF_PROTOCOL for name in (*OF_SPIKE, *RELATIVE)),
    "threshold_i_ramp",
)


def old_record(cell: Cell) -> dict[str, float]:
    """The features of IPFX's cell record, and nine intervals between its clock times; NaN where there is none."""
    long = cell.long_square or {}
    rheobase, hero = _sweep(long, "rheobase_sweep"), _sweep(long, "hero_sweep")
    features = {
        "long_squares": long | {"rheobase_sweep": rheobase, "hero_sweep": hero} if cell.long_square else {},
        "short_squares": cell.short_square or {},
        "ramps": cell.ramps or {},
    }
    found = build_cell_feature_record(features)
    record = {name: _number(found.get(name)) for name in OLD}
    for protocol in PROTOCOLS:
        for name, (later, earlier) in INTERVALS.items():
            record[f"{name}_{protocol}"] = record[f"{later}_{protocol}"] - record[f"{earlier}_{protocol}"]
    return record


def new_record(cell: Cell) -> dict[str, float]:
    """The same cell under the newer names: the ones whose definition IPFX's own routines settle."""
    long = cell.long_square or {}
    rheobase, hero = _sweep(long, "rheobase_sweep"), _sweep(long, "hero_sweep")
    record = dict.fromkeys(NEW, np.nan)
    for names, source in ((OF_CELL, long), (OF_RHEOBASE, rheobase), (OF_HERO, hero)):
        record |= {name: _number(source.get(key)) for name, key in names.items()}
    if "spiking_sweeps" in long:
        record |= {name: float(np.nanmean(long["spiking_sweeps"][key])) for name, key in OF_TRAINS.items()}
    for where, sweep in (("rheo", rheobase), ("hero", hero)):
        first = _number(sweep.get("first_isi"))
        record[f"first_isi_inv_{where}"] = 1 / first if first > 0 else np.nan
    for where, spike in _first_spike(cell, rheobase).items():
        record |= {f"{name}_{where}": _number(spike.get(name)) for name in OF_SPIKE}
        threshold = _number(spike.get("threshold_v"))
        record |= {f"{name}_{where}": _number(spike.get(key)) - threshold for name, key in RELATIVE.items()}
    record["threshold_i_ramp"] = _number(((cell.ramps or {}).get("mean_spike_0") or {}).get("threshold_i"))
    return record


def _sweep(long: Mapping[str, Any], which: str) -> dict[str, Any]:
    """A sweep of the long squares with its spikes, in the form of IPFX's record; without one, an empty sweep."""
    if which not in long:
        return {"sweep_number": -1, "spikes": [{}]}
    row = long[which]
    return {**row.to_dict(), "sweep_number": int(row.name), "spikes": long["spikes_set"][row.name].to_dict("records")}


def _first_spike(cell: Cell, rheobase: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """First spikes: that of rheobase, and the means over the spiking ramps and short squares."""
    means = {}
    for where, found in (("ramp", cell.ramps), ("short_square", cell.short_square)):
        spikes = [spikes.iloc[0] for spikes in (found or {}).get("spikes_set", []) if len(spikes)]
        names = (*OF_SPIKE, *RELATIVE.values())
        means[where] = {name: np.mean([_number(spike[name]) for spike in spikes]) for name in names} if spikes else {}
    return {"rheo": rheobase["spikes"][0], **means}


def _number(value: Any) -> float:
    return np.nan if value is None else float(value)
