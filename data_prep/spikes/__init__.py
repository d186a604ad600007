"""Spike times of one recording, or a simulated population -> a recording of packed bins with splits.

Commands are in :mod:`data_prep.spikes.cli`; start reading at :mod:`data_prep.spikes.build`.
"""
