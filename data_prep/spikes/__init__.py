"""Spike trains: sorted spike times of one recording, or a simulated population -> packed bins with splits that do not touch."""
