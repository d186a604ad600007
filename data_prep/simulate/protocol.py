"""The stimuli of the Allen protocols and their currents; a small test pulse precedes each of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data_prep.patchseq.sweeps import LONG_SQUARE, RAMP, SHORT_SQUARE
from data_prep.simulate.neuron import HOLD, STEP

RATE = 1000 / STEP  # Hz
HOLDS = round(RATE / HOLD)  # values of the current in a second
ONSET, TAIL = 0.6, 0.3  # s before and after the stimulus
LONG, SHORT, LONG_WINDOW = 1.0, 0.003, 1.26  # s
TEST_PULSE = 0.05, 0.06, -10.0  # start in s, end in s, amplitude in pA
RESOLUTION = 16  # steps of the converter in a pA

SUBTHRESHOLD = (-110.0, -90.0, -70.0, -50.0, -30.0, -10.0)  # pA
BELOW_RHEOBASE = 3  # number of recorded levels without a spike
ABOVE_RHEOBASE = (20.0, 40.0, 60.0, 80.0, 100.0)  # pA
REPEATS = 3  # number of ramps, and of short squares with a spike


@dataclass(frozen=True)
class Stimulus:
    """A step from ONSET on, or a ramp that reaches its amplitude at the end.

    Parameters
    ----------
    protocol : str
        "long square", "short square" or "ramp".
    amplitude : float
        Amplitude in pA.
    duration : float, default 1.0
        Duration in s.
    """

    protocol: str
    amplitude: float
    duration: float = LONG

    def current(self) -> np.ndarray:
        """Return the injected current.

        Returns
        -------
        ndarray of float, shape (n_samples / HOLD,)
            Current in pA, one value for every HOLD samples. The test pulse comes first, since readers drop the first pulse.
        """
        start, stop = round(ONSET * HOLDS), round((ONSET + self.duration) * HOLDS)
        current = np.zeros(stop + round(TAIL * HOLDS))
        current[round(TEST_PULSE[0] * HOLDS) : round(TEST_PULSE[1] * HOLDS)] = TEST_PULSE[2]
        shape = np.arange(1, stop - start + 1) / (stop - start) if self.protocol == RAMP else 1.0
        current[start:stop] = np.round(self.amplitude * shape * RESOLUTION) / RESOLUTION
        return current

    def code(self, rheobase: float) -> str:
        """Return the stimulus code that the file has.

        Parameters
        ----------
        rheobase : float
            Rheobase of the cell in pA; stronger long squares have another code.

        Returns
        -------
        str
            A code of the Allen stimulus ontology.
        """
        if self.protocol == LONG_SQUARE and self.amplitude < 0:
            return "X1PS_SubThresh_DA_0"
        if self.protocol == LONG_SQUARE:
            return "X4PS_SupraThresh_DA_0" if self.amplitude > rheobase else "X3LP_Rheo_DA_0"
        return {SHORT_SQUARE: "X6SP_Rheo_DA_0", RAMP: "X7Ramp_DA_0"}[self.protocol]
