"""Families: the feature vectors of IPFX at fixed widths, each computed on its own, with a mask of what was measured.

All numbers are IPFX's. What is added: a family that fails takes no other with it; a missing protocol leaves its block
empty instead of losing the cell; levels that IPFX fills from their neighbours are marked; one level alone is kept.
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

SPIKING = ("upstroke_downstroke_ratio", "peak_v", "fast_trough_v", "threshold_v", "width")
BIN, PSTH_BIN, STEP_BIN = 0.02, 0.05, 0.01  # s
AP_WINDOW, AP_POINTS = 0.003, 150  # s, samples at 50 kHz
ISI_POINTS = 100
SSQ_SPIKES = 0.05  # a spike may come this long after a short square, s


@dataclass(frozen=True)
class Layout:
    """Which stimulus levels the families hold; their widths follow from it and from the length of the step."""

    step: float = 1.0  # length of a long square, s
    hyperpolarising: tuple[int, ...] = (-90, -70, -50, -30, -10)  # pA
    levels: tuple[int, ...] = (0, 20, 40, 60, 80, 100)  # pA above rheobase

    def widths(self) -> dict[str, int]:
        """Family -> width, in the order in which they stand in a table."""
        step = round((self.step + BEFORE + AFTER) / STEP_BIN)
        train = len(self.levels) * (round(self.step * 1000) // round(BIN * 1000))
        return {
            "step_subthresh": len(self.hyperpolarising) * step,
            "subthresh_norm": step,
            "subthresh_depol_norm": step,
            "isi_shape": ISI_POINTS,
            "first_ap_v": 3 * AP_POINTS,
            "first_ap_dv": 3 * (AP_POINTS - 1),
            "psth": len(self.levels) * (round(self.step * 1000) // round(PSTH_BIN * 1000)),
            "inst_freq": train,
            **{f"spiking_{name}": train for name in SPIKING},
            "inst_freq_norm": train,
        }


@dataclass
class Cell:
    """Sweeps of one cell by protocol, and what IPFX's analyses say of them; None where the protocol is absent."""

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
        return ONSET, ONSET + self.step


def analyse(cell: Cell) -> Cell:
    """Spikes and sweep features of each protocol, with the detection parameters of IPFX's feature vectors."""
    start, end = cell.window
    if cell.long:
        extractors = dsf.extractors_for_sweeps(
            SweepSet(cell.long),
            start=start,
            end=end,
            min_peak=-25,
            **dsf.detection_parameters(StimulusType.LONG_SQUARE),
        )
        analysis = spa.LongSquareAnalysis(*extractors, subthresh_min_amp=-100.0)
        cell.long_square = attempt(cell, "long_square", lambda: long_square(cell, analysis))
    if cell.short:
        stop = cell.short[-1].t[cell.short[-1].epochs["stim"][1]] + SSQ_SPIKES
        extractors = dsf.extractors_for_sweeps(
            SweepSet(cell.short),
            est_window=[start, start + 0.001],
            start=start,
            end=stop,
            reject_at_stim_start_interval=0.0002,  # pyright: ignore[reportArgumentType]
            **dsf.detection_parameters(StimulusType.SHORT_SQUARE),
        )
        short = spa.ShortSquareAnalysis(*extractors)
        cell.short_square = attempt(cell, "short_square", lambda: short.analyze(SweepSet(cell.short)))
    if cell.ramp:
        extractors = dsf.extractors_for_sweeps(
            SweepSet(cell.ramp), start=start, **dsf.detection_parameters(StimulusType.RAMP)
        )
        ramps = spa.RampAnalysis(*extractors)
        cell.ramps = attempt(cell, "ramp", lambda: ramps.analyze(SweepSet(cell.ramp)))
    return cell


def long_square(cell: Cell, analysis: spa.LongSquareAnalysis) -> dict[str, Any]:
    """IPFX's ``analyze`` in its parts: a cell may have spikes and no subthreshold response, or one spiking sweep only."""
    sweeps = SweepSet(cell.long)
    extra = ["peak_deflect", "stim_amp", "v_baseline", "sag"]
    found = spa.StimulusProtocolAnalysis.analyze(analysis, sweeps, extra_sweep_features=extra)
    found["v_baseline"] = float(np.nanmean(found["sweeps"]["v_baseline"].to_numpy(float)))
    found["subthreshold_sweeps"] = analysis.subthreshold_sweep_features()
    spiking = analysis.suprathreshold_sweep_features()
    if (spiking["stim_amp"] > 0).any():
        found["spiking_sweeps"] = spiking
        found["rheobase_sweep"] = rheobase = analysis.find_rheobase_sweep(spiking)
        found["rheobase_i"] = rheobase["stim_amp"]
        found["hero_sweep"] = analysis.find_hero_sweep(rheobase["stim_amp"], spiking)
        rates = np.asarray(spiking["stim_amp"]), np.asarray(spiking["avg_rate"])
        found["fi_fit_slope"] = strf.fit_fi_slope(*rates) if len(spiking) > 1 else np.nan
    if len(found["subthreshold_sweeps"]):
        found |= attempt(cell, "subthreshold", lambda: analysis.analyze_subthreshold(sweeps)) or {}
    return found


