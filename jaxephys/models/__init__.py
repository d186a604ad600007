"""Parts that the estimators of all systems share: the base class, the format of saved models, and its migrations.

``base.py`` holds the base class, ``saved_model.py`` the files, ``loading.py`` :func:`jaxephys.load`, ``run_template.py`` what makes runs of
checkpoints loadable, ``model_card.py`` the descriptions for people and programs, ``migrations.py`` what is done to files of earlier versions, and
``registry.py`` the names of the estimator classes. ``hub.py`` shares models on the Hugging Face hub, ``export.py`` writes them as programs, and
``spikeinterface_export.py`` writes classifiers for SpikeInterface. ``dropout.py`` is a layer of their networks.
"""
