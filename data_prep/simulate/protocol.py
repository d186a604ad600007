"""Protocol: the stimuli of the Allen set and the current of each, a small test pulse in front of every one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data_prep.patchseq.sweeps import LONG_SQUARE, RAMP, SHORT_SQUARE
from data_prep.simulate.neuron import HOLD, STEP

RATE = 1000 / STEP  # Hz
HOLDS = round(RATE / HOLD)  # values of current a second
ONSET, TAIL = 0.6, 0.3  # s, before and after the stimulus
LONG, SHORT, LONG_WINDOW = 1.0, 0.003, 1.26  # s
TEST_PULSE = 0.05, 0.06, -10.0  # from s, to s, pA
RESOLUTION = 16  # steps of a picoampere, in the command and in the file

SUBTHRESHOLD = (-110.0, -90.0, -70.0, -50.0, -30.0, -10.0)  # pA
BELOW_RHEOBASE = 3  # levels that did not fire and are kept
ABOVE_RHEOBASE = (20.0, 40.0, 60.0, 80.0, 100.0)  # pA
REPEATS = 3  # of the short square that fires, and of the ramp


@dataclass(frozen=True)
class Stimulus:
    """A step of ``amplitude`` pA and ``duration`` seconds from ONSET on, or a ramp that ends there."""

    protocol: str
    amplitude: float
    duration: float = LONG

    def current(self) -> np.ndarray:
        """pA, one value for every HOLD samples. The test pulse comes first: readers drop the first pulse that they see."""
        start, stop = round(ONSET * HOLDS), round((ONSET + self.duration) * HOLDS)
        current = np.zeros(stop + round(TAIL * HOLDS))
        current[round(TEST_PULSE[0] * HOLDS) : round(TEST_PULSE[1] * HOLDS)] = TEST_PULSE[2]
        shape = np.arange(1, stop - start + 1) / (stop - start) if self.protocol == RAMP else 1.0
        current[start:stop] = np.round(self.amplitude * shape * RESOLUTION) / RESOLUTION
        return current

    def code(self, rheobase: float) -> str:
        """The name on the file: what the experimenter was after."""
        if self.protocol == LONG_SQUARE and self.amplitude < 0:
            return "X1PS_SubThresh_DA_0"
        if self.protocol == LONG_SQUARE:
            return "X4PS_SupraThresh_DA_0" if self.amplitude > rheobase else "X3LP_Rheo_DA_0"
        return {SHORT_SQUARE: "X6SP_Rheo_DA_0", RAMP: "X7Ramp_DA_0"}[self.protocol]
