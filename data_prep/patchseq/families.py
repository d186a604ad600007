"""The feature families of one cell at fixed widths, with a mask of the observed values. IPFX computes the values.

This module differs from IPFX's own feature extraction in four respects. If a family fails, the others are still computed. A cell
that lacks a protocol is kept, and the features of this protocol are not observed. The values of a stimulus level that was not
recorded, which IPFX copies or interpolates from neighbouring levels, are not observed either. One recorded level is enough, where
IPFX needs two.

Start with :func:`analyze` and :func:`feature_vectors`; :meth:`Layout.widths` lists the families and their widths.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import ipfx.data_set_features as dsf
import ipfx.feature_vectors as fv
import ipfx.spike_train_features as strf
import ipfx.stimulus_protocol_analysis as spa
import numpy as np
from ipfx.stimulus import StimulusType
from ipfx.sweep import Sweep as IpfxSweep
from ipfx.sweep import SweepSet

from data_prep.patchseq.drop_reasons import MISSING, Note, note
from data_prep.patchseq.stimulus import AFTER, BEFORE, ONSET

SPIKING = ("upstroke_downstroke_ratio", "peak_v", "fast_trough_v", "threshold_v", "width")  # features of single spikes
# Bins of IPFX, in ms: of the families along a spike train (``inst_freq``, ``spiking_``), of the PSTH, of subthreshold voltages.
TRAIN_BIN, PSTH_BIN, SUBTHRESHOLD_BIN = 20, 50, 10
AP_WINDOW, AP_POINTS = 0.003, 150  # the first action potential: s from its threshold, and samples at 50 kHz
ISI_POINTS = 100  # samples of the mean voltage between two spikes
SHORT_SQUARE_MARGIN = 0.05  # spikes are detected up to this time (s) after the end of a short square
HYPERPOLARISING_TOLERANCE = 5  # pA, largest difference between a level and the amplitude of its sweep

FeatureVector = tuple[np.ndarray, np.ndarray]  # values [feature], observed [feature]
SpikingSweeps = tuple[list[IpfxSweep], list[Any]]  # sweeps, and for each its spikes (DataFrame, one row per spike)


@dataclass(frozen=True)
class Layout:
    """Stimulus levels and step length, which determine the widths of the families.

    Parameters
    ----------
    step : float, default 1.0
        Length of a long square in s. Long squares of another length are dropped.
    hyperpolarising : tuple of int
        Amplitudes in pA of the levels of ``step_subthresh``.
    levels : tuple of int
        Amplitudes in pA above rheobase of the levels of ``psth``, ``inst_freq`` and the ``spiking_`` families.

    Examples
    --------
    >>> widths = Layout().widths()
    >>> widths["step_subthresh"], widths["first_ap_v"], sum(widths.values())
    (700, 450, 4197)
    """

    step: float = 1.0
    hyperpolarising: tuple[int, ...] = (-90, -70, -50, -30, -10)
    levels: tuple[int, ...] = (0, 20, 40, 60, 80, 100)

    def widths(self) -> dict[str, int]:
        """Return the number of features of each family, in the order of a table.

        Returns
        -------
        dict of str to int
            Width of each family by its name.
        """
        step_ms = round(self.step * 1000)
        voltage_bins = round((self.step + BEFORE + AFTER) / (SUBTHRESHOLD_BIN / 1000))
        train_bins = len(self.levels) * (step_ms // TRAIN_BIN)
        return {
            "step_subthresh": len(self.hyperpolarising) * voltage_bins,
            "subthresh_norm": voltage_bins,
            "subthresh_depol_norm": voltage_bins,
            "isi_shape": ISI_POINTS,
            "first_ap_v": 3 * AP_POINTS,
            "first_ap_dv": 3 * (AP_POINTS - 1),
            "psth": len(self.levels) * (step_ms // PSTH_BIN),
            "inst_freq": train_bins,
            **{f"spiking_{name}": train_bins for name in SPIKING},
            "inst_freq_norm": train_bins,
        }


@dataclass
class CellSweeps:
    """Prepared sweeps of one cell by protocol, and IPFX's analyses of them.

    Parameters
    ----------
    long, short, ramp : list of ipfx.sweep.Sweep
        Long squares, short squares and ramps, as :func:`data_prep.patchseq.stimulus.prepare_sweep` returns them.
    step : float, default 1.0
        Length of a long square in s.
    notes : list of Note
        Notes on the cell; the functions of this module append to it.
    long_square, short_square, ramps : dict, optional
        Results of IPFX's analysis of each protocol; None if the protocol is absent or its analysis failed.
    """

    long: list[IpfxSweep]
    short: list[IpfxSweep]
    ramp: list[IpfxSweep]
    step: float = 1.0
    notes: list[Note] = field(default_factory=list)
    long_square: dict[str, Any] | None = None
    short_square: dict[str, Any] | None = None
    ramps: dict[str, Any] | None = None

    @property
    def window(self) -> tuple[float, float]:
        """Start and end of a long square, in s."""
        return ONSET, ONSET + self.step

    def note_missing(self, family: str, reason: str, detail: object = "") -> None:
        """Append a note that a family, or a part of it, is missing.

        Parameters
        ----------
        family : str
            Name of the family.
        reason : str
            A code of :data:`data_prep.patchseq.drop_reasons.REASONS`.
        detail : object, default ""
            Further information.
        """
        self.notes.append(note("family", family, MISSING, reason, detail))


def analyze(cell: CellSweeps) -> CellSweeps:
    """Detect spikes and compute the sweep features of each protocol.

    The detection parameters are those with which IPFX computes feature vectors.

    Parameters
    ----------
    cell : CellSweeps
        The sweeps. The results are stored in its fields ``long_square``, ``short_square`` and ``ramps``.

    Returns
    -------
    CellSweeps
        The same object.
    """
    start, end = cell.window
    if cell.long:
        extractors = _extractors(cell.long, StimulusType.LONG_SQUARE, start=start, end=end, min_peak=-25)  # mV
        analysis = spa.LongSquareAnalysis(*extractors, subthresh_min_amp=-100.0)  # pA
        cell.long_square = attempt(cell, "long_square", analyze_long_squares, cell, analysis)
    if cell.short:
        stop = cell.short[-1].t[cell.short[-1].epochs["stim"][1]] + SHORT_SQUARE_MARGIN
        times = {"est_window": [start, start + 0.001], "start": start, "end": stop}
        times["reject_at_stim_start_interval"] = 0.0002  # s: the step's artifact
        short = spa.ShortSquareAnalysis(*_extractors(cell.short, StimulusType.SHORT_SQUARE, **times))
        cell.short_square = attempt(cell, "short_square", short.analyze, SweepSet(cell.short))
    if cell.ramp:
        ramps = spa.RampAnalysis(*_extractors(cell.ramp, StimulusType.RAMP, start=start))
        cell.ramps = attempt(cell, "ramp", ramps.analyze, SweepSet(cell.ramp))
    return cell


def _extractors(sweeps: list[IpfxSweep], protocol: StimulusType, **options: Any) -> Any:
    """Return IPFX's extractors of spikes and of spike trains for the sweeps of a protocol."""
    return dsf.extractors_for_sweeps(SweepSet(sweeps), **options, **dsf.detection_parameters(protocol))


