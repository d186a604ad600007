"""Sweep and Recording: what a current-clamp recording is here, whatever file it came from, and what its stimuli are called."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

LONG_SQUARE, SHORT_SQUARE, RAMP = "long square", "short square", "ramp"
PROTOCOLS = (LONG_SQUARE, SHORT_SQUARE, RAMP)

# How the stimuli of each protocol are named in the Allen ontology: by a name or by a code.
NAMES = {
    LONG_SQUARE: ("Long Square", "Long Square Threshold", "Long Square SupraThreshold", "Long Square SubThreshold"),
    SHORT_SQUARE: ("Short Square", "Short Square Threshold", *(f"Short Square - Hold -{v}mV" for v in (60, 70, 80))),
    RAMP: ("Ramp",),
}
CODES = {
    LONG_SQUARE: (
        *(
            "C1LSCOARSE",
            "C1LSCOARSEMICRO",
            "C1LSFINEST",
            "C1LSFINESTMICRO",
            "C1LSCRESEP",
            "X1PS_SubThresh",
            "X3LP_Rheo",
        ),
        *("X4PS_SupraThresh", "PS_SubThresh", "LP_Rheo", "PS_SupraThresh", "Y3LP_Rheo", "Y4PS_SupraThresh"),
        *("Rheo_Supra_backu", "subthreshold", "subthreshold_171", "longsquaretemp"),
    ),
    SHORT_SQUARE: (
        *("C1SSFINEST", "C1SSCOARSE", "X6SP_Rheo", "SP_Rheo", "shortsquaretemp"),
        *(f"C2SSHM{v}{kind}" for v in (60, 70, 80) for kind in ("CS", "FN")),
    ),
    RAMP: ("C1RP25PR1S", "X7Ramp"),
}


@dataclass(frozen=True)
class Sweep:
    """One current-clamp sweep: the voltage in mV, the injected current in pA, sampled at ``rate`` Hz.

    ``stimulus`` is a protocol ("long square"), a name ("Long Square Threshold") or a code ("X3LP_Rheo_DA_0"). ``window`` is
    the start and end of the step in seconds from the first sample; None has it found in the current, after a test pulse if
    there is one.
    """

    number: int
    stimulus: str
    voltage: np.ndarray  # mV [time]
    current: np.ndarray  # pA [time]
    rate: float  # Hz
    window: tuple[float, float] | None = None

    @property
    def protocol(self) -> str | None:
        return protocol_of(self.stimulus)

    def __repr__(self) -> str:
        return f"Sweep({self.number}, {self.stimulus!r}, {len(self.voltage)} samples at {self.rate:g} Hz)"


@dataclass(frozen=True)
class Recording:
    """All current-clamp sweeps of one cell, and what the file said of it."""

    cell: str
    sweeps: Sequence[Sweep]
    donor: str = ""
    species: str = ""  # "mouse", "human", or as the file has it
    refused: Mapping[int | str, str] = field(default_factory=dict)  # sweeps that could not be read -> reason code
    source: Mapping[str, Any] = field(default_factory=dict)  # file, reader, session


def protocol_of(stimulus: str) -> str | None:
    """Which protocol a stimulus belongs to; None if it is none of the three.

    A code may go on with the date of its version, a count and the name of an output: "C1LSCOARSE150112", "X3LP_Rheo_DA_0",
    "X7Ramp[2]".
    """
    text = stimulus.split("[")[0].strip().removesuffix("_DA_0")
    code = re.sub(r"\d{6}$", "", text)
    for protocol in PROTOCOLS:
        if text.lower() == protocol or text in NAMES[protocol] or code in CODES[protocol]:
            return protocol
    return None
