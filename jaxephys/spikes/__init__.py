"""Spike-train transformer: predict the next bin of every unit, compare with baselines, transfer between recordings, generate.

Start with :class:`~jaxephys.spikes.estimator.SpikeTransformer`. Behind it, ``preprocessing`` turns recordings into arrays,
``history`` computes features of the past, ``network`` holds the networks, ``task`` connects them to the engine, and
``forecaster`` applies trained networks to recordings. ``baselines``, ``attribution``, ``causality``, ``generation``,
``layout`` and ``spike_statistics`` analyse networks and recordings; ``grid`` and ``report`` serve the experiments.
"""
