"""UnitTable: sorted units with their mean waveform, inter-spike-interval histogram and autocorrelogram.

:meth:`UnitTable.read` accepts what ``data_prep`` has built, or a folder of CSV files
(:mod:`jaxephys.schemas.unit_csv`); :meth:`UnitTable.from_arrays` makes a table from arrays, :meth:`UnitTable.write`
stores one. A stored table is a folder::

    units.npz         schema ("jaxephys units 1"), unit (identifiers), waveform [unit, sample], isi [unit, bin],
                      acg [unit, lag], present [unit, modality], about (names of the text columns), about_<name>
                      (one text per unit), truths (names), truth_<name> [unit, ...] (of simulated units),
                      provenance (JSON), sha256 (of all arrays)
    provenance.json   provenance and sha256 once more, to be read without NumPy

Curves are raw: as wide as in their source, counts where the source counts, nothing scaled, resampled or filled. A curve
that a unit lacks is a row of NaN; a modality that no unit has is an array without columns.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from jaxephys.schemas.storage import DataError, check_rows, content_hash, encode_labels, read_table, write_table
from jaxephys.schemas.unit_csv import clean_label, read_folder

SCHEMA = "jaxephys units 1"
FILE = "units.npz"
MODALITIES = {"wave": "waveform", "isi": "isi", "acg": "acg"}  # name in a table: name in the file
TECHNOLOGIES = {"neuropixels": 0, "silicon_probe": 1, "juxtacellular": 2, "tetrode": 3}  # name: published code
Text = Shaped[np.ndarray, "unit"]


@dataclass(frozen=True)
class UnitTable:
    """Sorted units with their raw curves, text columns and, for simulated units, the truth.

    Parameters
    ----------
    raw : mapping of str to ndarray of shape (n_units, n_samples)
        Curves by modality: exactly ``"wave"``, ``"isi"`` and ``"acg"``, in this order. Each has its own number of
        columns, 0 for a modality that no unit has. A row is finite throughout, or NaN throughout where the unit lacks
        the curve.

        - ``wave``: mean waveform in any unit of voltage; 50 samples at 20 kHz (2.5 ms) in tables of ``data_prep``.
        - ``isi``: histogram of inter-spike intervals in bins of 1 ms, as counts or as a density; at least 0.
        - ``acg``: autocorrelogram in bins of 1 ms, as counts or as a density; at least 0.
    unit : ndarray of str of shape (n_units,)
        Identifiers; no two units have the same.
    about : mapping of str to ndarray of str of shape (n_units,), optional
        Text columns, ``""`` where unknown: ``label`` (class), ``subject``, ``session``, ``technology`` (a key of
        ``TECHNOLOGIES``), ``species``, ``region``, ``fold`` (test fold of a benchmark, digits), ``dataset`` or others.
    truth : mapping of str to ndarray of shape (n_units, ...), optional
        True values of simulated units.
    provenance : mapping, optional
        Where the values come from; anything that JSON stores.

    Raises
    ------
    DataError
        If shapes do not agree, an identifier occurs twice, a curve is finite in part, a histogram is negative, or a
        technology is unknown.

    Examples
    --------
    >>> import numpy as np
    >>> curves = {"wave": np.eye(3, 4), "isi": np.ones((3, 100)), "acg": np.zeros((3, 0))}
    >>> units = UnitTable(curves, np.array(["a", "b", "c"]), {"label": np.array(["PV", "", "SOM"])})
    >>> units
    UnitTable(3 units: wave 3, isi 0, acg 0; 2 labelled)
    >>> units.rows(np.array([0, 2])).unit.tolist()
    ['a', 'c']
    """

    # Arrays may come from outside: _check reports what is wrong, so the annotations name no dimensions.
    raw: Mapping[str, np.ndarray]
    unit: np.ndarray
    about: Mapping[str, np.ndarray] = field(default_factory=dict)
    truth: Mapping[str, np.ndarray] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_units(self)
        for name, curves in self.raw.items():
            _check_curves(name, curves, self.unit)

    @classmethod
    def read(cls, path: str | Path) -> UnitTable:
        """Read a table.

        Parameters
        ----------
        path : str or Path
            A ``units.npz``, the folder that holds one, or a folder of CSV files (see :mod:`jaxephys.schemas.unit_csv`),
            whose labels are cleaned: blanks are removed, and "unknown", "unlabeled" and the like become ``""``.

        Returns
        -------
        UnitTable
            The table; of CSV files, ``provenance["notes"]`` lists what was left out.

        Raises
        ------
        DataError
            If nothing can be read there, or an ``units.npz`` was changed after it was written.

        Examples
        --------
        >>> from pathlib import Path
        >>> from tempfile import mkdtemp
        >>> folder = Path(mkdtemp())
        >>> _ = (folder / "isi_dist.csv").write_text("0,1,2\\n4,0,1\\n2,2,2\\n")
        >>> _ = (folder / "labels.csv").write_text("label\\nPV\\nunknown\\n")
        >>> units = UnitTable.read(folder)
        >>> units.raw["isi"].tolist(), units.label.tolist()
        ([[4.0, 0.0, 1.0], [2.0, 2.0, 2.0]], ['PV', ''])
        """
        path = Path(path)
        if not path.exists():
            raise DataError(f"there are no units in {path}: give a units.npz, its folder, or a folder of CSV files")
        if path.is_dir() and not (path / FILE).exists():
            parts = read_folder(path, label="last")
            if "label" in parts["about"]:
                parts["about"]["label"] = np.array([clean_label(text) for text in parts["about"]["label"]], str)
            parts["about"] = {name: column for name, column in parts["about"].items() if (column != "").any()}
            return cls(**parts)
        path = path / FILE if path.is_dir() else path
        stored, provenance = read_table(path, "unit table", SCHEMA, {"unit", "about", "truths", *MODALITIES.values()})
        return cls(
            {name: stored[key] for name, key in MODALITIES.items()},
            stored["unit"],
            stored["about"],
            stored["truths"],
            provenance,
        )

    @classmethod
    def from_arrays(
        cls,
        *,
        wave: np.ndarray | None = None,
        isi: np.ndarray | None = None,
        acg: np.ndarray | None = None,
        unit: Any = None,
        truth: Mapping[str, np.ndarray] | None = None,
        provenance: Mapping[str, Any] | None = None,
        **about: str | Sequence[str] | np.ndarray,
    ) -> UnitTable:
        """Make a table from the arrays that there are.

        Parameters
        ----------
        wave : array-like of shape (n_units, n_samples), optional
            Mean waveforms in any unit of voltage, at any sampling rate. ``data_prep`` stores 50 samples at 20 kHz
            (2.5 ms), the trough at sample 17. Models resample every row to 50 samples without knowing its sampling
            rate, so waveforms should cover the same time as those that a model was trained on.
        isi : array-like of shape (n_units, n_bins), optional
            Histograms of inter-spike intervals, counts or densities, in bins of 1 ms from 0 ms. ``data_prep`` stores
            100 bins; models resample to 100.
        acg : array-like of shape (n_units, n_lags), optional
            Autocorrelograms, counts or densities, in bins of 1 ms. ``data_prep`` stores 201 bins, lags of -100 to
            100 ms; models resample to 100.
        unit : sequence of length n_units, optional
            Identifiers, which are stored as text, no two of them equal. By default each unit is named after a hash of its curves, so that a unit has the same
            name in every table that holds it, and different units have different names.
        truth : mapping of str to ndarray of shape (n_units, ...), optional
            True values of simulated units.
        provenance : mapping, optional
            Where the values come from.
        **about : str or sequence of str of length n_units
            Text columns by name, such as ``label=`` or ``technology=``. One text holds for every unit.

        Returns
        -------
        UnitTable
            The table. A modality that is not given is absent from all units.

        Raises
        ------
        DataError
            If no curve is given, or the arrays do not make a table.

        Examples
        --------
        >>> import numpy as np
        >>> units = UnitTable.from_arrays(isi=np.eye(3, 100), label=["PV", "", "SOM"], technology="tetrode")
        >>> units.classes.tolist(), units.codes().tolist(), units.technology_codes.tolist()
        (['PV', 'SOM'], [0, -1, 1], [3, 3, 3])

        Identifiers are those that were given; without them they follow from the curves:

        >>> UnitTable.from_arrays(isi=np.eye(3, 100), unit=[7, 8, 9]).unit.tolist()
        ['7', '8', '9']
        >>> bool(units.unit[2] == UnitTable.from_arrays(isi=np.eye(3, 100)[2:]).unit[0])
        True
        """
        given = {name: curves for name, curves in zip(MODALITIES, (wave, isi, acg), strict=True) if curves is not None}
        if not given:
            raise DataError(f"no curves were given: give at least one of {', '.join(MODALITIES)}")
        count = len(next(iter(given.values())))
        raw = {name: np.asarray(given.get(name, np.zeros((count, 0))), np.float32) for name in MODALITIES}
        for name, curves in raw.items():
            if curves.ndim != 2 or len(curves) != count:
                raise DataError(f"{name} has the shape {curves.shape} for {count} units: give one row for each unit")
        names = name_by_content(raw) if unit is None else np.array(unit, str)
        if names.shape != (count,):
            raise DataError(f"there are identifiers of shape {names.shape} for {count} units: give one for each unit")
        columns = {
            name: np.full(count, text) if isinstance(text, str) else np.array(text, str) for name, text in about.items()
        }
        return cls(raw, names, columns, dict(truth or {}), dict(provenance or {}))

    @classmethod
    def from_spikeinterface(
        cls, analyzer: Any, *, label: str | None = None, **about: str | Sequence[str] | np.ndarray
    ) -> UnitTable:
        """Make a table from a SpikeInterface ``SortingAnalyzer``.

        Parameters
        ----------
        analyzer : SortingAnalyzer, str or Path
            The analyzer, with the extension ``templates`` (mean, or else median) and a single segment, or the folder that it was
            saved to.
        label : str, optional
            Property of the sorting that holds the class of each unit.
        **about : str or sequence of str of length n_units
            Text columns by name, such as ``technology="neuropixels"`` or ``dataset="mouse 3"``, which becomes a part of the names of
            the units. One text holds for every unit.

        Returns
        -------
        UnitTable
            One row per unit: the largest channel of its template as 50 samples at 20 kHz, 100 bins of intervals and 201 lags of
            the autocorrelogram, see :mod:`jaxephys.schemas.unit_features`. Identifiers are those of the sorting.

        Raises
        ------
        DataError
            If the analyzer has no templates or several segments, or the sorting has no such property.
        """
        from jaxephys.schemas.unit_sources import read_analyzer  # late, since it imports this module

        return read_analyzer(analyzer, label=label, **about)

    @classmethod
    def from_nwb(
        cls,
        paths: str | Path | Sequence[str | Path],
        *,
        label: str | None = None,
        rate: float | None = None,
        **about: str | Sequence[str],
    ) -> UnitTable:
        """Make a table from the units tables of NWB files. It needs h5py, which the extra ``prep`` installs.

        Parameters
        ----------
        paths : str, Path or sequence of these
            NWB files, or folders that hold some. Identifiers of units are "session/id".
        label : str, optional
            Column of the units table that holds the class. By default it is the one with a usual name, if there is one.
        rate : float, optional
            Sampling rate of the templates in Hz where a file does not give it.
        **about : str or sequence of str of length n_units
            Text columns by name, such as ``technology="neuropixels"``. One text holds for every unit.

        Returns
        -------
        UnitTable
            One row per unit, with the features of :meth:`from_spikeinterface`.

        Raises
        ------
        DataError
            If a file cannot be read or has no units table, the label column is missing or ambiguous, or there is no unit.
        """
        from jaxephys.schemas.unit_sources import read_nwb_tables  # late, since it imports this module

        return read_nwb_tables([paths] if isinstance(paths, str | Path) else paths, label=label, rate=rate, **about)

    @classmethod
    def from_times(
        cls,
        times: Any,
        templates: np.ndarray | Sequence[np.ndarray] | None = None,
        *,
        rate: float | None = None,
        **about: str | Sequence[str] | np.ndarray,
    ) -> UnitTable:
        """Make a table from spike times in seconds and mean waveforms.

        Parameters
        ----------
        times : mapping of unit to array-like of shape (n_spikes,)
            Spike times of each unit in seconds, in any order. A SpikeInterface sorting, a pynapple ``TsGroup`` or a folder of Phy
            or Kilosort is accepted, too.
        templates : array-like of shape (n_units, n_samples) or (n_units, n_channels, n_samples), optional
            Mean waveform of each unit in any unit of voltage, in the order of the units. By default units have no waveform.
        rate : float, optional
            Sampling rate of the templates in Hz.
        **about : str or sequence of str of length n_units
            Text columns by name, such as ``label=`` or ``technology=``. One text holds for every unit.

        Returns
        -------
        UnitTable
            One row per unit, with the features of :meth:`from_spikeinterface`.

        Raises
        ------
        DataError
            If times are no seconds, templates are not valid or have no rate, or their numbers differ.

        Examples
        --------
        >>> import numpy as np
        >>> times = {"u7": [0.010, 0.0205, 0.5], "u9": [0.1, 0.104]}
        >>> units = UnitTable.from_times(times, -np.eye(2, 60)[:, ::-1], rate=30_000.0, technology="neuropixels")
        >>> units, np.flatnonzero(units.raw["isi"][0]).tolist()
        (UnitTable(2 units: wave 2, isi 2, acg 2; 0 labelled), [10])
        """
        from jaxephys.schemas.unit_sources import units_of_times  # late, since it imports this module

        return units_of_times(times, templates, rate=rate, **about)

    def __len__(self) -> int:
        return len(self.unit)

    def __getitem__(self, indices: Any) -> UnitTable:
        """Return the table of some units, as :meth:`rows` does, by which scikit-learn divides a table into folds.

        Parameters
        ----------
        indices : int, slice, ndarray of int or ndarray of bool of shape (n_units,)
            Units to keep.

        Returns
        -------
        UnitTable
            The selected units.

        Examples
        --------
        >>> import numpy as np
        >>> units = UnitTable.from_arrays(wave=np.eye(4, 50), unit=list("abcd"))
        >>> units[1:3].unit.tolist(), units[units.unit != "b"].unit.tolist()
        (['b', 'c'], ['a', 'c', 'd'])
        """
        if isinstance(indices, tuple):  # scikit-learn indexes objects that have a shape by (indices, ...)
            indices = indices[0]
        return self.rows(np.atleast_1d(np.arange(len(self))[indices]))

    @property
    def shape(self) -> tuple[int, int]:
        """Number of units and of samples of all curves together; scikit-learn reads the number of samples from it."""
        return len(self), sum(curves.shape[1] for curves in self.raw.values())

    def __repr__(self) -> str:
        curves = ", ".join(f"{name} {n}" for name, n in zip(self.raw, self.present.sum(axis=0), strict=True))
        return f"UnitTable({len(self)} units: {curves}; {int((self.label != '').sum())} labelled)"

    def write(self, folder: str | Path) -> Path:
        """Write the table into a folder, as ``units.npz`` and ``provenance.json``.

        Parameters
        ----------
        folder : str or Path
            Folder to write into; it is made if it does not exist. A table that it holds is replaced in one step, so
            that no reader sees half a file.

        Returns
        -------
        Path
            The path of ``units.npz``.

        Examples
        --------
        >>> import numpy as np
        >>> from tempfile import mkdtemp
        >>> units = UnitTable.from_arrays(wave=np.eye(2, 50), unit=["u7", "u8"], provenance={"source": "example"})
        >>> path = units.write(mkdtemp())
        >>> UnitTable.read(path).sha256 == units.sha256
        True
        """
        return write_table(Path(folder) / FILE, SCHEMA, self._arrays(), self.provenance, {"units": len(self)})

    @property
    def finite(self) -> Bool[np.ndarray, "unit modality"]:
        """Whether the table holds a curve, in the order of ``raw``; a constant curve counts."""
        return np.stack([np.isfinite(curves).any(axis=1) for curves in self.raw.values()], axis=1)

    @property
    def present(self) -> Bool[np.ndarray, "unit modality"]:
        """Whether a unit has a curve that a model can use, that is finite and not constant, in the order of ``raw``."""
        return np.stack([informative(curves) for curves in self.raw.values()], axis=1)

    @property
    def name(self) -> Text:
        """Identifier of each unit after the name of its data set, as far as that is known: "hull/12"."""
        folder = self.provenance.get("dataset") or self.provenance.get("folder") or ""
        datasets = self.about.get("dataset", np.full(len(self), folder))
        return np.array([f"{name}/{unit}" if name else unit for name, unit in zip(datasets, self.unit, strict=True)])

    def column(self, name: str) -> Text:
        """Return a text column.

        Parameters
        ----------
        name : str
            Name of the column, such as ``"subject"``.

        Returns
        -------
        ndarray of str of shape (n_units,)
            The texts; ``""`` throughout if the table has no such column.
        """
        return self.about.get(name, np.full(len(self), ""))

    @property
    def label(self) -> Text:
        """Class of each unit, ``""`` where it is unknown."""
        return self.column("label")

    @property
    def classes(self) -> Shaped[np.ndarray, "class"]:
        """The classes that occur, sorted."""
        return np.unique(self.label[self.label != ""])

    def codes(self, classes: Shaped[np.ndarray, "class"] | None = None) -> Int[np.ndarray, "unit"]:
        """Return the label of each unit as an index into the sorted classes.

        Parameters
        ----------
        classes : ndarray of str of shape (n_classes,), optional
            Sorted classes; those of this table by default.

        Returns
        -------
        ndarray of int32 of shape (n_units,)
            Index of the class, -1 for units without a label.

        Raises
        ------
        DataError
            If a label is not among ``classes``.
        """
        return encode_labels(self.label, classes)

    @property
    def technology_codes(self) -> Int[np.ndarray, "unit"]:
        """Code of each unit's recording technology (see ``TECHNOLOGIES``), -1 where it is unknown."""
        return np.array([TECHNOLOGIES.get(str(name), -1) for name in self.column("technology")], np.int32)

    def with_technology(self, technology: str | None) -> UnitTable:
        """Return the same units, all with one recording technology.

        Parameters
        ----------
        technology : str or None
            A key of ``TECHNOLOGIES``; ``None`` returns the table as it is.

        Returns
        -------
        UnitTable
            The table with the column ``technology`` replaced.
        """
        if technology is None:
            return self
        return replace(self, about={**self.about, "technology": np.full(len(self), technology)})

    @property
    def fold(self) -> Int[np.ndarray, "unit"]:
        """Number of the benchmark fold that tests each unit, -1 for units in none."""
        return np.array([int(text) if text != "" else -1 for text in self.column("fold")], np.int32)

    def groups(self, by: str) -> Text:
        """Return the groups that folds must not divide.

        Parameters
        ----------
        by : str
            Text column, such as ``"subject"`` or ``"session"``.

        Returns
        -------
        ndarray of str of shape (n_units,)
            Group of each unit.

        Raises
        ------
        DataError
            If the group of a unit is unknown.
        """
        groups = self.column(by)
        if (groups == "").any():
            which = "any unit" if by not in self.about else f"unit {self.unit[(groups == '').argmax()]}"
            raise DataError(f"the {by} of {which} is unknown: folds cannot be grouped by it")
        return groups

    def rows(self, indices: Int[np.ndarray, "some"]) -> UnitTable:
        """Return the table of some units.

        Parameters
        ----------
        indices : ndarray of int of shape (n_selected,)
            Rows to keep, in the order wanted.

        Returns
        -------
        UnitTable
            The selected units with all their columns; the provenance is unchanged.
        """
        parts = {name: {k: v[indices] for k, v in getattr(self, name).items()} for name in ("raw", "about", "truth")}
        return replace(self, unit=self.unit[indices], **parts)

    def labelled(self, min_count: int = 1) -> UnitTable:
        """Return the labelled units of sufficiently large classes.

        Parameters
        ----------
        min_count : int, default 1
            Units that a class must have.

        Returns
        -------
        UnitTable
            Units with a label whose class has at least ``min_count`` units.
        """
        names, counts = np.unique(self.label, return_counts=True)
        kept = names[(counts >= min_count) & (names != "")]
        return self.rows(np.flatnonzero(np.isin(self.label, kept)))

    @property
    def sha256(self) -> str:
        """SHA-256 of all arrays as :meth:`write` stores them; the provenance does not enter."""
        return content_hash(self._arrays())

    def _arrays(self) -> dict[str, Any]:
        return {
            "unit": np.asarray(self.unit, str),
            **{MODALITIES[name]: np.asarray(curves, np.float32) for name, curves in self.raw.items()},
            "present": self.finite,
            "about": {name: np.asarray(column, str) for name, column in self.about.items()},
            "truths": self.truth,
        }


