"""Simulated Patch-seq recordings of interneurons: the Allen protocols, with known subclass, donor and defects.

They replace real recordings in tests and demonstrations of the preparation. Scores of a classifier on them are no evidence on
real cells. Start with :func:`write_cells` for NWB files and :func:`simulate_cells` for arrays.
"""

from data_prep.simulate.cells import DEFECTS
from data_prep.simulate.recording import SimulatedCell
from data_prep.simulate.write import Summary, simulate_cells, write_cells

__all__ = ["DEFECTS", "SimulatedCell", "Summary", "simulate_cells", "write_cells"]
