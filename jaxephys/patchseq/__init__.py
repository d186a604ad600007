"""The Patch-seq system: from families of electrophysiological features to the transcriptomic subclass of a neuron.

Start with ``estimator.PatchSeqClassifier``. Its parts are ``preprocessing`` (scales), ``oversampling`` (SMOTE rows),
``network`` (encoders and heads), ``losses`` and ``task`` (the functions that the engine trains). ``source_transfer``,
``unlabelled_transfer`` and ``transfer_task`` transfer classes between species; ``grid``, ``transfer_grid`` and
``report`` serve the experiments.
"""