def analyze_long_squares(cell: CellSweeps, analysis: spa.LongSquareAnalysis) -> dict[str, Any]:
    """Run the parts of IPFX's long-square analysis that the sweeps allow.

    IPFX's own ``analyze`` fails for a cell without subthreshold sweeps or with a single spiking sweep.

    Parameters
    ----------
    cell : CellSweeps
        The sweeps of the cell.
    analysis : ipfx LongSquareAnalysis
        The analysis with its spike detection.

    Returns
    -------
    dict
        IPFX's results. The rheobase sweep is that of the smallest current with a spike, the hero sweep a spiking one at 39 to
        61 pA more, or the closest. Parts that could not be computed have no key.
    """
    sweeps = SweepSet(cell.long)
    extra = ["peak_deflect", "stim_amp", "v_baseline", "sag"]
    results = spa.StimulusProtocolAnalysis.analyze(analysis, sweeps, extra_sweep_features=extra)
    results["v_baseline"] = float(np.nanmean(results["sweeps"]["v_baseline"].to_numpy(float)))
    results["subthreshold_sweeps"] = analysis.subthreshold_sweep_features()
    spiking = analysis.suprathreshold_sweep_features()
    if (spiking["stim_amp"] > 0).any():
        results["spiking_sweeps"] = spiking
        results["rheobase_sweep"] = rheobase = analysis.find_rheobase_sweep(spiking)
        results["rheobase_i"] = rheobase["stim_amp"]
        results["hero_sweep"] = analysis.find_hero_sweep(rheobase["stim_amp"], spiking)
        rates = np.asarray(spiking["stim_amp"]), np.asarray(spiking["avg_rate"])
        results["fi_fit_slope"] = strf.fit_fi_slope(*rates) if len(spiking) > 1 else np.nan
    if len(results["subthreshold_sweeps"]):
        results |= attempt(cell, "subthreshold", analysis.analyze_subthreshold, sweeps) or {}
    return results