def attempt(cell: Cell, family: str, compute: Callable[[], Any]) -> Any:
    try:
        return compute()
    except Exception as error:  # IPFX raises what NumPy and pandas raise; the note names it
        cell.notes.append(note("family", family, MISSING, "family failed", f"{type(error).__name__}: {error}"))
        return None


Vector = tuple[np.ndarray, np.ndarray]  # values [feature], observed [feature]


def vectors(cell: Cell, layout: Layout) -> dict[str, Vector]:
    """Every family at its width. What could not be computed is NaN and not observed, and has a note."""
    computed: dict[str, Vector | None] = {}
    if cell.long_square is None:
        reason = "no long square" if not cell.long else "family failed"
        cell.notes.append(note("family", "long_square", MISSING, reason))
    else:
        computed |= _subthreshold(cell, layout) | _trains(cell, layout)
        computed["isi_shape"] = attempt(cell, "isi_shape", lambda: _isi_shape(cell))
    computed |= _first_spikes(cell)
    empty = {name: (np.full(width, np.nan), np.zeros(width, bool)) for name, width in layout.widths().items()}
    filled = {name: _fitted(cell, name, vector, empty[name]) for name, vector in computed.items()}
    return {name: filled.get(name, nothing) for name, nothing in empty.items()}


def _fitted(cell: Cell, name: str, vector: Vector | None, nothing: Vector) -> Vector:
    """The vector, if it is as wide as the layout says; its NaN are not observed."""
    if vector is None:
        return nothing
    values, observed = vector
    if len(values) != len(nothing[0]):
        detail = f"{len(values)} values, not {len(nothing[0])}"
        cell.notes.append(note("family", name, MISSING, "family failed", detail))
        return nothing
    return values, observed & np.isfinite(values)


def _subthreshold(cell: Cell, layout: Layout) -> dict[str, Vector | None]:
    features, sweeps = cell.long_square or {}, SweepSet(cell.long)
    start, end = cell.window
    hyper, hyper_deflection = fv.identify_subthreshold_hyperpol_with_amplitudes(features, sweeps)
    depol, depol_deflection = fv.identify_subthreshold_depol_with_amplitudes(features, sweeps)
    found: dict[str, Vector | None] = {}
    if hyper:
        amplitudes = np.array(list(hyper))
        near = [bool(np.any(np.abs(amplitudes - target) <= 5)) for target in layout.hyperpolarising]
        found["step_subthresh"] = attempt(
            cell,
            "step_subthresh",
            lambda: _levels(fv.step_subthreshold(hyper, layout.hyperpolarising, start, end, amp_tolerance=5), near),
        )
        _note_levels(cell, "step_subthresh", layout.hyperpolarising, near)
        found["subthresh_norm"] = attempt(
            cell, "subthresh_norm", lambda: _levels(fv.subthresh_norm(hyper, hyper_deflection, start, end), [True])
        )
    else:
        cell.notes.append(note("family", "step_subthresh", MISSING, "no hyperpolarising step"))
        cell.notes.append(note("family", "subthresh_norm", MISSING, "no hyperpolarising step"))
    if depol:
        found["subthresh_depol_norm"] = attempt(
            cell,
            "subthresh_depol_norm",
            lambda: _levels(fv.subthresh_depol_norm(depol, depol_deflection, start, end), [True]),
        )
    else:
        cell.notes.append(note("family", "subthresh_depol_norm", MISSING, "no depolarising step"))
    return found


def _trains(cell: Cell, layout: Layout) -> dict[str, Vector | None]:
    """psth, instantaneous frequency and the features of the spikes, at levels above rheobase."""
    features = cell.long_square or {}
    names = ("psth", "inst_freq", *(f"spiking_{name}" for name in SPIKING), "inst_freq_norm")
    if "rheobase_i" not in features:
        cell.notes.extend(note("family", name, MISSING, "no spike") for name in names)
        return {}
    spikes = attempt(cell, "levels", lambda: levels(features, layout.levels, shift=10, tolerance=0))
    if spikes is None:
        return {}
    start, end = cell.window
    there = [level is not None for level in spikes]
    found: dict[str, Vector | None] = {}
    found["psth"] = attempt(cell, "psth", lambda: _levels(fv.psth_vector(spikes, start, end, 50), there))
    found["inst_freq"] = attempt(cell, "inst_freq", lambda: _levels(fv.inst_freq_vector(spikes, start, end), there))
    for name in SPIKING:
        found[f"spiking_{name}"] = attempt(
            cell,
            f"spiking_{name}",
            lambda name=name: _levels(fv.spike_feature_vector(name, spikes, start, end), there),
        )
    if found["inst_freq"] is not None:
        values, observed = found["inst_freq"]
        found["inst_freq_norm"] = normalised(values, len(layout.levels)), observed
    _note_levels(cell, "trains", layout.levels, there)
    return found


