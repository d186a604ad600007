"""Simulated interneurons: recordings of the Allen protocols with known subclass, donor and faults, where no real ones may lie.

They stand in for the archive in tests, demonstrations and dry runs of the pipeline. What a classifier scores on them says
nothing about real cells.
"""

from data_prep.simulate.faults import FAULTS
from data_prep.simulate.recording import SimulatedCell
from data_prep.simulate.write import Summary, simulate_cells, write_cells

__all__ = ["FAULTS", "SimulatedCell", "Summary", "simulate_cells", "write_cells"]