def attempt(cell: CellSweeps, family: str, compute: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Call a function; if it raises an error, append a note to the cell and return None.

    Parameters
    ----------
    cell : CellSweeps
        The cell, whose notes receive the error.
    family : str
        Name of the family, or of the protocol, in the note.
    compute : callable
        The function.
    *arguments, **options
        Its arguments.

    Returns
    -------
    object or None
        The result of ``compute``; None after an error.
    """
    try:
        return compute(*arguments, **options)
    except Exception as error:  # IPFX passes on any exception of NumPy and pandas
        cell.note_missing(family, "family failed", f"{type(error).__name__}: {error}")
        return None


def feature_vectors(cell: CellSweeps, layout: Layout) -> dict[str, FeatureVector]:
    """Compute every family at its width.

    Parameters
    ----------
    cell : CellSweeps
        An analyzed cell.
    layout : Layout
        Stimulus levels and step length.

    Returns
    -------
    dict of str to (ndarray of float, ndarray of bool), each of shape (width,)
        Values, and whether they are observed, of each family of :meth:`Layout.widths`. Values that could not be computed are
        NaN and not observed, and the cell receives a note on them.
    """
    computed: dict[str, FeatureVector | None] = {}
    if cell.long_square is None:
        cell.note_missing("long_square", "no long square" if not cell.long else "family failed")
    else:
        computed |= _subthreshold(cell, layout) | _spike_trains(cell, layout)
        computed["isi_shape"] = attempt(cell, "isi_shape", _isi_shape, cell)
    computed |= _first_spikes(cell)
    vectors = {}
    for name, width in layout.widths().items():
        values, observed = computed.get(name) or (np.full(width, np.nan), np.zeros(width, bool))
        if len(values) != width:
            cell.note_missing(name, "family failed", f"{len(values)} values, not {width}")
            values, observed = np.full(width, np.nan), np.zeros(width, bool)
        vectors[name] = (values, observed & np.isfinite(values))
    return vectors


def spikes_at_levels(
    features: Mapping[str, Any], targets: Sequence[int], *, shift: int | None, tolerance: int
) -> list[Any]:
    """Return the spikes of the sweeps at given amplitudes above rheobase.

    IPFX needs at least two of these sweeps; here the one at rheobase is enough.

    Parameters
    ----------
    features : mapping
        Results of the long-square analysis.
    targets : sequence of int
        Amplitudes above rheobase, in pA; the first is 0, the rheobase itself.
    shift : int or None
        If fewer than two of the amplitudes were recorded, all targets are increased by this amplitude (pA) and the search
        is repeated. None: it is not repeated.
    tolerance : int
        Largest difference between a target and the amplitude of its sweep, in pA.

    Returns
    -------
    list of (DataFrame or None)
        Spikes at each amplitude, one row per spike; None for an amplitude that was not recorded.
    """
    try:
        return fv.identify_suprathreshold_spike_info(features, np.array(targets), shift, tolerance)
    except fv.er.FeatureError:
        rheobase = fv.identify_suprathreshold_spike_info(features, np.array([0]), None, tolerance)
        return [*rheobase, *[None] * (len(targets) - 1)]


def normalize_levels(frequency: np.ndarray, n_levels: int) -> np.ndarray:
    """Divide each level by its maximum, so that the values show the time course of firing but not its rate.

    Parameters
    ----------
    frequency : ndarray of float, shape (n_levels * n_bins,)
        Instantaneous frequency in Hz, one level after the other.
    n_levels : int
        Number of levels.

    Returns
    -------
    ndarray of float, shape (n_levels * n_bins,)
        Values in [0, 1]; 0 for a level without spikes.
    """
    rows = frequency.reshape(n_levels, -1)
    peak = rows.max(axis=1, keepdims=True)
    return np.divide(rows, peak, out=np.zeros_like(rows), where=peak > 0).ravel()


def first_spike_sweeps(cell: CellSweeps) -> tuple[SpikingSweeps, SpikingSweeps, SpikingSweeps]:
    """Select the sweeps from which the first action potential is taken.

    As in IPFX these are the short squares of the most frequent amplitude, the rheobase sweep of the long squares, and the ramps
    with spikes. A short square or a ramp whose first spike is cut off by the end of the sweep is left out; the rheobase sweep is
    kept even then, since no other sweep can replace it.

    Parameters
    ----------
    cell : CellSweeps
        An analyzed cell.

    Returns
    -------
    tuple of three (sweeps, spikes)
        For short squares, long squares and ramps; empty lists for a protocol without such sweeps.
    """
    short: SpikingSweeps = ([], [])
    rheobase: SpikingSweeps = ([], [])
    ramps: SpikingSweeps = ([], [])
    if cell.short_square is not None:
        rows = cell.short_square["common_amp_sweeps"].index
        short = _without_clipped(cell.short, cell.short_square["spikes_set"], rows)
    if cell.long_square is not None and "rheobase_sweep" in cell.long_square:
        row = cell.long_square["rheobase_sweep"].name
        rheobase = [cell.long[row]], [cell.long_square["spikes_set"][row]]
    if cell.ramps is not None:
        ramps = _without_clipped(cell.ramp, cell.ramps["spikes_set"], cell.ramps["spiking_sweeps"].index)
    return short, rheobase, ramps


def spike_train_functions(spikes: Sequence[Any], window: tuple[float, float], psth_bin: float) -> dict[str, tuple]:
    """Return IPFX's functions of the families along a spike train.

    Parameters
    ----------
    spikes : sequence of (DataFrame or None)
        Spikes at each level, as :func:`spikes_at_levels` returns them.
    window : (float, float)
        Start and end of the step in s.
    psth_bin : float
        Width of the bins of the PSTH in ms.

    Returns
    -------
    dict of str to tuple
        Function and its arguments, by the name of the family.
    """
    return {
        "psth": (fv.psth_vector, spikes, *window, psth_bin),
        "inst_freq": (fv.inst_freq_vector, spikes, *window),
        **{f"spiking_{name}": (fv.spike_feature_vector, name, spikes, *window) for name in SPIKING},
    }


def _subthreshold(cell: CellSweeps, layout: Layout) -> dict[str, FeatureVector | None]:
    features, sweeps, targets = cell.long_square or {}, SweepSet(cell.long), layout.hyperpolarising
    hyper, hyper_deflection = fv.identify_subthreshold_hyperpol_with_amplitudes(features, sweeps)
    depol, depol_deflection = fv.identify_subthreshold_depol_with_amplitudes(features, sweeps)
    vectors: dict[str, FeatureVector | None] = {}
    if hyper:
        recorded = [any(abs(level - target) <= HYPERPOLARISING_TOLERANCE for level in hyper) for target in targets]
        arguments, tolerance = (hyper, targets, *cell.window), HYPERPOLARISING_TOLERANCE
        vectors["step_subthresh"] = _levels(
            cell, "step_subthresh", recorded, fv.step_subthreshold, *arguments, amp_tolerance=tolerance
        )
        _note_missing_levels(cell, "step_subthresh", targets, recorded)
        arguments = (hyper, hyper_deflection, *cell.window)
        vectors["subthresh_norm"] = _levels(cell, "subthresh_norm", [True], fv.subthresh_norm, *arguments)
    else:
        cell.note_missing("step_subthresh", "no hyperpolarising step")
        cell.note_missing("subthresh_norm", "no hyperpolarising step")
    if depol:
        arguments = (depol, depol_deflection, *cell.window)
        vectors["subthresh_depol_norm"] = _levels(
            cell, "subthresh_depol_norm", [True], fv.subthresh_depol_norm, *arguments
        )
    else:
        cell.note_missing("subthresh_depol_norm", "no depolarising step")
    return vectors


def _spike_trains(cell: CellSweeps, layout: Layout) -> dict[str, FeatureVector | None]:
    """Compute the PSTH, the instantaneous frequency and the features of single spikes at the levels above rheobase."""
    features = cell.long_square or {}
    if "rheobase_i" not in features:
        for name in ("psth", "inst_freq", *(f"spiking_{name}" for name in SPIKING), "inst_freq_norm"):
            cell.note_missing(name, "no spike")
        return {}
    spikes = attempt(cell, "levels", spikes_at_levels, features, layout.levels, shift=10, tolerance=0)
    if spikes is None:
        return {}
    recorded = [level is not None for level in spikes]
    functions = spike_train_functions(spikes, cell.window, PSTH_BIN)
    vectors = {name: _levels(cell, name, recorded, *function) for name, function in functions.items()}
    if vectors["inst_freq"] is not None:
        values, observed = vectors["inst_freq"]
        vectors["inst_freq_norm"] = normalize_levels(values, len(layout.levels)), observed
    _note_missing_levels(cell, "trains", layout.levels, recorded)
    return vectors


def _isi_shape(cell: CellSweeps) -> FeatureVector | None:
    features, (start, end) = cell.long_square or {}, cell.window
    if "rheobase_i" not in features:
        cell.note_missing("isi_shape", "no spike")
        return None
    sweep, spikes = fv.identify_sweep_for_isi_shape(SweepSet(cell.long), features, end - start)
    return _levels(cell, "isi_shape", [True], fv.isi_shape, sweep, spikes, end, n_points=ISI_POINTS)


def _first_spikes(cell: CellSweeps) -> dict[str, FeatureVector]:
    """Concatenate the first action potentials of short square, long square and ramp; NaN for a protocol without one."""
    names, recorded = ("short square", "long square", "ramp"), (cell.short, cell.long, cell.ramp)
    blocks = [
        attempt(cell, "first_ap", fv.first_ap_vectors, *chosen, window_length=AP_WINDOW) if chosen[0] else None
        for chosen in first_spike_sweeps(cell)
    ]
    for name, sweeps, block in zip(names, recorded, blocks, strict=True):
        if block is None:
            cell.note_missing("first_ap", "no spike" if sweeps else f"no {name}", f"block {name}")
    vectors = {}
    for family, part, points in (("first_ap_v", 0, AP_POINTS), ("first_ap_dv", 1, AP_POINTS - 1)):
        values = [np.full(points, np.nan) if block is None else block[part] for block in blocks]
        vectors[family] = (np.hstack(values), np.repeat([block is not None for block in blocks], points))
    return vectors


def _without_clipped(sweeps: list[IpfxSweep], spikes: list[Any], rows: Any) -> SpikingSweeps:
    """Return the sweeps of given rows whose first spike is not cut off by the end of the sweep."""
    kept = [row for row in rows if not spikes[row]["clipped"].values[0]]
    return [sweeps[row] for row in kept], [spikes[row] for row in kept]


def _levels(
    cell: CellSweeps,
    family: str,
    recorded: Sequence[bool],
    compute: Callable[..., Any],
    *arguments: Any,
    **options: Any,
) -> FeatureVector | None:
    """Compute the values of equally long levels, one after the other, and a mask of the recorded levels; None after an error."""

    def vector() -> FeatureVector:
        values = np.asarray(compute(*arguments, **options), float)
        return values, np.repeat(np.asarray(recorded, bool), len(values) // len(recorded))

    return attempt(cell, family, vector)


def _note_missing_levels(cell: CellSweeps, family: str, targets: Sequence[int], recorded: Sequence[bool]) -> None:
    absent = [str(target) for target, is_recorded in zip(targets, recorded, strict=True) if not is_recorded]
    if absent:
        cell.note_missing(family, "missing level", f"{', '.join(absent)} pA")
