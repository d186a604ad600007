"""Defects of recordings that the simulation can introduce, at most one in a cell."""

from __future__ import annotations

from collections.abc import Mapping

DEFECTS = {
    "noise": "ten times the noise on the voltage",
    "truncated_sweep": "a long square that ends early, with zeros after that",
    "no_ramp": "no ramps",
    "no_short_square": "no short squares",
    "missing_level": "one long square between rheobase and rheobase + 100 pA is absent",
    "low_rate": "recorded at 12.5 kHz",
    "long_window": "the last long square lasts 1.26 s instead of 1 s",
    "noisy_current": "noise on the recorded current",
    "no_label": "no transcriptomic type",
}


def check_defects(defects: Mapping[str, float]) -> None:
    """Check the fractions of cells with defects.

    Parameters
    ----------
    defects : mapping of str to float
        Fraction of the cells with each defect.

    Raises
    ------
    ValueError
        If a defect is unknown, a fraction is negative, or the fractions exceed 1 in sum.
    """
    unknown = [name for name in defects if name not in DEFECTS]
    if unknown:
        raise ValueError(f"there is no defect {unknown[0]!r}: choose from {', '.join(DEFECTS)}")
    if min(defects.values(), default=0) < 0 or sum(defects.values()) > 1 + 1e-9:
        raise ValueError(
            f"the defects {dict(defects)} are not fractions of the cells: each is at least 0, and together at most 1"
        )


def draw_defect(defects: Mapping[str, float], uniform: float) -> str:
    """Choose the defect of a cell.

    Parameters
    ----------
    defects : mapping of str to float
        Fraction of the cells with each defect.
    uniform : float
        A random number in [0, 1).

    Returns
    -------
    str
        A key of ``DEFECTS``, or "" for none.

    Examples
    --------
    >>> fractions = {"no_ramp": 0.1, "low_rate": 0.1}
    >>> draw_defect(fractions, 0.05), draw_defect(fractions, 0.15), draw_defect(fractions, 0.5)
    ('no_ramp', 'low_rate', '')
    """
    for name in DEFECTS:
        uniform -= defects.get(name, 0.0)
        if uniform < 0:
            return name
    return ""
