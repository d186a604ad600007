"""Data preparation, in NumPy and IPFX alone: what it writes are files with documented keys, and JAX is never imported."""
