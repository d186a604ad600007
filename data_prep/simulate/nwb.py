"""Write a simulated recording as an NWB file in the layout of the archive, readable by pynwb and h5py, and by IPFX on request.

IPFX finds sweeps in the sweep table, which the format deprecates: nwbinspector reports it as a violation. It is therefore left out
by default. Every file has the table of intracellular recordings, its replacement.
"""

# pynwb creates its signatures at run time, so that type checkers do not know them.
# pyright: reportCallIssue=false, reportAttributeAccessIssue=false

from __future__ import annotations

import os
import warnings
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from hdmf.backends.hdf5.h5_utils import H5DataIO
from pynwb import NWBHDF5IO, NWBFile
from pynwb.file import Subject
from pynwb.icephys import CurrentClampSeries, CurrentClampStimulusSeries, SweepTable

from data_prep.patchseq.sweeps import Sweep
from data_prep.simulate.recording import CONVERTER, SimulatedCell
from data_prep.simulate.session import RESOLUTION

LATIN = {"mouse": "Mus musculus", "human": "Homo sapiens"}
GAP = 3.0  # s between the starts of two sweeps


def write_nwb(cell: SimulatedCell, path: Path, *, sweep_table: bool = False) -> None:
    """Write the file of a cell by way of a temporary file, so that it is never incomplete.

    Parameters
    ----------
    cell : SimulatedCell
        The cell with its recording.
    path : Path
        File to write; missing folders are created.
    sweep_table : bool, default False
        Also write the deprecated sweep table, without which IPFX cannot read the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The file path provided")  # pynwb warns about the suffix
            with NWBHDF5IO(temporary, mode="w") as io:
                io.write(_content(cell, sweep_table))
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _content(cell: SimulatedCell, sweep_table: bool) -> NWBFile:
    start = datetime(2020, 1, 1, tzinfo=UTC) + timedelta(hours=cell.number)
    file = NWBFile(
        session_description="simulated patch-seq recording of a conductance-based neuron",
        identifier=f"simulated {cell.species} {cell.cell}",
        session_start_time=start,
        session_id=cell.cell,
        institution="simulated",
        experiment_description="current clamp with short squares, long squares and ramps of a simulated interneuron",
        keywords=["simulated", "patch clamp", "current clamp", "interneuron"],
        subject=Subject(
            subject_id=cell.donor,
            species=LATIN[cell.species],
            sex=cell.sex,
            description="simulated",
            age="P60D" if cell.species == "mouse" else "P45Y",
        ),
    )
    device = file.create_device(name="simulated amplifier", description="an amplifier in current-clamp mode")
    electrode = file.create_icephys_electrode(
        name="electrode 0", description="whole cell", device=device, cell_id=cell.cell
    )
    table = _sweep_table() if sweep_table else None
    file.sweep_table = table
    for sweep in cell.recording.sweeps:
        response, stimulus = _both_series(sweep, electrode)
        file.add_acquisition(response)
        file.add_stimulus(stimulus)
        file.add_intracellular_recording(electrode=electrode, stimulus=stimulus, response=response)
        if table is not None:
            table.add_entry(response)
            table.add_entry(stimulus)
    return file


def _sweep_table() -> SweepTable:
    """Return an empty sweep table, which IPFX needs. pynwb 3 refuses to create one except in the mode in which it reads files."""
    table = SweepTable.__new__(SweepTable, in_construct_mode=True)
    table.__init__(name="sweep_table")
    table._in_construct_mode = False
    return table


def _both_series(sweep: Sweep, electrode):
    """Yield response and stimulus of a sweep as 16-bit integers, with the factor that converts them to volts and amperes."""
    common = {
        "electrode": electrode,
        "gain": 1.0,
        "rate": sweep.rate,
        "starting_time": GAP * sweep.number,
        "sweep_number": np.uint64(sweep.number),
        "stimulus_description": sweep.stimulus,
    }
    about = f"of sweep {sweep.number}, {sweep.stimulus}"
    name = f"data_{sweep.number:05d}"
    yield CurrentClampSeries(
        name=f"{name}_AD0",
        data=_packed(sweep.voltage * CONVERTER),
        conversion=1e-3 / CONVERTER,
        description=f"membrane potential {about}",
        **common,
    )
    yield CurrentClampStimulusSeries(
        name=f"{name}_DA0",
        data=_packed(sweep.current * RESOLUTION),
        conversion=1e-12 / RESOLUTION,
        description=f"injected current {about}",
        **common,
    )


def _packed(values: np.ndarray) -> H5DataIO:
    return H5DataIO(np.rint(values).astype(np.int16), compression="gzip", compression_opts=1, shuffle=True)