def informative(curves: Float[np.ndarray, "unit _"]) -> Bool[np.ndarray, "unit"]:
    """Return which curves a model can use: those that are finite and not constant.

    Parameters
    ----------
    curves : ndarray of shape (n_units, n_samples)
        Curves of one modality; without columns it is a modality that no unit has.

    Returns
    -------
    ndarray of bool of shape (n_units,)
        Whether each curve is finite throughout and has more than one value.
    """
    if not curves.shape[1]:
        return np.zeros(len(curves), bool)
    return np.isfinite(curves).all(axis=1) & (curves.max(axis=1) > curves.min(axis=1))


def name_by_content(raw: Mapping[str, Float[np.ndarray, "unit _"]]) -> Text:
    """Name units after a hash of their curves.

    Parameters
    ----------
    raw : mapping of str to ndarray of float32 of shape (n_units, n_samples)
        Curves by modality. A row of NaN is a curve that a unit lacks.

    Returns
    -------
    ndarray of str of shape (n_units,)
        "unit " and 12 hexadecimal digits. A copy of an earlier unit is numbered: "unit 0123456789ab copy 2". The name of a unit without
        an informative curve depends on the whole table and on its row.
    """
    usable = {name: informative(curves) for name, curves in raw.items()}
    table, names = hashlib.sha256(), []
    for curves in raw.values():
        table.update(np.ascontiguousarray(curves).tobytes())
    counts: Counter[str] = Counter()
    for row in range(len(next(iter(raw.values())))):
        digest = hashlib.sha256()
        for name, curves in raw.items():
            if usable[name][row]:
                digest.update(name.encode() + curves[row].tobytes())
        if not any(present[row] for present in usable.values()):
            digest.update(table.digest() + row.to_bytes(8, "little"))
        name = f"unit {digest.hexdigest()[:12]}"
        counts[name] += 1
        names.append(name if counts[name] == 1 else f"{name} copy {counts[name]}")
    return np.array(names, str)


