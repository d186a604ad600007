"""Tables and figures of the experiments on spikes, one module per kind of experiment; start with ``transfer``."""
