"""The scikit-learn opponents, trained and tested on the same rows as our runs.

Their settings are fixed here, once, for all experiments: nobody tunes an opponent on test rows, nor forgets to.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from jaxephys.evaluation.discriminant import ShrinkageLDA


def make_baseline(name: str, seed: int) -> Pipeline:
    """A fresh opponent. All fill what is missing, and scale, by the rows they are fitted on: median, then mean and sd."""
    makers = {
        "logistic": lambda: LogisticRegression(C=0.3, max_iter=2000),
        "lda": ShrinkageLDA,
        "svm": lambda: SVC(C=4.0, break_ties=True, random_state=seed),
        "forest": lambda: RandomForestClassifier(
            600, min_samples_leaf=2, class_weight="balanced_subsample", random_state=seed, n_jobs=-1
        ),
        "boosting": lambda: HistGradientBoostingClassifier(max_iter=200, learning_rate=0.08, random_state=seed),
    }
    if name not in makers:
        raise ValueError(f"unknown baseline {name!r}: choose one of {', '.join(makers)}")
    fill = SimpleImputer(strategy="median", keep_empty_features=True)
    return make_pipeline(fill, StandardScaler(), makers[name]())


def baseline_scores_of(
    name: str,
    values: Float[np.ndarray, "row column"],
    codes: Int[np.ndarray, "row"],
    train: Int[np.ndarray, "some"],
    test: Int[np.ndarray, "others"],
    seed: int,
    classes: int,
) -> Float[np.ndarray, "others class"]:
    """What a fresh opponent says of the test rows."""
    return probability_of(make_baseline(name, seed), values, codes, train, test, classes)


def probability_of(
    model: Pipeline,
    values: Float[np.ndarray, "row column"],
    codes: Int[np.ndarray, "row"],
    train: Int[np.ndarray, "some"],
    test: Int[np.ndarray, "others"],
    classes: int,
) -> Float[np.ndarray, "others class"]:
    """Class probabilities on the test rows of a pipeline fitted here; a class absent from training has probability 0.

    An SVM has none of its own: the softmax of its decision values stands in, whose argmax is its prediction.
    """
    model = model.fit(values[train], codes[train])
    if not isinstance(model[-1], SVC):
        own = model.predict_proba(values[test])
    else:
        decision = model.decision_function(values[test])
        decision = np.stack([-decision, decision], axis=1) if decision.ndim == 1 else decision
        own = np.exp(decision - decision.max(axis=1, keepdims=True))
        own = own / own.sum(axis=1, keepdims=True)
    probability = np.zeros((len(test), classes), np.float32)
    probability[:, model.classes_.astype(int)] = own
    return probability
