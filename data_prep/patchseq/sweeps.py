"""The sweeps of one current-clamp recording, whatever file they come from, and the names of their stimuli.

Start with :class:`Sweep` for arrays of your own; :func:`data_prep.patchseq.extract.extract_cell` takes a list of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

LONG_SQUARE, SHORT_SQUARE, RAMP = "long square", "short square", "ramp"
PROTOCOLS = (LONG_SQUARE, SHORT_SQUARE, RAMP)

# Names and codes of the stimuli of each protocol in the Allen stimulus ontology.
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


@dataclass(frozen=True, repr=False)
class Sweep:
    """One current-clamp sweep.

    Parameters
    ----------
    number : int
        Number of the sweep within the recording.
    stimulus : str
        A protocol ("long square", "short square", "ramp"), or a name ("Long Square Threshold") or code ("X3LP_Rheo_DA_0") of
        the Allen stimulus ontology.
    voltage : ndarray of float, shape (n_samples,)
        Membrane potential in mV.
    current : ndarray of float, shape (n_samples,)
        Injected current in pA.
    rate : float
        Sampling rate in Hz.
    window : (float, float), optional
        Start and end of the stimulus in seconds from the first sample. By default it is found in the current, after a test
        pulse if there is one.

    Examples
    --------
    >>> import numpy as np
    >>> sweep = Sweep(0, "X3LP_Rheo_DA_0", voltage=np.full(5, -70.0), current=np.zeros(5), rate=50_000)
    >>> sweep, sweep.protocol
    (Sweep(0, 'X3LP_Rheo_DA_0', 5 samples at 50000 Hz), 'long square')
    """

    number: int
    stimulus: str
    voltage: np.ndarray
    current: np.ndarray
    rate: float
    window: tuple[float, float] | None = None

    @property
    def protocol(self) -> str | None:
        """Protocol of the stimulus; None if it is none of the three."""
        return protocol_of(self.stimulus)

    def __repr__(self) -> str:
        return f"Sweep({self.number}, {self.stimulus!r}, {len(self.voltage)} samples at {self.rate:g} Hz)"


@dataclass(frozen=True)
class Recording:
    """All current-clamp sweeps of one cell, with what the file holds about the cell.

    Parameters
    ----------
    cell : str
        Identifier of the cell.
    sweeps : sequence of Sweep
        The sweeps that could be read.
    donor : str, default ""
        Identifier of the animal or patient; "" if unknown.
    species : str, default ""
        "mouse", "human", or the text of the file; "" if unknown.
    excluded : mapping of int or str to str
        Sweeps that could not be read: number or name of the series, and the reason code
        (:data:`data_prep.patchseq.drop_reasons.REASONS`).
    source : mapping
        Name of the file, reader and sampling rates, for the provenance.
    """

    cell: str
    sweeps: Sequence[Sweep]
    donor: str = ""
    species: str = ""
    excluded: Mapping[int | str, str] = field(default_factory=dict)
    source: Mapping[str, Any] = field(default_factory=dict)


def protocol_of(stimulus: str) -> str | None:
    """Return the protocol of a stimulus.

    Parameters
    ----------
    stimulus : str
        A protocol, or a name or code of the Allen stimulus ontology. A code may end with the date of its version, a count
        and the name of an output, as in "C1LSCOARSE150112", "X3LP_Rheo_DA_0" or "X7Ramp[2]".

    Returns
    -------
    str or None
        "long square", "short square", "ramp", or None for any other stimulus.

    Examples
    --------
    >>> protocol_of("C1LSCOARSE150112"), protocol_of("X7Ramp[2]"), protocol_of("Chirp")
    ('long square', 'ramp', None)
    """
    text = stimulus.split("[")[0].strip().removesuffix("_DA_0")
    code = re.sub(r"\d{6}$", "", text)
    for protocol in PROTOCOLS:
        if text.lower() == protocol or text in NAMES[protocol] or code in CODES[protocol]:
            return protocol
    return None
