"""Hippie: the estimator of the HIPPIE system. `jaxephys.hippie.inference` has the methods of the fitted estimator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int, Shaped
from sklearn.utils.validation import check_is_fitted

from jaxephys.engine.checkpoint import CheckpointError
from jaxephys.engine.config import TrainConfig
from jaxephys.engine.fit import FitResult, fit
from jaxephys.engine.grid import RunGrid
from jaxephys.engine.predict import score
from jaxephys.engine.rows import plain_rows, stack_rows
from jaxephys.engine.task import PyTree
from jaxephys.evaluation.splits import Split, hold_out_validation
from jaxephys.hippie import published_api
from jaxephys.hippie.class_table import with_class_table
from jaxephys.hippie.datasets import TextArray, UnitsLike, combined_unit_names, encode_labels
from jaxephys.hippie.export import make_program
from jaxephys.hippie.imputation import measure_noise
from jaxephys.hippie.inference import SAMPLES, HippieInference
from jaxephys.hippie.model_details import describe_model
from jaxephys.hippie.network.cvae import LENGTHS, TRUNKS, ConditionalVAE, network_config, network_from_config
from jaxephys.hippie.network.published_layout import from_published
from jaxephys.hippie.preprocessing import ORDERS, Preparation
from jaxephys.hippie.safe_unpickler import read_state_dict
from jaxephys.hippie.task import (
    OBJECTIVES,
    Objective,
    UnitArrays,
    even_batch_size,
    initial_from_runs,
    make_constants,
    make_data,
    make_run_inputs,
    make_task,
    objective_from_dict,
    pad_units,
    warm_up_steps,
)
from jaxephys.hippie.torch_checkpoint import convert_state_dict
from jaxephys.models.base import EnsembleEstimator, score_row
from jaxephys.models.export import ExportProgram
from jaxephys.models.migrations import migration
from jaxephys.models.model_card import ModelDetails
from jaxephys.models.parameters import check_choice, check_numbers, first_seed, restore_columns, saved_columns
from jaxephys.models.run_template import RunTemplate
from jaxephys.schemas.unit_table import TECHNOLOGIES

MIN_UNITS = 8
ClassNames = Shaped[np.ndarray, "_"]
CONTRAST = 10.0  # default weight of the contrastive loss


class Hippie(HippieInference, EnsembleEstimator):
    """Embed sorted units by their waveform, inter-spike intervals and autocorrelogram, and impute missing curves.

    A conditional variational autoencoder with one encoder and one decoder per curve and one joint latent vector per unit. Any of the
    three curves may be missing for any unit, in training and afterwards. The recording technology is a condition of encoder and
    decoder.

    Parameters
    ----------
    latent : int, default 30
        Number of dimensions of the embedding.
    width : int, default 16
        Channels of the first layer of a ResNet; a dense trunk has eight times as many hidden units. 64 is published, for tens of
        thousands of units; 16 suffices for thousands.
    modalities : sequence of {"wave", "isi", "acg"}, default all three
        Curves that are encoded and decoded.
    trunk : {"resnet", "dense"}, default "resnet"
        Type of encoders and decoders. The published ResNets take about a minute to compile; "dense" compiles in seconds and suits data
        sets of a few hundred units.
    objective : {"ours", "published", "generative"} or Objective, default "ours"
        What is minimized, see `jaxephys.hippie.task.Objective`. Under "published" the latent collapses; it is there for comparison.
    contrast : float, default 10.0
        Weight of the supervised contrastive loss, used only if ``fit`` receives labels: how strongly units of one class attract each
        other in the embedding.
    seeds : int, default 1
        Number of networks, each with its own validation units and initial weights.
    max_epochs : int, default 200
        Largest number of passes over the training units.
    patience : int or None, default 40
        Stop a network after this number of epochs without a lower validation loss; None: never.
    batch_size : int, default 64
        Approximate number of units per step; it is adjusted so that the last batch of an epoch is not small.
    learning_rate : float, default 1e-3
        Learning rate of AdamW.
    weight_decay : float, default 0.01
        Weight decay of AdamW.
    validation : float, default 0.1
        Share of the units that select the best epoch and measure the error of imputed curves.
    random_state : int, RandomState or None, default 0
        Seed of the first network; the others follow. A ``numpy.random.RandomState`` draws the seed, and None takes a random one.
    progress : bool, default True
        Show a progress bar during training.

    Attributes
    ----------
    history_ : dict of arrays (seeds, max_epochs)
        Training loss and validation scores after each epoch; NaN after the last one. Not saved.
    trained_on_ : array of str
        Names of all units of training and validation, including those of the ``initial`` model.
    noise_ : dict of arrays (seeds, n_subsets, length)
        By modality, the variance of measured curves about imputed ones beyond that of the latent, for each subset of given
        modalities.
    classes_ : array (n_classes,)
        Classes that the decoder receives, in the order of its table and of the type of the labels; empty if it receives none, or if they
        are unknown, as in a published checkpoint.
    first_seed_ : int
        Seed of the first network. Not saved.
    n_features_in_ : int
        Number of columns of the array that the estimator was fitted on; not there if it was fitted on a table.
    feature_names_in_ : array of str
        Names of its columns, if it was a pandas DataFrame with names.
    network_ : ConditionalVAE
        The architecture.
    preparation_ : Preparation
        Settings of the preprocessing.
    variables_ : dict
        Variables of the networks, with a leading axis of length ``seeds``.
    result_ : FitResult
        Result of the engine. Not saved.

    See Also
    --------
    jaxephys.load : Load a saved model.
    jaxephys.hippie.probes : Classifiers of cell types on an embedding.

    Examples
    --------
    >>> import numpy as np
    >>> from jaxephys import Hippie
    >>> from jaxephys.hippie.synthetic import make_synthetic_units
    >>> units = make_synthetic_units(60)
    >>> model = Hippie(4, width=2, trunk="dense", seeds=2, max_epochs=2, progress=False).fit(units)
    >>> model.embed(units).shape  # in the latent space of the first network
    (60, 4)
    >>> mean, sd = model.impute(units, "acg")  # from waveform and intervals
    >>> mean.shape, sd.shape
    ((60, 100), (60, 100))
    >>> model.counterfactual(units, "silicon_probe")["wave"].shape
    (60, 50)
    >>> model.history_["valid_loss"].shape
    (2, 2)
    >>> model.describe()
    '2 networks of 15,924 parameters, latent 4, curves wave 50, isi 100, acg 100, trained on 60 units'

    As a transformer of scikit-learn, on a table or on an array of 250 columns (waveform 50, ISI 100, ACG 100):

    >>> X = np.concatenate(list(units.raw.values()), axis=1)
    >>> model.fit_transform(X).shape, model.n_features_in_, model.get_feature_names_out().tolist()
    ((60, 4), 250, ['hippie0', 'hippie1', 'hippie2', 'hippie3'])
    """

    def __init__(
        self,
        latent: int = 30,
        *,
        width: int = 16,
        modalities: Sequence[str] = tuple(LENGTHS),
        trunk: str = "resnet",
        objective: str | Objective = "ours",
        contrast: float = CONTRAST,
        seeds: int = 1,
        max_epochs: int = 200,
        patience: int | None = 40,
        batch_size: int = 64,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.01,
        validation: float = 0.1,
        random_state: Any = 0,
        progress: bool = True,
    ) -> None:
        self.latent = latent
        self.width = width
        self.modalities = modalities
        self.trunk = trunk
        self.objective = objective
        self.contrast = contrast
        self.seeds = seeds
        self.max_epochs = max_epochs
        self.patience = patience
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.validation = validation
        self.random_state = random_state
        self.progress = progress

    def fit(
        self,
        units: UnitsLike,
        y: Any = None,
        *,
        technology: str | None = None,
        initial: Hippie | None = None,
        held_out: UnitsLike = (),
    ) -> Hippie:
        """Train the networks on one or more tables of sorted units.

        Parameters
        ----------
        units : UnitTable of n_units, sequence of UnitTable, or array (n_units, n_columns)
            Raw curves: mean waveform (any scale and number of samples), histogram of inter-spike intervals (counts or densities) and
            autocorrelogram. Units without any curve are ignored. An array (or DataFrame) has the curves of a unit in each row, waveform
            of 50 samples, ISI of 100 bins and ACG of 100 bins, as far as they are in ``modalities``; with a single modality all columns
            are its samples, of any number. A curve of NaN is missing. A SpikeInterface ``SortingAnalyzer``, a path and other sources
            of `jaxephys.schemas.unit_sources.as_unit_table` become tables of raw curves.
        y : array-like (n_units,), optional
            Class of each unit in the order of the tables, as text, integers or Booleans; "", None or NaN where it is unknown. Labels
            of training units shape the embedding; if the objective is ``conditioned``, as the published one is, the decoder receives
            the class as well. By default no label is used, not even that of the table.
        technology : str, optional
            Recording technology of all units; by default that of the tables.
        initial : Hippie, optional
            Fitted model whose weights training starts from, for instance to pretrain on many data sets and fine-tune on one. Sizes
            and preprocessing are those of ``initial``; other sizes than those and the defaults are an error. If the decoder is to
            receive classes that are not those of ``initial``, it gets a new class table, see `jaxephys.hippie.class_table.with_class_table`.
        held_out : UnitTable, sequence of UnitTable, or array, optional
            Units that must not be used, matched by name; they are removed from ``units``. Units that have no identifiers of their own
            are named after their curves, so that they are found in any table.

        Returns
        -------
        Hippie
            The fitted estimator.

        Raises
        ------
        ValueError
            If fewer than 8 units remain, two tables have a unit of the same name, labels do not fit or are all of one class, or a
            parameter is impossible.

        Examples
        --------
        >>> import numpy as np
        >>> from jaxephys import Hippie
        >>> from jaxephys.hippie.synthetic import make_synthetic_units
        >>> units = make_synthetic_units(63)
        >>> test = units.rows(np.arange(3))
        >>> settings = {"width": 2, "trunk": "dense", "seeds": 2, "max_epochs": 2, "progress": False}
        >>> pretrained = Hippie(4, **settings).fit(units, held_out=test)
        >>> pretrained.seen(test).tolist()
        [False, False, False]
        >>> tuned = Hippie(4, **settings).fit(units, units.label, initial=pretrained)
        >>> int(tuned.seen(units).sum())
        63
        """
        self._check_parameters()
        if initial is not None:
            self._check_sizes(initial)
        preparation = self._preparation() if initial is None else initial.preparation_
        tables = self._as_tables(units, preparation, min_units=MIN_UNITS)
        tables = [table.with_technology(technology) for table in tables]
        names = combined_unit_names(tables)
        codes, label_classes = encode_labels(y, len(names))
        objective = self._objective(codes)
        classes = label_classes if objective.conditioned else label_classes[:0]
        data = make_data(tables, preparation)
        excluded = combined_unit_names(self._as_tables(held_out, preparation))
        usable = np.flatnonzero(data.present.any(axis=1) & ~np.isin(names, excluded))
        if len(usable) < MIN_UNITS:
            raise ValueError(f"{len(usable)} units with curves are left to train on: give at least {MIN_UNITS}")
        self.first_seed_ = first_seed(self.random_state, self.seeds)
        grid = RunGrid.cross(seed=range(self.first_seed_, self.first_seed_ + self.seeds))
        seeds = grid.column("seed")
        if initial is None:
            sources = len(TECHNOLOGIES) if (data.source >= 0).any() else 0
            network, variables = self._new_network(sources, len(classes)), None
        else:
            network, variables, classes = initial.start_runs(seeds, classes)
        splits = [hold_out_validation(usable, self.validation, seed) for seed in seeds]
        batch_size = even_batch_size([len(split.train) for split in splits], self.batch_size)
        n_steps = self.max_epochs * -(-max(len(split.train) for split in splits) // batch_size)
        config = TrainConfig(
            self.max_epochs,
            self.patience,
            monitor="loss",
            mode="min",
            batch_size=batch_size,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            clip_norm=1.0,
            warmup_steps=warm_up_steps(network, [objective], n_steps),
        )
        inputs = make_run_inputs(codes, splits, [objective] * len(grid), batch_size=batch_size)
        task, title = make_task(network, [objective]), self._progress_title
        result = fit(task, *pad_units(data, inputs), grid, config, initial=variables, title=title)
        self.keep_runs(result, network, preparation, data, names, splits, classes=classes)
        if initial is not None:
            self.trained_on_ = np.union1d(self.trained_on_, initial.trained_on_)
        return self

    def fit_transform(  # pyright: ignore[reportIncompatibleMethodOverride] # scikit-learn names the units X
        self,
        units: UnitsLike,
        y: Any = None,
        *,
        technology: str | None = None,
        initial: Hippie | None = None,
        held_out: UnitsLike = (),
    ) -> Float[np.ndarray, "cell latent"]:
        """Train the networks, then embed the same units, those of ``held_out`` included.

        Parameters
        ----------
        units, y, technology, initial, held_out : see fit
            As in `fit`.

        Returns
        -------
        float32 array (n_units, latent)
            Embeddings by the first network, as of `transform`.

        Examples
        --------
        >>> from jaxephys import Hippie
        >>> from jaxephys.hippie.synthetic import make_synthetic_units
        >>> model = Hippie(4, width=2, trunk="dense", seeds=2, max_epochs=2, progress=False)
        >>> model.fit_transform(make_synthetic_units(60)).shape
        (60, 4)
        """
        self.fit(units, y, technology=technology, initial=initial, held_out=held_out)
        return self._transform(units, technology)

    def start_runs(
        self, seeds: Sequence[int], classes: ClassNames
    ) -> tuple[ConditionalVAE, dict[str, Any], ClassNames]:
        """Return this model as the start of new runs. Its networks are used in turn.

        Parameters
        ----------
        seeds : sequence of int
            Seed of each run.
        classes : array (n_classes,)
            Classes that the decoder is to receive; empty for those of this model.

        Returns
        -------
        network : ConditionalVAE
            The architecture. If the classes are not those of this model, it has a new class table, drawn from the seeds.
        variables : dict
            Variables with a leading run axis, without the count of steps.
        classes : array (n_classes,)
            Classes of the network.
        """
        variables = initial_from_runs(self.variables_, np.arange(len(seeds)) % self.n_networks_)
        if not len(classes) or np.array_equal(classes, self.classes_):
            return self.network_, variables, self.classes_
        return *with_class_table(self.network_, variables, len(classes), seeds), classes

    def keep_runs(
        self,
        result: FitResult,
        network: ConditionalVAE,
        preparation: Preparation,
        data: UnitArrays,
        names: TextArray,
        splits: Sequence[Split],
        indices: Int[np.ndarray, "run"] | None = None,
        classes: Sequence[Any] | ClassNames = (),
    ) -> Hippie:
        """Take over runs of a grid that was trained elsewhere, such as by `jaxephys.hippie.grid.train_grid`.

        Parameters
        ----------
        result : FitResult
            The trained grid.
        network : ConditionalVAE
            Its architecture.
        preparation : Preparation
            Preprocessing of its data.
        data : UnitArrays
            Its data.
        names : array of str (n_units,)
            Names of the units of ``data``.
        splits : sequence of Split
            Rows of every run of the grid.
        indices : int array (n_networks,), optional
            Runs to keep; by default all.
        classes : sequence
            Classes that the decoder receives; by default unknown, or none.

        Returns
        -------
        Hippie
            The fitted estimator.
        """
        kept = [splits[run] for run in self._store_runs(result, indices)]
        self.network_, self.preparation_, self.classes_ = network, preparation, _class_array(classes)
        self.trained_on_ = np.unique(names[np.concatenate([rows for split in kept for rows in split[:2]])])
        self.noise_ = measure_noise(network, data, self.variables_, [split.validation for split in kept], SAMPLES)
        return self

    def run_template(
        self,
        network: ConditionalVAE,
        preparation: Preparation,
        names: TextArray,
        splits: Sequence[Split],
        objectives: Sequence[Objective],
    ) -> RunTemplate:
        """Return what the checkpoints of a grid must hold, so that :func:`jaxephys.load` makes a `Hippie` of any of its runs.

        Parameters
        ----------
        network : ConditionalVAE
            The architecture of the runs.
        preparation : Preparation
            Preprocessing of the units.
        names : array of str (n_units,)
            Names of the units.
        splits : sequence of Split, one per run
            Rows of each run.
        objectives : sequence of Objective, one per run
            Objective of each run.

        Returns
        -------
        RunTemplate
            Architecture, preprocessing, and the units that each run uses.
        """
        sizes = {"latent": network.latent, "width": network.width, "trunk": network.trunk}
        model = Hippie(**{**self.get_params(), **sizes, "modalities": [name for name, _ in network.modalities]})
        model.network_, model.preparation_ = network, preparation
        model.trained_on_, model.classes_ = names, np.array([], str)
        used = np.zeros((len(splits), len(names)), bool)
        for run, split in enumerate(splits):
            used[run, np.concatenate(split[:2])] = True
        parameters = [{"objective": asdict(objective)} for objective in objectives]
        return RunTemplate(model._config(model._saved_settings()), {"used_units": used}, parameters)

    def score(self, units: UnitsLike, y: Any = None) -> float:
        """Return the explained variance of the reconstructed curves, averaged over modalities and networks.

        Parameters
        ----------
        units : UnitTable of n_units, or array (n_units, n_columns)
            Units, which should not have been used in training.
        y : ignored
            Present for scikit-learn, whose ``GridSearchCV`` chooses by this score. A search for the best embedding of cell types should
            score a pipeline with a classifier instead.

        Returns
        -------
        float
            At most 1, which is a perfect reconstruction; 0 is the mean curve.

        Examples
        --------
        >>> from jaxephys import Hippie
        >>> from jaxephys.hippie.synthetic import make_synthetic_units
        >>> units = make_synthetic_units(60)
        >>> model = Hippie(4, width=2, trunk="dense", seeds=2, max_epochs=2, progress=False).fit(units)
        >>> model.score(units) < 1
        True
        """
        return float(np.mean([row["r2"] for row in self.score_table(units)]))

    def score_table(self, units: UnitsLike) -> list[dict[str, Any]]:
        """Score the reconstruction of units, which should not have been used in training (see `seen`).

        Parameters
        ----------
        units : UnitTable of n_units, or array (n_units, n_columns)
            Units.

        Returns
        -------
        list of dict
            One row for each network: ``network``; ``loss``; ``r2``, the explained variance averaged over modalities; ``r2_wave``,
            ``r2_isi``, ``r2_acg``; ``kl`` in nats; ``active``, the share of active latent dimensions; ``n``.

        Examples
        --------
        >>> from jaxephys import Hippie
        >>> from jaxephys.hippie.synthetic import make_synthetic_units
        >>> units = make_synthetic_units(60)
        >>> model = Hippie(4, width=2, trunk="dense", seeds=2, max_epochs=2, progress=False).fit(units)
        >>> list(model.score_table(units)[0])
        ['network', 'active', 'kl', 'loss', 'r2', 'r2_acg', 'r2_isi', 'r2_wave', 'n']
        """
        data = self._unit_arrays(units)
        n_units = len(data.source)
        rows = stack_rows([plain_rows(np.arange(n_units))] * self.n_networks_)
        unlabelled = np.full(n_units, -1, np.int32)
        constants = [make_constants(self._objective(unlabelled), unlabelled)] * self.n_networks_
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *constants)
        scores = score(make_task(self.network_), data, self.scored_variables, rows, stacked)
        return [
            score_row(run, {name: values[run] for name, values in scores.items()}, n_units)
            for run in range(self.n_networks_)
        ]

    @property
    def scored_variables(self) -> dict[str, Any]:
        """Variables with the running errors that scores read. A converted checkpoint has none; they are 1, as before any training."""
        shape = (self.n_networks_, 2, len(self.network_.modalities))
        tally = {"variance": np.ones(shape, np.float32), "steps": np.zeros(shape[:1], np.float32)}
        return {"tally": tally, **self.variables_}

    @classmethod
    def from_checkpoint(cls, checkpoint_path: str | Path, device: str | None = None, *, order: str = "card") -> Hippie:
        """Convert a published PyTorch checkpoint, without PyTorch and without executing code in the file.

        Parameters
        ----------
        checkpoint_path : str or Path
            A file such as ``hippie_techcond_v1.ckpt``, or any state dict of the published network.
        device : str, optional
            Ignored; the published model card has it. JAX chooses the device.
        order : {"card", "train"}, default "card"
            Order of the preprocessing of raw curves. "card": resample, then scale each curve to [-1, 1], as the model card, its
            functions and ``hippie-cli embed`` do. "train": scale, then resample, as the data set class of the original does, on which
            the network was trained. The two differ where a peak falls between two new samples: on the public units of three
            laboratories prepared waveforms differ by 1 to 3 % of their norm in the median and autocorrelograms by 5 to 12 %, single
            ones by several times their norm. Embeddings of one order must not be compared with those of the other.

        Returns
        -------
        Hippie
            A fitted estimator of one network, which stores the order (``preparation_``). It has no measurement of the error of imputed
            curves; see `calibrate`.

        Raises
        ------
        CheckpointError
            If the file is damaged or its tensors are not those of a HIPPIE network. It is a ``ValueError``.
        ValueError
            If the order is unknown.

        Examples
        --------
        >>> model = Hippie.from_checkpoint("hippie_techcond_v1.ckpt")  # doctest: +SKIP
        >>> model.embed(units, technology="neuropixels")  # doctest: +SKIP
        """
        del device
        check_choice("order", order, ORDERS)
        state = read_state_dict(checkpoint_path)
        try:
            network, variables = convert_state_dict(state)
        except CheckpointError as error:
            raise CheckpointError(f"{checkpoint_path}: {error}") from error
        return cls.from_network(network, variables, Preparation(order, "stored", network.modalities))

    @classmethod
    def from_network(cls, network: ConditionalVAE, variables: PyTree, preparation: Preparation) -> Hippie:
        """Make an estimator of a network whose variables are known, such as those of a checkpoint.

        Parameters
        ----------
        network : ConditionalVAE
            The architecture.
        variables : dict
            Its variables, without a run axis.
        preparation : Preparation
            Preprocessing of its inputs.

        Returns
        -------
        Hippie
            A fitted estimator of one network, which has seen no unit and has no measurement of the error of imputed curves.
        """
        names = [name for name, _ in network.modalities]
        model = cls(
            network.latent, width=network.width, trunk=network.trunk, modalities=tuple(names), objective="published"
        )
        model.network_, model.preparation_ = network, preparation
        model.variables_ = jax.tree.map(lambda leaf: np.asarray(leaf)[None], variables)
        model.trained_on_ = model.classes_ = np.array([], str)
        shapes = {name: (1, 2 ** len(names), length) for name, length in network.modalities}  # of all subsets of curves
        model.noise_ = {name: np.full(shape, np.nan, np.float32) for name, shape in shapes.items()}
        return model

    @classmethod
    def from_pretrained(
        cls,
        repo_id: str = published_api.REPOSITORY,
        filename: str = published_api.FILE,
        device: str | None = None,
        cache_dir: str | Path | None = None,
        *,
        order: str = "card",
    ) -> Hippie:
        """Download the published checkpoint from the Hugging Face hub, unless it is in the cache, and convert it.

        Parameters
        ----------
        repo_id : str
            Name of the repository.
        filename : str
            File in the repository.
        device : str, optional
            Ignored, as in `from_checkpoint`.
        cache_dir : str or Path, optional
            Folder of the cache; by default that of ``huggingface_hub``.
        order : {"card", "train"}, default "card"
            Order of the preprocessing, see `from_checkpoint`.

        Returns
        -------
        Hippie
            A fitted estimator of one network, see `from_checkpoint`.

        Raises
        ------
        MissingExtraError
            If ``huggingface_hub`` is not installed. It is an ``ImportError``.

        Examples
        --------
        >>> model = Hippie.from_pretrained("Jesusgf23/hippie")  # doctest: +SKIP
        """
        file = published_api.download_checkpoint(repo_id, filename, cache_dir)
        return cls.from_checkpoint(file, device, order=order)

    def _check_parameters(self) -> None:
        """Raise an error if a parameter is impossible. The engine and the objective check the others."""
        check_numbers(self, latent=1, width=1, seeds=1, max_epochs=1, batch_size=1)
        check_numbers(self, contrast=0.0, learning_rate=0.0, weight_decay=0.0, validation=0.0)
        if self.patience is not None:
            check_numbers(self, patience=1)
        if not 0 < self.validation < 1:
            raise ValueError(f"validation is {self.validation}: give a share of the units between 0 and 1")
        check_choice("trunk", self.trunk, TRUNKS)

    def _objective(self, codes: Int[np.ndarray, "cell"]) -> Objective:
        if not isinstance(self.objective, Objective) and self.objective not in tuple(OBJECTIVES):
            raise ValueError(
                f"objective {self.objective!r} is unknown: choose one of {', '.join(OBJECTIVES)}, or give an Objective"
            )
        objective = OBJECTIVES[self.objective] if isinstance(self.objective, str) else self.objective
        if self.contrast != CONTRAST and (objective.conditioned or objective.contrast):
            raise ValueError(
                f"contrast is {self.contrast}, which this objective does not take: give Objective(contrast=...)"
            )
        if (codes >= 0).any() and not objective.conditioned:
            return replace(objective, contrast=objective.contrast or self.contrast)
        return objective

    def _check_sizes(self, initial: Hippie) -> None:
        """Raise an error if a size was given that a model to start from does not have."""
        defaults = type(self)().get_params()
        for name in ("latent", "width", "trunk"):
            given, present = getattr(self, name), getattr(initial.network_, name)
            if given not in (present, defaults[name]):
                raise ValueError(
                    f"{name} is {given}, but that of the initial model is {present}: leave it out, or give the same"
                )

    def _new_network(self, sources: int, classes: int) -> ConditionalVAE:
        options: Any = {"sources": sources, "classes": classes, "trunk": self.trunk}
        return ConditionalVAE(self._preparation().lengths, self.latent, self.width, **options)

    def _preparation(self) -> Preparation:
        if isinstance(self.modalities, str) or not len(self.modalities):
            raise ValueError(
                f"modalities is {self.modalities!r}: give some of {', '.join(LENGTHS)}, as ('wave', 'isi')"
            )
        names = [*(name for name in LENGTHS if name in self.modalities), *(set(self.modalities) - set(LENGTHS))]
        return Preparation(lengths=tuple((name, LENGTHS.get(name, 0)) for name in names))

    def _encoded_parameters(self) -> dict[str, Any]:
        objective = self.objective if isinstance(self.objective, str) else asdict(self.objective)
        parameters = self.get_params()
        if isinstance(self.random_state, np.random.RandomState):
            parameters["random_state"] = self.first_seed_
        return {**parameters, "objective": objective, "modalities": [str(name) for name in self.modalities]}

    @classmethod
    def _decoded_parameters(cls, parameters: dict[str, Any]) -> dict[str, Any]:
        objective = parameters["objective"]
        objective = objective if isinstance(objective, str) else objective_from_dict(objective)
        return {**parameters, "objective": objective, "modalities": tuple(parameters["modalities"])}

    def _saved_arrays(self) -> dict[str, PyTree]:
        return {**self.variables_, "noise": self.noise_}

    def _saved_settings(self) -> dict[str, Any]:
        return {
            "network": network_config(self.network_),
            "preparation": self.preparation_.to_dict(),
            "trained_on": self.trained_on_.tolist(),
            "classes": self.classes_.tolist(),
            **saved_columns(self),
        }

    def _restore(self, arrays: dict[str, PyTree], config: dict[str, Any]) -> None:
        self.network_ = network_from_config(config["network"])
        self.preparation_ = Preparation.from_dict(config["preparation"])
        self.trained_on_ = np.array(config["trained_on"], str)
        self.classes_ = _class_array(config.get("classes", ()))  # models of earlier versions have none
        restore_columns(self, config)
        if "used_units" in arrays:  # of runs that are read from checkpoints
            self.trained_on_ = np.unique(self.trained_on_[arrays["used_units"].any(axis=0)])
        self.variables_ = {name: tree for name, tree in arrays.items() if name not in ("noise", "used_units")}
        self.noise_ = arrays["noise"] if "noise" in arrays else self._unknown_noise()

    def _unknown_noise(self) -> dict[str, np.ndarray]:
        """NaN in the shape of ``noise_``, for networks whose error of imputed curves was not measured; see `calibrate`."""
        modalities = self.network_.modalities
        shapes = {
            name: (self.n_networks_, 2 ** len(modalities), length) for name, length in modalities
        }  # of all subsets
        return {name: np.full(shape, np.nan, np.float32) for name, shape in shapes.items()}

    def export_program(self) -> ExportProgram:
        """Return the computation of the fitted networks as one function, which `jaxephys.models.export.export_model` writes.

        Returns
        -------
        ExportProgram
            The function of `jaxephys.hippie.export.make_program`, its inputs and its outputs.
        """
        check_is_fitted(self)
        return make_program(self)

    def _card_details(self) -> ModelDetails:
        return describe_model(self)

    def _summary(self) -> str:
        curves = ", ".join(f"{name} {length}" for name, length in self.network_.modalities)
        return f"latent {self.network_.latent}, curves {curves}, trained on {len(self.trained_on_) or 'unknown'} units"


def _class_array(classes: Sequence[Any] | ClassNames) -> ClassNames:
    return np.asarray(classes) if len(classes) else np.array([], str)


@migration("Hippie", from_version=1)
def _stack_modalities(config: dict[str, Any], arrays: dict[str, PyTree]) -> tuple[dict[str, Any], dict[str, PyTree]]:
    """Join the encoders and the decoders of the modalities, which schema version 1 has saved apart."""
    return config, from_published(arrays, network_from_config(config["network"]), axis=1)
