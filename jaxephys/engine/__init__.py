"""The engine: it trains the runs of a grid side by side and knows no model and no data set.

A model is given to the engine as a :class:`~jaxephys.engine.task.Task`, a set of pure functions of one run. Start reading at
:func:`jaxephys.engine.fit.fit`; ``step.py`` is the training of one run, ``run_stack.py`` the stack of runs on the devices.
"""