def levels(features: Mapping[str, Any], targets: Sequence[int], *, shift: int | None, tolerance: int) -> list[Any]:
    """Spikes at each level above rheobase, None where it was not recorded; IPFX asks for two levels, here one will do."""
    try:
        return fv.identify_suprathreshold_spike_info(features, np.array(targets), shift, tolerance)
    except fv.er.FeatureError:
        alone = fv.identify_suprathreshold_spike_info(features, np.array([0]), None, tolerance)
        return [*alone, *[None] * (len(targets) - 1)]


def normalised(frequency: np.ndarray, count: int) -> np.ndarray:
    """Each level over its own maximum: the shape of the train without its rate."""
    rows = frequency.reshape(count, -1)
    peak = rows.max(axis=1, keepdims=True)
    return np.divide(rows, peak, out=np.zeros_like(rows), where=peak > 0).ravel()


def _isi_shape(cell: Cell) -> Vector | None:
    features, (start, end) = cell.long_square or {}, cell.window
    if "rheobase_i" not in features:
        cell.notes.append(note("family", "isi_shape", MISSING, "no spike"))
        return None
    sweep, spikes = fv.identify_sweep_for_isi_shape(SweepSet(cell.long), features, end - start)
    return _levels(fv.isi_shape(sweep, spikes, end, n_points=ISI_POINTS), [True])


def _first_spikes(cell: Cell) -> dict[str, Vector]:
    """First action potentials of short square, long square and ramp, side by side; a missing one leaves its block empty."""
    blocks = [
        attempt(cell, "first_ap", lambda pick=pick: fv.first_ap_vectors(*pick, window_length=AP_WINDOW))
        if pick[0]
        else None
        for pick in spiking_sweeps(cell)
    ]
    present = (cell.short, cell.long, cell.ramp)
    for name, block, there in zip(("short square", "long square", "ramp"), blocks, present, strict=True):
        if block is None:
            reason = "no spike" if there else f"no {name}"
            cell.notes.append(note("family", "first_ap", MISSING, reason, f"block {name}"))
    found = {}
    for family, part, points in (("first_ap_v", 0, AP_POINTS), ("first_ap_dv", 1, AP_POINTS - 1)):
        values = [np.full(points, np.nan) if block is None else block[part] for block in blocks]
        found[family] = (np.hstack(values), np.repeat([block is not None for block in blocks], points))
    return found


Spiking = tuple[list[IpfxSweep], list[Any]]  # sweeps, and the spikes of each


def spiking_sweeps(cell: Cell) -> tuple[Spiking, Spiking, Spiking]:
    """Where the first action potential is taken: short squares of the commonest amplitude, rheobase, ramps.

    A spike that is cut off counts at rheobase alone, where there is one sweep, as in IPFX.
    """
    short: Spiking = ([], [])
    rheobase: Spiking = ([], [])
    ramps: Spiking = ([], [])
    if cell.short_square is not None:
        short = _whole(cell.short, cell.short_square["spikes_set"], cell.short_square["common_amp_sweeps"].index)
    if cell.long_square is not None and "rheobase_sweep" in cell.long_square:
        row = cell.long_square["rheobase_sweep"].name
        rheobase = [cell.long[row]], [cell.long_square["spikes_set"][row]]
    if cell.ramps is not None:
        ramps = _whole(cell.ramp, cell.ramps["spikes_set"], cell.ramps["spiking_sweeps"].index)
    return short, rheobase, ramps


def _whole(sweeps: list[IpfxSweep], spikes: list[Any], rows: Any) -> Spiking:
    kept = [row for row in rows if not spikes[row]["clipped"].values[0]]
    return [sweeps[row] for row in kept], [spikes[row] for row in kept]


def _levels(values: np.ndarray, there: Sequence[bool]) -> Vector:
    return np.asarray(values, float), np.repeat(np.asarray(there, bool), len(values) // len(there))


def _note_levels(cell: Cell, family: str, targets: Sequence[int], there: Sequence[bool]) -> None:
    absent = [str(target) for target, found in zip(targets, there, strict=True) if not found]
    if absent:
        cell.notes.append(note("family", family, MISSING, "missing level", f"{', '.join(absent)} pA"))
