"""Faults: what goes wrong in recordings, one at most in a cell, each by its name."""

from __future__ import annotations

from collections.abc import Mapping

FAULTS = {
    "noise": "ten times the noise on the voltage",
    "truncated_sweep": "a long square that ends early: zeros from there on",
    "no_ramp": "no ramps",
    "no_short_square": "no short squares",
    "missing_level": "one long square between rheobase and rheobase + 100 pA is absent",
    "low_rate": "recorded at 12.5 kHz",
    "long_window": "the last long square lasts 1.26 s instead of 1 s",
    "noisy_current": "noise on the recorded current",
    "no_label": "no transcriptomic type",
}


def check_faults(faults: Mapping[str, float]) -> None:
    unknown = [name for name in faults if name not in FAULTS]
    if unknown:
        raise ValueError(f"there is no fault {unknown[0]!r}: choose from {', '.join(FAULTS)}")
    if min(faults.values(), default=0) < 0 or sum(faults.values()) > 1 + 1e-9:
        raise ValueError(f"the faults {dict(faults)} are no fractions: each is at least 0, and together at most 1")


def draw_fault(faults: Mapping[str, float], place: float) -> str:
    """The fault whose stretch of the unit interval holds ``place``, in the order of FAULTS; "" past the last."""
    for name in FAULTS:
        place -= faults.get(name, 0.0)
        if place < 0:
            return name
    return ""
