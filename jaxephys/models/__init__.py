"""Parts that the estimators of all systems share: the base class, the format of saved models, and its migrations.

``base.py`` holds the base class, ``saved_model.py`` the files and :func:`jaxephys.load`, ``migrations.py`` what is done to files of
earlier versions, and ``registry.py`` the names of the estimator classes.
"""