def _check_units(table: UnitTable) -> None:
    count = len(table.unit)
    if list(table.raw) != list(MODALITIES):
        raise DataError(
            f"the table has curves {', '.join(table.raw) or 'of no modality'}: give {', '.join(MODALITIES)} in order"
        )
    if count < 1:
        raise DataError("the table has no units: give at least one")
    check_rows("unit", table.unit, {**table.raw, **table.about, **table.truth})
    unknown = set(table.about.get("technology", ())) - {"", *TECHNOLOGIES}
    if unknown:
        raise DataError(f"there is no technology {str(min(unknown))!r}: choose from {', '.join(TECHNOLOGIES)}")


def _check_curves(name: str, curves: np.ndarray, units: np.ndarray) -> None:
    if curves.ndim != 2:
        raise DataError(f"{name} has the shape {curves.shape}: give one row for each unit")
    missing = np.isnan(curves).all(axis=1)
    problems = {
        "is finite in part": ~missing & ~np.isfinite(curves).all(axis=1),
        "has a negative value": (curves < 0).any(axis=1) if name != "wave" else np.zeros(len(curves), bool),
    }
    for problem, where in problems.items():
        if where.any():
            row = int(where.argmax())
            raise DataError(
                f"{name} of unit {units[row]} {problem} (row {row}): correct the row, or make all of it NaN"
            )
