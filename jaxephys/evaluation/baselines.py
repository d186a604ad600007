"""Baselines: scikit-learn classifiers that are trained and tested on the same rows as our models.

`make_baseline` returns one of five pipelines with fixed settings. The settings are the same in all experiments and were never chosen
on test rows. `fit_predict_proba` trains any pipeline on some rows and returns probabilities for others.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from scipy.special import softmax
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from jaxephys.evaluation.discriminant import ShrinkageLDA


def make_baseline(name: str, seed: int) -> Pipeline:
    """Return an unfitted baseline classifier.

    All baselines replace missing values by the median of the training rows and scale features to mean 0 and standard deviation 1.

    Parameters
    ----------
    name : {"logistic", "lda", "svm", "forest", "boosting"}
        Logistic regression, linear discriminant analysis with Ledoit-Wolf shrinkage, support vector machine with a Gaussian
        kernel, random forest of 600 trees, or histogram gradient boosting.
    seed : int
        Seed of the random numbers of the model.

    Returns
    -------
    Pipeline
        A scikit-learn pipeline of imputer, scaler and classifier.

    Raises
    ------
    ValueError
        If there is no baseline of this name.

    Examples
    --------
    >>> import numpy as np
    >>> X, y = np.array([[0.0], [1.0], [4.0], [5.0]]), np.array(["a", "a", "b", "b"])
    >>> make_baseline("lda", seed=0).fit(X, y).predict(np.array([[4.5]])).tolist()
    ['b']
    """
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
    imputer = SimpleImputer(strategy="median", keep_empty_features=True)
    return make_pipeline(imputer, StandardScaler(), makers[name]())


def fit_predict_proba(
    model: Pipeline,
    values: Float[np.ndarray, "row column"],
    codes: Int[np.ndarray, "row"],
    train: Int[np.ndarray, "some"],
    test: Int[np.ndarray, "others"],
    n_classes: int,
) -> Float[np.ndarray, "others class"]:
    """Fit a classifier to some rows of a table and return its class probabilities for others.

    Parameters
    ----------
    model : Pipeline
        Classifier; it is fitted in place.
    values : array, shape (n_rows, n_columns)
        Features of all rows.
    codes : array of int, shape (n_rows,)
        Class of all rows, from 0 to ``n_classes - 1``.
    train, test : array of int
        Indices of the training rows and of the rows to predict.
    n_classes : int
        Number of classes. A class without a training row has probability 0.

    Returns
    -------
    array of float32, shape (n_test, n_classes)
        Class probabilities. For a support vector machine, which has none, they are the softmax of its decision values; their
        argmax is its prediction.
    """
    model = model.fit(values[train], codes[train])
    if not isinstance(model[-1], SVC):
        fitted = model.predict_proba(values[test])
    else:
        decision = model.decision_function(values[test])
        decision = np.stack([-decision, decision], axis=1) if decision.ndim == 1 else decision
        fitted = softmax(decision, axis=1)
    probability = np.zeros((len(test), n_classes), np.float32)
    probability[:, model.classes_.astype(int)] = fitted
    return probability
