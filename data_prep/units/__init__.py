"""Extracellular units: CSV folders, NumPy archives, NWB and HDF5 files, or spike times -> one table of raw features a unit."""
