"""HIPPIE: a conditional variational autoencoder of sorted units.

Start with `jaxephys.hippie.estimator.Hippie`, the scikit-learn style estimator. A unit passes through ``preprocessing.py``
(raw curves to network inputs), ``network/`` (encoders, latent, decoders), ``losses.py`` and ``task.py`` (what is trained) and
``inference.py`` (embedding, imputation, counterfactuals). ``torch_checkpoint.py`` and ``published_api.py`` read the published
PyTorch checkpoint and offer the interface of its model card; scripts of the card import from `jaxephys.hippie.inference` what they
imported from ``hippie.inference``. ``pretrained.py`` opens a trained network and ``fine_tuning.py`` trains it further. ``datasets.py``
reads the tables of several data sets; ``grid.py`` trains many networks on them as one program. ``benchmark.py``, ``embedding_grid.py``,
``imputation_benchmark.py`` and ``report.py`` evaluate models and baselines for the experiments.
"""
