"""Names of scalar features: the family, unit and plausible range of each, and the map between the two namings of IPFX.

IPFX has named its features twice. ``old`` is the cell record of version 1 (the mouse table of Gouwens et al. 2020), ``new``
has the names of Lee & Dalley et al. 2023 (the human table). ``aligned`` has the 25 features that both contain. A name is a stem
and a suffix: ``threshold_v`` and ``_ramp``. The stem determines the unit, stem and suffix determine the family. Start with
:func:`known_feature` and :func:`align_columns`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import inf
from typing import NamedTuple

import numpy as np

# Families in the order of a table.
FAMILIES = (
    *("subthreshold", "short_square_ap", "long_square_ap", "ramp_ap"),
    *("spike_train", "adaptation", "chirp"),
)
NAMINGS = ("old", "new", "aligned")
SUFFIX_FAMILIES = {
    "_short_square": "short_square_ap",
    "_long_square": "long_square_ap",
    "_ramp": "ramp_ap",
    "_last_rheo": "long_square_ap",
    "_rheo": "long_square_ap",
    "_hero": "long_square_ap",
}
# Further suffixes of stems that do not describe an action potential.
SWEEP_SUFFIXES = ("_rheo", "_hero", "_mean", "_max", "_5spike", "_depol", "_chirp")
AP = "action potential"  # marks stems whose family is that of their suffix


class Feature(NamedTuple):
    """Family, unit and plausible range of a feature.

    Parameters
    ----------
    family : str
        One of ``FAMILIES``; "" for a family of feature vectors.
    unit : str
        Unit of measurement; "" for a ratio.
    low, high : float
        Smallest and largest plausible value of a cell.
    typical : (float, float), optional
        Range of the median absolute value over cells, if the values are in ``unit``; used to detect wrong units.
    """

    family: str
    unit: str
    low: float = -inf
    high: float = inf
    typical: tuple[float, float] | None = None


def _each(stems: str, *description) -> dict[str, Feature]:
    return {stem: Feature(*description) for stem in stems.split()}


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
    # adaptation of the train
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
# Times that count from the start of the experiment. Only their differences are properties of the cell.
CLOCK_TIMES = ("threshold_t", "peak_t", "trough_t", "fast_trough_t", "slow_trough_t")

# Families of feature vectors; all features of a family have one unit. IPFX fills a missing action potential with zeros.
VECTOR_FAMILIES = {
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


def split_name(name: str) -> tuple[str, str]:
    """Split the name of a feature into stem and suffix.

    Parameters
    ----------
    name : str
        Name of a scalar feature.

    Returns
    -------
    stem : str
        A key of ``STEMS``, or the whole name if it is not a known feature.
    suffix : str
        The rest; "" if there is none.

    Examples
    --------
    >>> split_name("threshold_v_ramp"), split_name("vrest")
    (('threshold_v', '_ramp'), ('vrest', ''))
    """
    if name in STEMS:
        return name, ""
    for suffix in (*SUFFIX_FAMILIES, *SWEEP_SUFFIXES):
        if name.endswith(suffix) and name.removesuffix(suffix) in STEMS:
            return name.removesuffix(suffix), suffix
    return name, ""


def known_feature(name: str, naming: str | None) -> Feature | None:
    """Return family, unit and plausible range of a scalar feature.

    Parameters
    ----------
    name : str
        Name of the feature.
    naming : {"old", "new", "aligned"} or None
        Naming of the table. ``tau`` is in ms under the old and the aligned names and in s under the new ones; with None its
        unit is "".

    Returns
    -------
    Feature or None
        None if the name belongs to no known feature.

    Examples
    --------
    >>> known_feature("threshold_v_ramp", "old")[:4]
    ('ramp_ap', 'mV', -90, 20)
    >>> known_feature("tau", "new").unit, known_feature("genotype", "old")
    ('s', None)
    """
    stem, suffix = split_name(name)
    if stem not in STEMS:
        return None
    known = STEMS[stem]
    if stem == "tau" and naming == "new":
        return Feature("subthreshold", "s", 0.5e-3, 0.3, (2e-3, 0.1))
    if stem == "tau" and naming is None:
        return Feature("subthreshold", "")
    if known.family == AP:
        return known._replace(family=SUFFIX_FAMILIES[suffix]) if suffix in SUFFIX_FAMILIES else None
    return known if suffix in ("", *SWEEP_SUFFIXES) else None


def known_vectors(family: str) -> Feature | None:
    """Return unit and plausible range of a family of feature vectors.

    Parameters
    ----------
    family : str
        Name of the family, with or without ``spiking_`` in front.

    Returns
    -------
    Feature or None
        None if the family is not one of IPFX.
    """
    return VECTOR_FAMILIES.get(family.removeprefix("spiking_"))


def is_clock_time(name: str) -> bool:
    """Return whether a feature is a time that counts from the start of the experiment.

    Parameters
    ----------
    name : str
        Name of a scalar feature.

    Returns
    -------
    bool
        True for ``peak_t_ramp`` and the like, False for differences such as ``peak_minus_thr_t_ramp``.
    """
    return split_name(name)[0] in CLOCK_TIMES


class Source(NamedTuple):
    """An aligned feature computed from columns of another naming as ``(column - minus) * times``.

    Parameters
    ----------
    column : str
        Name of the column.
    minus : str, default ""
        Name of a column that is subtracted; "" for none.
    times : float, default 1.0
        Factor between the units.
    """

    column: str
    minus: str = ""
    times: float = 1.0


def _spike_sources(suffix: str, new: str, *troughs: str) -> dict[str, dict[str, Source]]:
    """Return the features of one action potential. Voltages are relative to the threshold, as in the human tables."""
    relative = {
        f"{extremum}_dv_{suffix}": {
            "old": Source(f"{extremum}_v_{suffix}", minus=f"threshold_v_{suffix}"),
            "new": Source(f"{extremum}_deltav_{new}"),
        }
        for extremum in ("peak", *troughs)
    }
    ratio = "upstroke_downstroke_ratio"
    return {
        f"updown_{suffix}": {"old": Source(f"{ratio}_{suffix}"), "new": Source(f"{ratio}_{new}")},
        f"threshold_v_{suffix}": {"old": Source(f"threshold_v_{suffix}"), "new": Source(f"threshold_v_{new}")},
        **relative,
    }


# tau and the mean interval are in ms under the old names and in s under the new ones. Adaptation, latency and interval of the
# old record are those of the hero sweep, 39 to 61 pA above rheobase, not of the rheobase sweep.
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
    **_spike_sources("long_square", "rheo", "fast_trough", "trough"),
    **_spike_sources("ramp", "ramp", "fast_trough", "trough"),
    **_spike_sources(
        "short_square", "short_square", "fast_trough"
    ),  # the human table lacks the trough of the short square
    "threshold_i_ramp": {"old": Source("threshold_i_ramp"), "new": Source("threshold_i_ramp")},
}


def find_naming(columns: Iterable[str]) -> str:
    """Return the naming of a table, from the names that only one naming has.

    Parameters
    ----------
    columns : iterable of str
        Names of features.

    Returns
    -------
    str
        "old", "new" or "aligned".

    Raises
    ------
    ValueError
        If there are names of several namings, or of none.

    Examples
    --------
    >>> find_naming(["vrest", "ri", "threshold_i_long_square"])
    'old'
    """
    given = set(columns)
    matching = matching_namings(given)
    if len(matching) != 1:
        problem = (
            f"names of {' and '.join(matching)} naming"
            if matching
            else f"none of the known names among {len(given)} columns"
        )
        raise ValueError(f"the naming is not clear, there are {problem}: give it as one of {', '.join(NAMINGS)}")
    return matching[0]


def matching_namings(columns: Iterable[str]) -> list[str]:
    """Return the namings of which a table has names that no other naming has.

    Parameters
    ----------
    columns : iterable of str
        Names of features.

    Returns
    -------
    list of str
        Some of "old", "new" and "aligned".

    Examples
    --------
    >>> matching_namings(["vrest", "ri", "threshold_i_long_square"]), matching_namings(["sag"])
    (['old'], [])
    """
    known: dict[str, set[str]] = {naming: set() for naming in NAMINGS}
    for name, sources in ALIGNED.items():
        known["aligned"].add(name)
        for naming, source in sources.items():
            known[naming] |= {source.column, source.minus} - {""}
    unique = {naming: known[naming] - set().union(*(known[x] for x in NAMINGS if x != naming)) for naming in NAMINGS}
    given = set(columns)
    return [naming for naming in NAMINGS if unique[naming] & given]


def align_columns(columns: Mapping[str, np.ndarray], naming: str) -> dict[str, np.ndarray]:
    """Compute the 25 features that mouse and human tables share.

    Parameters
    ----------
    columns : mapping of str to ndarray of float, shape (n_cells,)
        Features under one naming.
    naming : {"old", "new", "aligned"}
        Their naming.

    Returns
    -------
    dict of str to ndarray of float, shape (n_cells,)
        The aligned features in the order of ``ALIGNED``: ms for ``tau`` and ``avg_isi``, s for ``latency``, mV, pA, MOhm and
        Hz/pA.

    Raises
    ------
    ValueError
        If the naming is unknown or a column is missing.
    """
    if naming not in NAMINGS:
        raise ValueError(f"naming {naming!r} is not known: it is one of {', '.join(NAMINGS)}")
    plans = {name: Source(name) if naming == "aligned" else sources[naming] for name, sources in ALIGNED.items()}
    needed = {name for plan in plans.values() for name in (plan.column, plan.minus) if name}
    missing = sorted(needed - set(columns))
    if missing:
        raise ValueError(f"the aligned features need {', '.join(missing)} under the {naming} names: compute them first")
    return {
        name: (np.asarray(columns[plan.column]) - (np.asarray(columns[plan.minus]) if plan.minus else 0)) * plan.times
        for name, plan in plans.items()
    }
