"""The twelve families of the published cross-species study, computed as in its notebook and padded to one width.

They differ from IPFX's: the first action potential is the mean over short square, long square and ramp; there are three levels
(rheobase, +40 and +80 pA, within 5 pA) instead of six; psth has bins of 20 ms; there are three hyperpolarising steps without
tolerance; spikes are detected with the default parameters in every protocol; and missing values are zero.

Deviation: two properties of the original lose cells and are left out, its quality tags from a database that is not public, and
that a family which fails takes the whole cell with it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import ipfx.data_set_features as dsf
import ipfx.feature_vectors as fv
import ipfx.stimulus_protocol_analysis as spa
import numpy as np
from ipfx.sweep import SweepSet

from data_prep.patchseq.families import (
    AP_POINTS,
    AP_WINDOW,
    ISI_POINTS,
    SPIKING,
    CellSweeps,
    FeatureVector,
    analyze_long_squares,
    attempt,
    spike_train_functions,
    spikes_at_levels,
)
from data_prep.patchseq.stimulus import ONSET

LEVELS = (0, 40, 80)  # pA above rheobase
HYPERPOLARISING = (-30, -50, -90)  # pA
PSTH_BIN = 20  # ms
TARGET = -110.0  # pA, of the normalized hyperpolarising response
# Number of values of each family, in the order in which the study lists and stacks the families. A recurrent network reads
# them in this order, and the study's network without attention predicts from the state after the last one, psth.
WIDTHS = {
    "first_ap_v": AP_POINTS,
    "first_ap_dv": AP_POINTS - 1,
    "isi_shape": ISI_POINTS,
    "inst_freq": 150,
    "spiking_threshold_v": 150,
    "spiking_peak_v": 150,
    "spiking_width": 150,
    "spiking_fast_trough_v": 150,
    "spiking_upstroke_downstroke_ratio": 150,
    "step_subthresh": 420,
    "subthresh_norm": 140,
    "psth": 150,
}
# Order in extractions that do not record their families (versions up to 0.1.0).
UNRECORDED_ORDER = (
    *("step_subthresh", "subthresh_norm", "first_ap_v", "first_ap_dv", "isi_shape", "psth", "inst_freq"),
    *(f"spiking_{name}" for name in SPIKING),
)
# The published tensor has width 498, since one misdetected window of 1.26 s made step_subthresh 3 x 166 values long. With
# correct windows the widest family has 420 values.
WIDTH = max(WIDTHS.values())


def published_vectors(cell: CellSweeps) -> dict[str, FeatureVector]:
    """Compute the twelve families of the published study.

    Parameters
    ----------
    cell : CellSweeps
        The sweeps of the cell; its notes receive one for each family that fails.

    Returns
    -------
    dict of str to (ndarray of float, ndarray of bool), each of shape (420,)
        Values of each family in the order of :data:`WIDTHS`, padded with zeros on the right, and a mask of the values that
        were computed.
    """
    cell = replace(cell, long_square=None, short_square=None, ramps=None)  # other spike detection than IPFX's families
    vectors: dict[str, np.ndarray | None] = {}
    if cell.long:
        extractors = dsf.extractors_for_sweeps(SweepSet(cell.long), start=cell.window[0], end=cell.window[1])
        analysis = spa.LongSquareAnalysis(*extractors, subthresh_min_amp=-100.0)
        cell.long_square = attempt(cell, "long_square", analyze_long_squares, cell, analysis)
    if cell.long_square is not None:
        vectors |= _subthreshold(cell) | _spike_trains(cell)
    first = attempt(cell, "first_ap", _first_spike, cell)
    vectors |= {} if first is None else {"first_ap_v": first[0], "first_ap_dv": first[1]}
    return {name: _padded(vectors.get(name)) for name in WIDTHS}


def _subthreshold(cell: CellSweeps) -> dict[str, np.ndarray | None]:
    hyper, deflection = fv.identify_subthreshold_hyperpol_with_amplitudes(cell.long_square, SweepSet(cell.long))
    functions: dict[str, tuple] = {
        "step_subthresh": (fv.step_subthreshold, hyper, HYPERPOLARISING, *cell.window),  # no tolerance
        "subthresh_norm": (fv.subthresh_norm, hyper, deflection, *cell.window, TARGET),
    }
    return {name: attempt(cell, name, *function) for name, function in functions.items()} if hyper else {}


def _spike_trains(cell: CellSweeps) -> dict[str, np.ndarray | None]:
    features, (start, end) = cell.long_square or {}, cell.window
    if "rheobase_i" not in features:
        return {}
    spikes = attempt(cell, "levels", spikes_at_levels, features, LEVELS, shift=None, tolerance=5)
    functions = {} if spikes is None else spike_train_functions(spikes, cell.window, PSTH_BIN)
    sweep, info = fv.identify_sweep_for_isi_shape(SweepSet(cell.long), features, end - start)
    functions["isi_shape"] = fv.isi_shape, sweep, info, end, ISI_POINTS
    return {name: attempt(cell, name, *function) for name, function in functions.items()}


def _first_spike(cell: CellSweeps) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the mean over the first spiking sweep of each protocol, and its differences; None without a spike."""
    sweeps: list[Any] = []
    spikes: list[Any] = []
    if cell.long_square and "rheobase_sweep" in cell.long_square:
        row = cell.long_square["rheobase_sweep"].name
        sweeps, spikes = [cell.long[row]], [cell.long_square["spikes_set"][row]]
    for others in filter(None, (cell.short, cell.ramp)):
        extractor, _ = dsf.extractors_for_sweeps(SweepSet(others), start=ONSET)
        for sweep in others:
            info = extractor.process(sweep.t, sweep.v, sweep.i)
            if len(info):
                sweeps, spikes = [*sweeps, sweep], [*spikes, info]
                break
    return fv.first_ap_vectors(sweeps, spikes, window_length=AP_WINDOW) if sweeps else None


def _padded(vector: np.ndarray | None) -> FeatureVector:
    values, observed = np.zeros(WIDTH), np.zeros(WIDTH, bool)
    if vector is not None:
        usable = np.isfinite(vector[:WIDTH])
        values[: len(vector)], observed[: len(vector)] = np.where(usable, vector[:WIDTH], 0.0), usable
    return values, observed
