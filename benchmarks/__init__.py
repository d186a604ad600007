"""Benchmarks: the engine against what its users would otherwise run, in one process after the other on the same cores."""
