"""Convert recordings into documented files with NumPy, IPFX and pynwb. JAX is never imported.

``python -m data_prep`` lists the commands; the packages ``patchseq``, ``units`` and ``spikes`` have one ``cli`` module each.
"""
