"""A stand-in for training and prediction of networks: the nearest class mean, in NumPy.

Every shape of a table is another program to compile, for about ten seconds. With class means a test of what ``PatchSeqClassifier``
does around its networks takes milliseconds: checks of its input, labels, splits, scales, weights, calibration, saving.
"""

import jax
import numpy as np
import pytest
from scipy.special import softmax

from jaxephys.engine.fit import FitResult
from jaxephys.engine.run_log import RunResult
from jaxephys.engine.task import Status
from jaxephys.patchseq import estimator
from jaxephys.patchseq.preprocessing import apply_scale
from jaxephys.patchseq.task import Prediction


class ClassMeans:
    """What ``estimator.fit`` and ``estimator.predict`` are replaced by. ``received`` holds the arguments of the last training."""

    def fit(self, task, data, inputs, grid, config, title=None) -> FitResult:
        self.received = task, inputs, grid, config
        n_runs, means = len(grid), []
        for run in range(n_runs):
            rows, scale = (
                jax.tree.map(lambda leaf, i=run: leaf[i], some) for some in (inputs.train, inputs.constants.scale)
            )
            weight = rows.weight[:, None] * np.eye(inputs.constants.class_weight.shape[-1])[data.label[rows.index]]
            scaled = apply_scale(data.packed[rows.index], scale)
            means.append((weight.T @ scaled / np.maximum(weight.sum(axis=0), 1e-9)[:, None]).astype(np.float32))
        count = np.ones(n_runs, np.int32)
        best = {"params": {"means": np.stack(means)}}
        results = RunResult(best, count.astype(np.float32), count, count, np.full(n_runs, int(Status.FINISHED)))
        return FitResult(grid, results, {}, "class means", 0.0, 0.0)

    def predict(self, task, data, variables, rows, constants) -> Prediction:
        probability, embedding = [], []
        for run, means in enumerate(variables["params"]["means"]):
            scaled = apply_scale(
                data.packed[rows.index[run]], jax.tree.map(lambda leaf, i=run: leaf[i], constants.scale)
            )
            probability.append(softmax(-((scaled[:, None] - means) ** 2).sum(axis=-1), axis=1))
            embedding.append(scaled)
        stacked = np.stack(embedding).astype(np.float32)
        return Prediction(
            np.stack(probability).astype(np.float32), np.ones((*stacked.shape[:2], 1), np.float32), stacked
        )


@pytest.fixture
def class_means(monkeypatch) -> ClassMeans:
    """Let every ``PatchSeqClassifier`` of a test consist of class means."""
    means = ClassMeans()
    monkeypatch.setattr(estimator, "fit", means.fit)
    monkeypatch.setattr(estimator, "predict", means.predict)
    return means
