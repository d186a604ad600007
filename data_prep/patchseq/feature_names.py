"""Names: what a scalar feature is called, which family it belongs to, its unit, and which values are plausible.

IPFX has named its features twice. ``old`` is the cell record of version 1 (the mouse table of Gouwens et al. 2020), ``new``
the names of Lee & Dalley et al. 2023 (the human table). ``aligned`` holds the 25 features that both can give. A name is a
stem and a place: ``threshold_v`` of ``_ramp``. The stem decides the unit, stem and place decide the family.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import inf
from typing import NamedTuple

import numpy as np

# In the order in which they stand in a table.
FAMILIES = (
    *("subthreshold", "short_square_ap", "long_square_ap", "ramp_ap"),
    *("spike_train", "adaptation", "chirp"),
)
NAMINGS = ("old", "new", "aligned")
PLACES = {
    "_short_square": "short_square_ap",
    "_long_square": "long_square_ap",
    "_ramp": "ramp_ap",
    "_last_rheo": "long_square_ap",
    "_rheo": "long_square_ap",
    "_hero": "long_square_ap",
}
SWEEPS = (
    "_rheo",
    "_hero",
    "_mean",
    "_max",
    "_5spike",
    "_depol",
    "_chirp",
)  # what else may follow a stem that is no AP's
AP = "action potential"  # its family is that of its place


class Feature(NamedTuple):
    """Where a feature belongs and what it may be."""

    family: str
    unit: str  # "" for a ratio
    low: float = -inf  # of a cell
    high: float = inf
    typical: tuple[float, float] | None = None  # where the median size over cells lies, if the unit is what is said


def _each(stems: str, *said) -> dict[str, Feature]:
    return {stem: Feature(*said) for stem in stems.split()}


STEMS = {
    # subthreshold
    **_each("vrest v_baseline", "subthreshold", "mV", -110, -20, (45, 95)),
    **_each("ri input_resistance", "subthreshold", "MOhm", 1, 3000, (20, 1500)),
    **_each("tau", "subthreshold", "ms", 0.5, 300, (2, 100)),  # in s under the new names
    **_each("sag", "subthreshold", "", -0.3, 1.2, (0.005, 0.8)),
    **_each("vm_for_sag", "subthreshold", "mV", -140, -40, (60, 120)),
    **_each("sag_peak_t", "subthreshold", "s", 0, 1.5, (0.005, 1)),
    **_each("sag_area", "subthreshold", "mV s", 0, 50),
    **_each("sag_tau", "subthreshold", "s", 0, 2, (0.005, 1)),
    # of one action potential
    **_each("upstroke_downstroke_ratio updown", AP, "", 0, 20, (0.7, 6)),
    **_each("threshold_v", AP, "mV", -90, 20, (15, 65)),
    **_each("peak_v", AP, "mV", -40, 90, (5, 65)),
    **_each("trough_v fast_trough_v slow_trough_v adp_v", AP, "mV", -110, 10, (25, 90)),
    **_each("peak_deltav peak_dv", AP, "mV", 0, 140, (20, 110)),
    **_each("trough_deltav trough_dv fast_trough_deltav fast_trough_dv", AP, "mV", -80, 60, (3, 60)),
    **_each("trough_slowdeltav", AP, "mV", -60, 5, (0.05, 20)),
    **_each("threshold_i", AP, "pA", 0, 3000, (10, 1500)),
    **_each("width width_suprathresh", AP, "s", 1e-5, 0.03, (1.5e-4, 5e-3)),
    **_each("upstroke", AP, "V/s", 0, 1500, (20, 1000)),
    **_each("downstroke", AP, "V/s", -1000, 0, (15, 700)),
    **_each("postap_slope", AP, "V/s", -20, 40),
    **_each("threshold_t peak_t trough_t fast_trough_t slow_trough_t", AP, "s", 0, 100),
    **_each("peak_minus_thr_t", AP, "s", 0, 0.01, (1e-4, 3e-3)),
    **_each("fast_trough_minus_peak_t", AP, "s", 0, 0.2, (3e-4, 0.03)),
    **_each("trough_minus_peak_t", AP, "s", 0, 40, (4e-4, 2)),
    "rheobase_i": Feature("long_square_ap", "pA", 0, 2000, (5, 1000)),
    # of the train
    **_each("f_i_curve_slope fi_fit_slope fi_slope", "spike_train", "Hz/pA", -0.5, 5, (0.01, 4)),
    **_each("latency", "spike_train", "s", 0, 1.5, (1e-3, 0.8)),
    **_each("avg_rate", "spike_train", "Hz", 0, 500, (0.5, 300)),
    **_each("mean_isi median_isi", "spike_train", "s", 1e-3, 2, (2e-3, 1)),
    **_each("avg_isi", "spike_train", "ms", 1, 2000, (2, 1000)),
    **_each("first_isi_inv", "spike_train", "Hz", 0.3, 1000, (1, 500)),
    **_each("isi_cv", "spike_train", "", 0, 10),
    **_each("isi_norm_sq_var ahp_delay_ratio", "spike_train", "", 0, 1),
    # how it changes
    **_each("adapt adaptation", "adaptation", "", -1, 1),
    **_each("isi_adapt_ratio", "adaptation", "", 0, 200),
    **{
        f"{stem}_adapt_ratio": Feature("adaptation", "", -1, 10)
        for stem in ("width", "upstroke", "downstroke", "peak_v", "threshold_v", "fast_trough_v")
    },
    # chirp
    **_each("peak_ratio", "chirp", "", 0.9, 20),
    **_each("peak_freq 3db_freq sync_freq", "chirp", "Hz", 0, 50, (0.2, 50)),
    **_each("peak_impedance low_freq_impedance", "chirp", "GOhm", 1e-3, 20, (0.02, 3)),
    **_each("phase_peak phase_low total_inductive_phase", "chirp", "rad", -3.2, 3.2),
}
# Clock times: where in the recording something happened. Only their differences are properties of the cell.
CLOCKS = ("threshold_t", "peak_t", "trough_t", "fast_trough_t", "slow_trough_t")

# The families of feature vectors, each of one unit. IPFX fills a missing action potential with zeros.
VECTORS = {
    "step_subthresh": Feature("", "mV", -200, 60, (45, 110)),
    "subthresh_norm": Feature("", "", -5, 5, (0.1, 2)),
    "subthresh_depol_norm": Feature("", "", -5, 5, (0.1, 2)),
    "isi_shape": Feature("", "mV", -100, 100, (0.5, 60)),
    "first_ap_v": Feature("", "mV", -120, 100, (5, 90)),
    "first_ap_dv": Feature("", "mV", -40, 40, (0.01, 10)),
    "psth": Feature("", "Hz", 0, 1000),
    "inst_freq": Feature("", "Hz", 0, 1500, (0.5, 500)),
    "inst_freq_norm": Feature("", "", 0, 1),
    **{stem: STEMS[stem] for stem in ("upstroke_downstroke_ratio", "peak_v", "fast_trough_v", "threshold_v", "width")},
}


def split(name: str) -> tuple[str, str]:
    """Stem and place: ``threshold_v_ramp`` is threshold_v and _ramp."""
    if name in STEMS:
        return name, ""
    places = [place for place in (*PLACES, *SWEEPS) if name.endswith(place) and name.removesuffix(place) in STEMS]
    return (name.removesuffix(places[0]), places[0]) if places else (name, "")


def feature(name: str, naming: str | None) -> Feature | None:
    """What is known of a scalar feature; None if it is none of ours. ``naming`` None: the unit of ``tau`` is not known."""
    stem, place = split(name)
    if stem not in STEMS:
        return None
    said = STEMS[stem]
    if stem == "tau" and naming == "new":
        return Feature("subthreshold", "s", 0.5e-3, 0.3, (2e-3, 0.1))
    if stem == "tau" and naming is None:
        return Feature("subthreshold", "")
    if said.family == AP:
        return said._replace(family=PLACES[place]) if place in PLACES else None
    return said if place in ("", *SWEEPS) else None


def vector(family: str) -> Feature | None:
    """What is known of a family of feature vectors: ``spiking_width`` or ``width``."""
    return VECTORS.get(family.removeprefix("spiking_"))


def is_clock(name: str) -> bool:
    return split(name)[0] in CLOCKS


class Source(NamedTuple):
    """An aligned feature as columns of another naming: ``(column - minus) * times``."""

    column: str
    minus: str = ""
    times: float = 1.0


def _spike(here: str, new: str, *dips: str) -> dict[str, dict[str, Source]]:
    """One action potential. Voltages are taken from the threshold: the human tables hold no absolute ones but that."""
    relative = {
        f"{dip}_dv_{here}": {
            "old": Source(f"{dip}_v_{here}", minus=f"threshold_v_{here}"),
            "new": Source(f"{dip}_deltav_{new}"),
        }
        for dip in ("peak", *dips)
    }
    ratio = "upstroke_downstroke_ratio"
    return {
        f"updown_{here}": {"old": Source(f"{ratio}_{here}"), "new": Source(f"{ratio}_{new}")},
        f"threshold_v_{here}": {"old": Source(f"threshold_v_{here}"), "new": Source(f"threshold_v_{new}")},
        **relative,
    }


# tau and mean interval are in ms under the old names, in s under the new. Adaptation, latency and interval of the old
# record are of the hero sweep, 39 to 61 pA above rheobase, and not of rheobase.
ALIGNED = {
    "vrest": {"old": Source("vrest"), "new": Source("v_baseline")},
    "ri": {"old": Source("ri"), "new": Source("input_resistance")},
    "tau": {"old": Source("tau"), "new": Source("tau", times=1000.0)},
    "sag": {"old": Source("sag"), "new": Source("sag")},
    "vm_for_sag": {"old": Source("vm_for_sag"), "new": Source("vm_for_sag")},
    "fi_slope": {"old": Source("f_i_curve_slope"), "new": Source("fi_fit_slope")},
    "rheobase_i": {"old": Source("threshold_i_long_square"), "new": Source("rheobase_i")},
    "adapt": {"old": Source("adaptation"), "new": Source("adapt_hero")},
    "latency": {"old": Source("latency"), "new": Source("latency_hero")},
    "avg_isi": {"old": Source("avg_isi"), "new": Source("mean_isi_hero", times=1000.0)},
    **_spike("long_square", "rheo", "fast_trough", "trough"),
    **_spike("ramp", "ramp", "fast_trough", "trough"),
    **_spike("short_square", "short_square", "fast_trough"),  # the human table lacks the trough of the short square
    "threshold_i_ramp": {"old": Source("threshold_i_ramp"), "new": Source("threshold_i_ramp")},
}


def naming_of(columns: Iterable[str]) -> str:
    """Which naming a table uses, by the names that only one of them has."""
    known: dict[str, set[str]] = {naming: set() for naming in NAMINGS}
    for name, sources in ALIGNED.items():
        known["aligned"].add(name)
        for naming, source in sources.items():
            known[naming] |= {source.column, source.minus} - {""}
    own = {naming: known[naming] - set().union(*(known[x] for x in NAMINGS if x != naming)) for naming in NAMINGS}
    given = set(columns)
    found = [naming for naming in NAMINGS if own[naming] & given]
    if len(found) != 1:
        said = (
            f"names of {' and '.join(found)} naming" if found else f"none of the known names among {len(given)} columns"
        )
        raise ValueError(f"the naming is not clear, there are {said}: give it as one of {', '.join(NAMINGS)}")
    return found[0]


def to_aligned(columns: Mapping[str, np.ndarray], naming: str) -> dict[str, np.ndarray]:
    """The 25 aligned features, in their order and units, from columns [cell] under the old or the new names."""
    if naming not in NAMINGS:
        raise ValueError(f"naming {naming!r} is not known: it is one of {', '.join(NAMINGS)}")
    plans = {name: Source(name) if naming == "aligned" else sources[naming] for name, sources in ALIGNED.items()}
    wanted = {name for plan in plans.values() for name in (plan.column, plan.minus) if name}
    missing = sorted(wanted - set(columns))
    if missing:
        raise ValueError(f"the aligned features need {', '.join(missing)} under the {naming} names: compute them first")
    return {
        name: (np.asarray(columns[plan.column]) - (np.asarray(columns[plan.minus]) if plan.minus else 0)) * plan.times
        for name, plan in plans.items()
    }
