"""SpikeTransformer, the scikit-learn estimator of the spike-train system."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from numbers import Number
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, UInt
from scipy.sparse import issparse
from scipy.special import expit
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted, validate_data

from jaxephys.engine.config import StepDecay, TrainConfig
from jaxephys.engine.fit import FitResult, fit
from jaxephys.engine.grid import RunGrid
from jaxephys.engine.task import PyTree, RunInputs, Task
from jaxephys.models.base import EnsembleEstimator, mean_over_runs
from jaxephys.models.export import ExportProgram
from jaxephys.models.migrations import migration
from jaxephys.models.model_card import ModelDetails
from jaxephys.models.parameters import check_numbers, first_seed, restore_columns, saved_columns
from jaxephys.models.run_template import RunTemplate
from jaxephys.schemas.recording import Recording, as_recording
from jaxephys.spikes.attention import lag_profile
from jaxephys.spikes.attribution import layer_queries_and_keys
from jaxephys.spikes.causality import CausalityReport
from jaxephys.spikes.export import make_program
from jaxephys.spikes.forecaster import WARM_UP, ForecastConfig, Forecaster, ForecastParameters, counts_of_run
from jaxephys.spikes.generation import PAST_BINS, generate
from jaxephys.spikes.model_details import describe_model
from jaxephys.spikes.network import NETWORK_KINDS, NetworkOptions, SpikeNetwork
from jaxephys.spikes.preprocessing import SpikeData, make_data
from jaxephys.spikes.streaming_scores import StreamingCounts, choose_threshold, compute_scores
from jaxephys.spikes.task import LOSS_NAMES, N_ENTRIES, Objective, make_run_inputs, make_task, saved_objective

RecordingLike = Any  # whatever `as_recording` reads
MIXED_KINDS = ("population", "units")  # networks that are mixed with experts and trained on samples of the entries
MIN_BINS = 2  # of an array that is fitted on; the length of a window requires more
# Parameters with options of their own: their class, and the names that stand for the default options of a kind.
OPTION_GROUPS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "network": (NetworkOptions, NETWORK_KINDS),
    "objective": (Objective, LOSS_NAMES),
}
# Options of the engine by name of the optimizer. Adam as published has neither clipping nor warm-up, a rate that falls every fifth epoch,
# and windows in the order of time.
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "adamw": {"learning_rate": 3e-3, "weight_decay": 1e-3, "warmup_steps": 30},
    "published": {
        "optimizer": "adam",
        "learning_rate": 5e-3,
        "weight_decay": 0.0,
        "clip_norm": None,
        "decay": StepDecay(0.9, epochs=5, floor=2.5e-5),
        "shuffle": False,
    },
}


class SpikeTransformer(EnsembleEstimator):
    """Predict the probability of a spike of every unit in the next time bin from all bins up to now.

    The estimator is fitted on one recording, or on several of equally many units. For each recording and seed one network is
    trained, all of them as one compiled program. A recording is a :class:`jaxephys.Recording`, or anything else that
    :func:`jaxephys.schemas.recording.as_recording` reads: an array of zeros and ones of shape (bins, units), a mapping of units to
    spike times in seconds, a SpikeInterface sorting, a pynapple ``TsGroup``, or a path. Of these the first half becomes the training
    split and the last quarters the validation and test split.

    Parameters
    ----------
    network : str or NetworkOptions, default "population"
        Kind of the network, or all of its options (:class:`jaxephys.NetworkOptions`). "population" takes any number of units
        in any order, also of other recordings; "units" has parameters for each unit; "published" is the published layer made
        causal; "legacy" is the published layer as published, which reconstructs the bin that it is shown.
    objective : str or Objective, default "bce"
        Name of the loss ("bce", "focal", "dice", "dice_bce" or "published_dice"), or the loss with its parameters
        (:class:`jaxephys.Objective`).
    adaptive : bool, optional
        Mix the network with plainer experts (running rate, exponential means, a linear model), weighted unit by unit by how
        well each has predicted the recording so far. By default True for "population" and "units" and False for "published" and
        "legacy", for which True is an error.
    length : int, default 512
        Bins of a training window.
    entries_per_window : int or None, default 1024
        (bin, unit) entries of a window that the loss is computed on; None for all, as always for "published" and "legacy", for which
        another number than the default is an error.
    seeds : int, default 1
        Number of networks per recording.
    max_epochs : int, default 8
        Largest number of passes over the training windows.
    patience : int or None, default None
        Stop a network after this number of epochs without a better validation score; None trains for ``max_epochs``.
    batch_size : int, default 8
        Windows of an optimizer step.
    optimizer : {"adamw", "published"}, default "adamw"
        "adamw": AdamW with gradients clipped to a norm of 2, a warm-up of 30 steps, and windows in random order. "published": Adam as
        published, without any of these; the learning rate is multiplied by 0.9 every fifth epoch down to 2.5e-5, and windows follow the
        order of time.
    learning_rate : float, optional
        Learning rate; by default 3e-3 for "adamw" and 5e-3 for "published".
    weight_decay : float, optional
        Weight decay of AdamW, 1e-3 by default. An error for the published optimizer, which has none.
    select_by : str, optional
        Validation score that selects the epoch: "bits_per_spike", "average_precision", "roc_auc", "accuracy" (as published; at the
        threshold of ``thresholds_``), or "last" for the last epoch. By default bits per spike for the loss "bce", and average precision for
        the others, whose outputs are not probabilities before calibration.
    calibration_bins : int, default 20000
        Validation bins that calibrate the logits and determine the threshold.
    random_state : int, RandomState or None, default 0
        The first seed; those of the other networks follow. A ``numpy.random.RandomState`` draws it, and None takes a random one.
    progress : bool, default True
        Show progress bars.

    Attributes
    ----------
    forecaster_ : Forecaster
        The calibrated networks.
    sources_ : list of str
        Name of the recording that each network was trained on.
    thresholds_ : float32 array of shape (networks,)
        Logit from which on a spike is predicted: the best recall minus false positive rate on validation bins, with at most 5
        false positives in 1,000 silent bins.
    causality_ : CausalityReport or None
        Result of the causality test of the first network; None for networks that were loaded from checkpoints.
    units_ : int
        Number of units of the training recordings.
    n_features_in_ : int
        The same, as scikit-learn names it; not there if the networks were not trained by `fit`.
    feature_names_in_ : array of str of shape (units,)
        Names of the columns, if the estimator was fitted on a pandas DataFrame with names.
    first_seed_ : int
        Seed of the first network. Not saved.
    bin_ms_ : float
        Bin width of the training recordings in milliseconds.
    history_ : dict of float arrays of shape (networks, max_epochs)
        Losses and validation scores after each epoch. Not saved.
    result_ : FitResult
        Result of the engine. Not saved.

    See Also
    --------
    jaxephys.load : Load a saved estimator.

    Notes
    -----
    In the terms of scikit-learn, the samples of an array ``X`` are time bins and its features are units; there is no ``y``, since the
    target of a bin is the next bin. Bins are a series: their order matters, and predictions are of one split of them. Folds of a
    search are therefore to be spans of time, such as those of ``sklearn.model_selection.TimeSeriesSplit``.

    Parameters of the network and of the loss can be set by nested names, as ``set_params(network__heads=4,
    objective__gamma=1.0)``, for example in ``sklearn.model_selection.ParameterGrid``.

    Examples
    --------
    >>> import numpy as np
    >>> from jaxephys import NetworkOptions, Objective, SpikeTransformer
    >>> spikes = (np.random.default_rng(0).random((3000, 4)) < 0.05).astype(np.uint8)
    >>> model = SpikeTransformer(
    ...     NetworkOptions(width=8, window=16), length=64, max_epochs=1, calibration_bins=200, progress=False
    ... ).fit(spikes)
    >>> model.predict_proba(spikes).shape  # bins of the test split, units
    (720, 4)
    >>> model.generate(spikes, 100).shape
    (100, 4)
    >>> model.causality_.causal
    True

    Options of network and loss are given together or one at a time:

    >>> model = SpikeTransformer(NetworkOptions("units", width=64), objective=Objective("focal", gamma=1.0))
    >>> model = model.set_params(network__heads=4)
    >>> model.network.heads, model.get_params()["objective__gamma"]
    (4, 1.0)
    """

    def __init__(
        self,
        network: str | NetworkOptions = "population",
        *,
        objective: str | Objective = "bce",
        adaptive: bool | None = None,
        length: int = 512,
        entries_per_window: int | None = N_ENTRIES,
        seeds: int = 1,
        max_epochs: int = 8,
        patience: int | None = None,
        batch_size: int = 8,
        optimizer: str = "adamw",
        learning_rate: float | None = None,
        weight_decay: float | None = None,
        select_by: str | None = None,
        calibration_bins: int = 20_000,
        random_state: Any = 0,
        progress: bool = True,
    ) -> None:
        self.network = network
        self.objective = objective
        self.adaptive = adaptive
        self.length = length
        self.entries_per_window = entries_per_window
        self.seeds = seeds
        self.max_epochs = max_epochs
        self.patience = patience
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.select_by = select_by
        self.calibration_bins = calibration_bins
        self.random_state = random_state
        self.progress = progress

    @property
    def network_options(self) -> NetworkOptions:
        """All options of the network."""
        return _read_options("network", self.network)

    @property
    def loss_options(self) -> Objective:
        """The loss with all of its parameters."""
        return _read_options("objective", self.objective)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters of the estimator.

        Parameters
        ----------
        deep : bool, default True
            Also return the options of network and loss, under nested names such as ``network__heads``, unless network or loss is
            unknown.

        Returns
        -------
        dict
            Values by name.
        """
        params = super().get_params(deep=False)
        if deep:
            for name, (options, known) in OPTION_GROUPS.items():
                value = params[name]
                if isinstance(value, options) or (isinstance(value, str) and value in known):
                    params |= {f"{name}__{key}": option for key, option in asdict(_read_options(name, value)).items()}
        return params

    def set_params(self, **params: Any) -> SpikeTransformer:
        """Set parameters of the estimator.

        Parameters
        ----------
        **params
            Values by name; nested names such as ``network__heads`` replace one option of network or loss.

        Returns
        -------
        SpikeTransformer
            This estimator.
        """
        nested = [f"{name}__{field.name}" for name, (options, _) in OPTION_GROUPS.items() for field in fields(options)]
        known = [*self.get_params(deep=False), *nested]
        for name in params:
            if name not in known:
                raise ValueError(f"parameter {name!r} is unknown: choose one of {', '.join(known)}")
        super().set_params(**{name: value for name, value in params.items() if "__" not in name})
        for name in OPTION_GROUPS:
            prefix = f"{name}__"
            changed = {key.removeprefix(prefix): value for key, value in params.items() if key.startswith(prefix)}
            if changed:
                setattr(self, name, replace(_read_options(name, getattr(self, name)), **changed))
        return self

    def fit(self, X: RecordingLike | Sequence[RecordingLike], y: Any = None) -> SpikeTransformer:
        """Train one network per recording and seed, and calibrate each on its own recording.

        Training bins are trained on; validation bins select the epoch, calibrate the logits and give the threshold. Test bins
        are not used.

        Parameters
        ----------
        X : Recording, array of shape (bins, units), sorting, TsGroup, mapping or path, or list of these
            The training recordings, of equally many units and the same bin width. Arrays and spike times have bins of 1 ms.
        y : ignored
            Present for scikit-learn.

        Returns
        -------
        SpikeTransformer
            This estimator.

        Raises
        ------
        ValueError
            If the recordings differ in their number of units, or a split is shorter than a window.
        """
        self._check_parameters()
        for name in ("n_features_in_", "feature_names_in_"):
            if hasattr(self, name):
                delattr(self, name)
        recordings = [self._as_recording(one, fitting=True) for one in _list_recordings(X)]
        self.n_features_in_ = recordings[0].units
        self.first_seed_ = first_seed(self.random_state, self.seeds)
        seeds = range(self.first_seed_, self.first_seed_ + self.seeds)
        grid = RunGrid.cross(source=range(len(recordings)), seed=seeds)
        sources, objectives = grid.column("source"), [self.loss_options] * len(grid)
        task, data, inputs = self.make_training(recordings, sources, objectives)
        result = fit(task, data, inputs, grid, self.train_config(), title=self._progress_title)
        return self.keep_runs(result, recordings, sources)

    def make_training(
        self,
        recordings: Sequence[Recording],
        sources: Sequence[int],
        objectives: Sequence[Objective],
        network: SpikeNetwork | None = None,
    ) -> tuple[Task, SpikeData, RunInputs]:
        """Make what :func:`jaxephys.engine.fit.fit` needs to train a network once per run.

        `fit` calls this; an experiment that trains a larger grid calls it by itself.

        Parameters
        ----------
        recordings : sequence of Recording
            The training recordings, of equally many units.
        sources : sequence of int
            For each run the index of its recording.
        objectives : sequence of Objective
            For each run its loss.
        network : SpikeNetwork, optional
            A network to train in place of that of this estimator.

        Returns
        -------
        task : Task
            Functions of one run.
        data : SpikeData
            The recordings as arrays.
        inputs : RunInputs
            Windows and constants of the runs.
        """
        n_units, bin_ms = recordings[0].units, recordings[0].bin_ms
        network = self.network_options.build(n_units, bin_ms) if network is None else network
        data = make_data(recordings, network.filters, self.length)
        task = make_task(network, n_units, objectives, self.length, self.entries_per_window)
        whole = self.train_config().shuffle  # in the order of time, every window comes once
        options = {"batch_size": self.batch_size, "whole_batches": whole}
        return task, data, make_run_inputs(recordings, sources, objectives, self.length, **options)

    def train_config(self) -> TrainConfig:
        """Return the engine's settings for this estimator.

        Returns
        -------
        TrainConfig
            Settings of training.

        Raises
        ------
        ValueError
            If the optimizer is unknown, or has no weight decay and one is given.
        """
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"optimizer {self.optimizer!r} is unknown: choose one of {', '.join(OPTIMIZERS)}")
        options: dict[str, Any] = {
            "monitor": "bits_per_spike" if self.loss_options.loss == "bce" else "average_precision"
        }
        options |= OPTIMIZERS[self.optimizer]
        given = {"learning_rate": self.learning_rate, "weight_decay": self.weight_decay, "monitor": self.select_by}
        options |= {name: value for name, value in given.items() if value is not None}
        if self.select_by == "last":  # every epoch counts as better than the one before
            options |= {"monitor": "loss", "min_delta": -math.inf}
        return TrainConfig(self.max_epochs, self.patience, batch_size=self.batch_size, chunk_epochs=1, **options)

    def keep_runs(
        self,
        result: FitResult,
        recordings: Sequence[Recording],
        sources: Sequence[int],
        indices: Int[np.ndarray, "run"] | None = None,
    ) -> SpikeTransformer:
        """Keep runs of a trained grid as the networks of this estimator: test, calibrate and store them.

        `fit` calls this; an experiment that has trained a larger grid calls it by itself.

        Parameters
        ----------
        result : FitResult
            The trained grid.
        recordings : sequence of Recording
            The training recordings.
        sources : sequence of int
            For each run of the grid the index of its recording.
        indices : int array of shape (networks,), optional
            Runs to keep; by default all.

        Returns
        -------
        SpikeTransformer
            This estimator, fitted.

        Raises
        ------
        ValueError
            If the network should be causal and is not.
        """
        kept_sources = [sources[run] for run in self._store_runs(result, indices)]
        self.sources_ = [recordings[source].name for source in kept_sources]
        self.units_, self.bin_ms_ = recordings[0].units, recordings[0].bin_ms
        self._calibrate(recordings, kept_sources)
        return self

    def run_template(
        self, recordings: Sequence[Recording], sources: Sequence[int], objectives: Sequence[Objective]
    ) -> RunTemplate:
        """Return what the checkpoints of a grid must hold, so that :func:`jaxephys.load` makes an estimator of any of its runs.

        Parameters
        ----------
        recordings : sequence of Recording
            The training recordings.
        sources : sequence of int
            For each run the index of its recording.
        objectives : sequence of Objective
            For each run its loss.

        Returns
        -------
        RunTemplate
            Units, bin width, and the recording and the loss of each run.
        """
        names = [recording.name for recording in recordings]
        settings = {"sources": names, "units": recordings[0].units, "bin_ms": recordings[0].bin_ms, "leak": None}
        parameters = [{"objective": asdict(objective)} for objective in objectives]
        return RunTemplate(self._config(settings), {"source": np.asarray(sources, np.int32)}, parameters)

    def calibrate(self, X: RecordingLike | Sequence[RecordingLike]) -> SpikeTransformer:
        """Calibrate the logits, fit the linear expert, choose the thresholds and test for causality, as `fit` does after training.

        An estimator that was loaded from checkpoints needs this: its probabilities are those of the networks as trained, and it has
        no thresholds.

        Parameters
        ----------
        X : Recording, array of shape (bins, units), sorting, TsGroup, mapping or path, or list of these
            The training recordings, found by name. Validation bins calibrate, training bins fit the linear expert.

        Returns
        -------
        SpikeTransformer
            This estimator.

        Raises
        ------
        ValueError
            If a training recording is missing.
        """
        check_is_fitted(self)
        recordings = [self._as_recording(one) for one in _list_recordings(X)]
        names = [recording.name for recording in recordings]
        if missing := sorted(set(self.sources_) - set(names)):
            raise ValueError(
                f"the recording {missing[0]} is missing: give all recordings that the networks were trained on"
            )
        self._calibrate(recordings, [names.index(source) for source in self.sources_])
        return self

    def predict_proba(
        self, X: RecordingLike, split: str = "test", *, per_network: bool = False
    ) -> Float[np.ndarray, "*run time unit"]:
        """Predict the probability of a spike in every bin of a split, from the bins before it.

        Up to 10,000 bins before the split are read first.

        Parameters
        ----------
        X : Recording, array of shape (bins, units), sorting, TsGroup, mapping or path
            A recording; for networks other than "population" it must have the units that were trained on.
        split : {"train", "validation", "test"}, default "test"
            Bins to predict.
        per_network : bool, default False
            Return the predictions of each network rather than their mean.

        Returns
        -------
        float32 array of shape (bins, units) or (networks, bins, units)
            Probabilities; row i belongs to bin i of the split.
        """
        recording = self._check_recording(X)
        probabilities = expit(self.forecaster_.compute_logits(recording, *recording.span(split)))
        return mean_over_runs(probabilities, per_network)

    def count_outcomes(self, X: RecordingLike, split: str = "test") -> StreamingCounts:
        """Count predictions and outcomes on a split, from which all scores follow.

        Parameters
        ----------
        X : Recording, array of shape (bins, units), sorting, TsGroup, mapping or path
            A recording; up to 10,000 bins before the split are read first.
        split : {"train", "validation", "test"}, default "test"
            Bins to score.

        Returns
        -------
        StreamingCounts
            With a leading axis over networks. :func:`jaxephys.spikes.streaming_scores.bootstrap` computes intervals from it.
        """
        recording = self._check_recording(X)
        return self.forecaster_.count_outcomes(recording, recording.span(split))

    def score_table(self, X: RecordingLike, split: str = "test") -> list[dict[str, Any]]:
        """Compute every score on a split.

        Parameters
        ----------
        X : Recording, array of shape (bins, units), sorting, TsGroup, mapping or path
            A recording.
        split : {"train", "validation", "test"}, default "test"
            Bins to score.

        Returns
        -------
        list of dict
            One row per network: ``network``, ``train_on``, ``test_on``, and the scores that
            :func:`jaxephys.spikes.streaming_scores.compute_scores` describes. ``pandas.DataFrame`` takes it.
        """
        recording = self._check_recording(X)
        counts = self.count_outcomes(recording, split)
        start, stop = recording.span("train")
        rate = recording.counts("train") / (stop - start)
        return [
            {"network": run, "train_on": source, "test_on": recording.name}
            | compute_scores(counts_of_run(counts, run), rate, float(threshold))
            for run, (source, threshold) in enumerate(zip(self.sources_, self.thresholds_, strict=True))
        ]

    def score(self, X: RecordingLike, y: Any = None) -> float:
        """Compute the bits per spike gained over each unit's mean rate on the test bins, averaged over networks.

        Parameters
        ----------
        X : Recording, array of shape (bins, units), sorting, TsGroup, mapping or path
            A recording.
        y : ignored
            Present for scikit-learn.

        Returns
        -------
        float
            Bits per spike; higher is better, and 0 is a constant rate.
        """
        return float(np.mean([row["bits_per_spike"] for row in self.score_table(X)]))

    def transfer_grid(self, X: Sequence[RecordingLike]) -> dict[str, Float[np.ndarray, "recording others"]]:
        """Score the networks of every training recording on the test bins of several recordings.

        Parameters
        ----------
        X : sequence of Recording or array of shape (bins, units)
            Recordings to test on.

        Returns
        -------
        dict of str to float array of shape (training recordings, test recordings)
            By score, the mean over seeds. Rows are in the order of training.
        """
        sources = list(dict.fromkeys(self.sources_))
        columns = [self.score_table(recording) for recording in X]
        grid = {}
        for metric in [name for name in columns[0][0] if name not in ("network", "train_on", "test_on")]:
            values = [
                [[row[metric] for row in rows if row["train_on"] == name] for rows in columns] for name in sources
            ]
            grid[metric] = np.mean(values, axis=-1)
        return grid

    def generate(
        self, X: RecordingLike, n_bins: int, *, seed: int = 0, network: int = 0, bounded: bool = True
    ) -> UInt[np.ndarray, "time unit"]:
        """Generate spikes that continue a recording from the end of its validation split, each bin drawn from the forecast.

        Parameters
        ----------
        X : Recording, array of shape (bins, units), sorting, TsGroup, mapping or path
            A recording; up to 30,000 bins before the test split are read first.
        n_bins : int
            Bins to generate.
        seed : int, default 0
            Seed of the draws.
        network : int, default 0
            Index of the network.
        bounded : bool, default True
            Clip what the network reads to the range that the bins before have shown, and keep the running rates. Without it,
            units may fall silent for good.

        Returns
        -------
        uint8 array of shape (n_bins, units)
            Zeros and ones.

        Raises
        ------
        ValueError
            If the network is a reconstruction.
        """
        recording = self._check_recording(X)
        start = recording.span("test")[0]
        past = recording.bits(max(start - PAST_BINS, 0), start) if start else recording.bits(0, 1)
        return generate(self.forecaster_, past, n_bins, seed, run=network, bounded=bounded)

    def attention(
        self, X: RecordingLike, split: str = "test", *, network: int = 0
    ) -> Float[np.ndarray, "layer head lag"]:
        """Compute the mean attention weight as a function of the lag between two bins.

        Parameters
        ----------
        X : Recording, array of shape (bins, units), sorting, TsGroup, mapping or path
            A recording.
        split : {"train", "validation", "test"}, default "test"
            Windows of ``length`` bins from the first 10,000 bins of this split are averaged, each without a past.
        network : int, default 0
            Index of the network.

        Returns
        -------
        float32 array of shape (layers, heads, lags)
            Mean weight that a bin gives to the bin ``lag`` before it; lag 0 is the bin itself.

        Raises
        ------
        ValueError
            If the network is a reconstruction, or the split is shorter than a window.
        """
        recording, module = self._check_recording(X), self.forecaster_.config.network
        start, stop = recording.span(split)
        bins = recording.bits(start, min(stop, start + WARM_UP))
        windows = bins[: len(bins) // self.length * self.length].reshape(-1, self.length, recording.units)
        if module.is_reconstruction or not len(windows):
            raise ValueError(
                f"a profile over lags needs a causal network and a window of {self.length} bins, but the network is "
                f"{self.network_options.kind!r} and there are {len(bins)} bins"
            )
        variables = jax.tree.map(lambda leaf: leaf[network], self.forecaster_.parameters.variables)

        def profile(spikes: Array) -> Array:
            layers = layer_queries_and_keys(module, variables, spikes)
            return jnp.stack([lag_profile(query, key, module.window) for query, key in layers])

        profiles = jax.jit(lambda some: lax.map(profile, some))(jnp.asarray(windows, jnp.float32))
        return np.asarray(profiles.mean(axis=0))

    def _calibrate(self, recordings: Sequence[Recording], sources: Sequence[int]) -> None:
        """Set the attributes that follow from the variables and the recording of each network."""
        network = self.network_options.build(self.units_, self.bin_ms_)
        forecaster = Forecaster.from_variables(
            network, self.variables_, adaptive=self._mixes_experts, length=self.length
        )
        self.causality_ = forecaster.check_causality(recordings[sources[0]])
        n_bins = self.calibration_bins
        self.forecaster_ = forecaster.calibrate(recordings, sources, n_bins=n_bins, progress=self.progress)
        counts = self.forecaster_.count_validation(recordings, sources, n_bins=n_bins)
        self.thresholds_ = np.array([choose_threshold(run_counts) for run_counts in counts], np.float32)

    @property
    def _mixes_experts(self) -> bool:
        return self.network_options.kind in MIXED_KINDS if self.adaptive is None else bool(self.adaptive)

    def _check_parameters(self) -> None:
        """Raise an error if a parameter is impossible or would have no effect. Network and loss check their own options."""
        check_numbers(self, length=1, seeds=1, max_epochs=1, batch_size=1, calibration_bins=1)
        optional = {"patience": 1, "entries_per_window": 1, "learning_rate": 0.0, "weight_decay": 0.0}
        check_numbers(self, **{name: least for name, least in optional.items() if getattr(self, name) is not None})
        if (kind := self.network_options.kind) in MIXED_KINDS:
            return
        if self.adaptive:
            raise ValueError(
                f"adaptive is {self.adaptive}, but the network {kind!r} is not mixed with experts: leave it out"
            )
        if self.entries_per_window not in (None, N_ENTRIES):
            raise ValueError(
                f"entries_per_window is {self.entries_per_window}, but the loss of the network {kind!r} is computed on all entries: "
                "leave it out"
            )

    def _as_recording(self, X: RecordingLike, bin_ms: float = 1.0, *, fitting: bool = False) -> Recording:
        """Return a recording. Arrays are checked as in scikit-learn before they are read."""
        names = getattr(X, "columns", None)
        if names is None and not (isinstance(X, list | tuple) or hasattr(X, "__array__") or issparse(X)):
            return as_recording(X, bin_ms=bin_ms)
        unit_id = None if names is None else [str(name) for name in names]
        return Recording.from_array(self._check_spikes(X, fitting), bin_ms=bin_ms, unit_id=unit_id)

    def _check_spikes(self, X: RecordingLike, fitting: bool) -> np.ndarray:
        """Return an array of bins x units. ``fit`` remembers its columns; later ones are compared, unless any unit is allowed."""
        options: Any = {"dtype": "numeric", "ensure_min_samples": MIN_BINS if fitting else 1}
        values: Any = X
        if fitting or self.network_options.kind != "population":
            values = validate_data(self, values, reset=fitting and not hasattr(self, "n_features_in_"), **options)
        else:
            values = check_array(values, input_name="X", estimator=self, **options)
        return values

    def _check_recording(self, X: RecordingLike) -> Recording:
        """Return a recording that the fitted networks can be applied to."""
        check_is_fitted(self)
        recording = self._as_recording(X, self.bin_ms_)
        if recording.bin_ms != self.bin_ms_:
            raise ValueError(
                f"{recording.name} has bins of {recording.bin_ms:g} ms, but the networks were trained on bins of "
                f"{self.bin_ms_:g} ms: use bins of the same width"
            )
        kind = self.network_options.kind
        if kind != "population" and recording.units != self.units_:
            raise ValueError(
                f"{recording.name} has {recording.units} units, but a {kind!r} network takes the {self.units_} units that it "
                'was trained on: give those, or train network="population", which takes any'
            )
        return recording

    def _encoded_parameters(self) -> dict[str, Any]:
        parameters = self.get_params(deep=False)
        if isinstance(self.random_state, np.random.RandomState):
            parameters["random_state"] = self.first_seed_
        return {
            name: asdict(value) if isinstance(value, NetworkOptions | Objective) else value
            for name, value in parameters.items()
        }

    @classmethod
    def _decoded_parameters(cls, parameters: dict[str, Any]) -> dict[str, Any]:
        groups = {"network": _saved_network, "objective": saved_objective}
        decoded = {
            name: groups[name](**value) if isinstance(value, dict) else value for name, value in parameters.items()
        }
        kind = _read_options("network", decoded["network"]).kind
        if kind not in MIXED_KINDS:  # earlier versions saved options without effect
            decoded |= {"adaptive": None} if decoded.get("adaptive") else {}
            decoded |= {"entries_per_window": N_ENTRIES} if decoded.get("entries_per_window") is not None else {}
        return decoded

    def _saved_arrays(self) -> dict[str, PyTree]:
        variables, scale, shift, linear_weights = self.forecaster_.parameters
        return {**variables, "scale": scale, "shift": shift, "line": linear_weights, "thresholds": self.thresholds_}

    def _saved_settings(self) -> dict[str, Any]:
        causality = None if self.causality_ is None else list(self.causality_)
        settings = {"sources": self.sources_, "units": self.units_, "bin_ms": self.bin_ms_, "leak": causality}
        return {**settings, **saved_columns(self)}

    def _restore(self, arrays: dict[str, PyTree], config: dict[str, Any]) -> None:
        self.sources_, self.units_, self.bin_ms_ = config["sources"], config["units"], config["bin_ms"]
        restore_columns(self, config)
        if "source" in arrays:  # runs that are read from checkpoints
            self.sources_ = [self.sources_[source] for source in arrays.pop("source")]
            self._restore_uncalibrated(arrays)
            return
        self.causality_ = None
        if config["leak"] is not None:
            output_change, future_gradient, reach, tested_bins = config["leak"]
            self.causality_ = CausalityReport(output_change, future_gradient, reach, tuple(tested_bins))
        self.thresholds_ = arrays.pop("thresholds")
        scale, shift, linear_weights = (arrays.pop(name) for name in ("scale", "shift", "line"))
        self.variables_ = arrays
        network = self.network_options.build(self.units_, self.bin_ms_)
        forecast_config = ForecastConfig(network, self._mixes_experts, self.length)
        self.forecaster_ = Forecaster(forecast_config, ForecastParameters(arrays, scale, shift, linear_weights))

    def _restore_uncalibrated(self, variables: dict[str, PyTree]) -> None:
        self.variables_, self.causality_ = variables, None
        network = self.network_options.build(self.units_, self.bin_ms_)
        self.forecaster_ = Forecaster.from_variables(
            network, variables, adaptive=self._mixes_experts, length=self.length
        )
        self.thresholds_ = np.full(self.n_networks_, np.nan, np.float32)

    def export_program(self) -> ExportProgram:
        """Return the computation of the fitted networks as one function, which `jaxephys.models.export.export_model` writes.

        Returns
        -------
        ExportProgram
            The function of `jaxephys.spikes.export.make_program`, its inputs and its outputs.
        """
        check_is_fitted(self)
        return make_program(self)

    def _card_details(self) -> ModelDetails:
        return describe_model(self)

    def _summary(self) -> str:
        kind = self.network_options.kind
        target = "the bin that it is shown (a reconstruction)" if kind == "legacy" else "the next bin"
        return (
            f"{kind}, predicts {target}, trained on {', '.join(dict.fromkeys(self.sources_))} "
            f"({self.units_} units, bins of {self.bin_ms_:g} ms); {self.causality_ or 'not calibrated'}"
        )


@migration("SpikeTransformer", from_version=0)
def group_parameters(config: dict[str, Any], arrays: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Migrate a model of version 0.1.0, whose parameters were not grouped into network and objective.

    Parameters
    ----------
    config : dict
        Content of ``config.json``.
    arrays : dict
        Arrays of the model.

    Returns
    -------
    config, arrays : dict
        The same model in the layout of schema version 1.
    """
    parameters = dict(config["parameters"])
    network = {"kind": parameters.pop("network")}
    network |= {name: parameters.pop(name) for name in ("width", "depth", "heads", "window", "dropout")}
    objective = {name: parameters.pop(name) for name in ("loss", "gamma", "alpha")}
    parameters |= {"network": network, "objective": objective, "entries_per_window": parameters.pop("cells")}
    return {**config, "parameters": parameters}, arrays


def _read_options(name: str, value: Any) -> Any:
    """Return the options of the network or of the loss, of which the name may have been given."""
    options, known = OPTION_GROUPS[name]
    if isinstance(value, options):
        return value
    if not isinstance(value, str):
        raise ValueError(f"{name} is {value!r}: give one of {', '.join(known)}, or {options.__name__}(...)")
    return options(value)


def _list_recordings(X: RecordingLike | Sequence[RecordingLike]) -> Sequence[RecordingLike]:
    """Return recordings as a list. A list of lists of numbers is one array."""
    first: Any = next(iter(X), None) if isinstance(X, list | tuple) else None
    several = first is not None and not isinstance(first, list | tuple | Number | np.number)
    return X if several and getattr(first, "ndim", 2) > 1 else [X]


def _saved_network(kind: str, **options: Any) -> NetworkOptions:
    """Return saved options. Earlier versions saved values of all options for the published layer, which had its published sizes."""
    if kind in ("published", "legacy") and options.get("width") is not None:
        options = {"dropout": options["dropout"]}
    return NetworkOptions(kind, **options)
