"""The table of electrophysiological features that data_prep writes and the Patch-seq models read.

A :class:`FeatureTable` holds one row for each cell and one column for each feature. Columns are grouped into ordered families
(``isi_shape``, ``first_ap_v``, ``subthreshold``, ...), the steps of the recurrent networks. Start with
:meth:`FeatureTable.from_arrays` for arrays in memory and :meth:`FeatureTable.read` for a file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, Shaped

from jaxephys.schemas.storage import TableError, check_rows, content_hash, encode_labels, read_table, write_table

SCHEMA = "jaxephys family table 2"
FILE = "table.npz"  # name of the archive inside a table folder
UNLABELLED = ("", "nan", "None")  # texts that count as no label
# Arrays that every archive holds: the kinds of dtype that are accepted, and the number of dimensions.
STORED = {
    "values": ("fiub", 2),
    "observed": ("b", 2),
    "widths": ("iu", 1),
    "families": ("U", 1),
    "features": ("U", 1),
    "cell": ("U", 1),
}


@dataclass(frozen=True, eq=False, repr=False)
class FeatureTable:
    """Features of cells, one family of columns after the other.

    Everything is checked when a table is made; a violation is a :class:`~jaxephys.schemas.storage.TableError` that names the
    cell or column. Use :meth:`from_arrays` to fill the other fields with defaults.

    Parameters
    ----------
    values : ndarray of float32, shape (n_cells, n_columns)
        Features in the units of their family (mV, pA, Hz, ms, ...). NaN marks a missing value; models impute it from their
        training cells. Infinite values and cells without any value are refused.
    families : tuple of str
        Names of the families in the order of their columns.
    widths : tuple of int
        Number of columns of each family.
    features : tuple of str, length n_columns
        Name of each column.
    cell : ndarray of str, shape (n_cells,)
        Unique identifier of each cell.
    observed : ndarray of bool, shape (n_cells, n_columns), optional
        False where a value was not measured. Such a value is NaN or a substitute that the extraction has put there, for
        example the mean of neighbouring stimulus levels. Default: every value that is not NaN.
    about : mapping of str to ndarray of str, shape (n_cells,), optional
        Text columns such as ``label``, ``donor``, ``species``, ``subclass4`` and ``condition``; "" where unknown.
    provenance : mapping, optional
        Origin of the values: files, versions and settings, as far as JSON can hold them.

    Notes
    -----
    On disk a table is an ``.npz`` archive, alone or as ``table.npz`` in a folder, with the arrays ``values``, ``observed``,
    ``families``, ``widths``, ``features`` and ``cell``, the names ``about`` of the text columns, an ``about_<name>`` for each
    of them, and the texts ``schema``, ``provenance`` (JSON) and ``sha256``.

    Examples
    --------
    >>> import numpy as np
    >>> values = np.array([[-70.0, 150.0, 0.4], [-68.0, np.nan, 0.6], [-71.0, 90.0, 0.3]])
    >>> families = {"subthreshold": ["vrest", "ri"], "ramp_ap": ["width_ramp"]}
    >>> table = FeatureTable.from_arrays(values, families, ["Pvalb", "Sst", "Pvalb"], cell=["a", "b", "c"])
    >>> table
    FeatureTable(3 cells, 2 families, 3 features, 2 classes)
    >>> table.families, table.widths, table.features
    (('subthreshold', 'ramp_ap'), (2, 1), ('vrest', 'ri', 'width_ramp'))
    >>> table.observed[1].tolist()
    [True, False, True]
    """

    # Arrays come from users and are checked below with messages of their own, hence annotations without shapes.
    values: np.ndarray
    families: tuple[str, ...]
    widths: tuple[int, ...]
    features: tuple[str, ...]
    cell: np.ndarray
    observed: Any = None  # an array in every table; None is replaced below
    about: Mapping[str, np.ndarray] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.observed is None:
            object.__setattr__(self, "observed", ~np.isnan(self.values))
        _check_shapes(self)
        check_rows("cell", self.cell, {"values": self.values, **self.about})
        _check_values(self)

    @classmethod
    def from_arrays(
        cls,
        values: Any,
        families: Mapping[str, int] | Mapping[str, Sequence[str]] | Sequence[str],
        label: Sequence[Any] | np.ndarray | None = None,
        *,
        cell: Sequence[Any] | np.ndarray | None = None,
        donor: Sequence[Any] | np.ndarray | None = None,
        species: Sequence[Any] | np.ndarray | None = None,
        observed: np.ndarray | None = None,
        about: Mapping[str, Sequence[str] | np.ndarray] | None = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> FeatureTable:
        """Make a table from arrays.

        Parameters
        ----------
        values : array-like, shape (n_cells, n_columns) or (n_cells, n_families, width)
            Features of each cell, converted to float32; NaN where missing.
        families : mapping of str to int, mapping of str to sequence of str, or sequence of str
            For two-dimensional values the width, or the names of the features, of each family in the order of the columns.
            For three-dimensional values the names of the families.
        label : array-like, shape (n_cells,), optional
            Class of each cell; stored as text.
        cell : array-like, shape (n_cells,), optional
            Unique identifiers. Default: "0", "1", ...
        donor, species : array-like, shape (n_cells,), optional
            Donor (animal or patient) and species of each cell. Donors define the groups of grouped folds.
        observed : ndarray of bool, shape (n_cells, n_columns), optional
            False where a value was not measured. Default: every value that is not NaN.
        about : mapping of str to array-like, shape (n_cells,), optional
            Further text columns.
        provenance : mapping, optional
            Origin of the values; anything that JSON can hold.

        Returns
        -------
        FeatureTable
            The table. Features without a name are called ``<family>_<number>``.

        Raises
        ------
        TableError
            If a value is no real number or infinite, shapes do not agree, a cell has no value, or a label is empty.

        Examples
        --------
        >>> import numpy as np
        >>> FeatureTable.from_arrays(np.ones((2, 5)), {"isi_shape": 2, "psth": 3}).features
        ('isi_shape_0', 'isi_shape_1', 'psth_0', 'psth_1', 'psth_2')
        >>> FeatureTable.from_arrays(np.ones((2, 3, 4)), ["psth", "inst_freq", "isi_shape"], ["Sst", "Vip"])
        FeatureTable(2 cells, 3 families, 12 features, 2 classes)
        """
        values = _as_float32(values)
        if values.ndim == 3 and not isinstance(families, Mapping):
            families = {str(name): values.shape[2] for name in families}
            values = values.reshape(len(values), -1)
        if not isinstance(families, Mapping):
            raise TableError(
                f"values have shape {values.shape}: give the width of each family as a dict, name -> width"
            )
        named = {
            str(name): [f"{name}_{i}" for i in range(some)] if isinstance(some, int | np.integer) else list(some)
            for name, some in families.items()
        }
        given = {name: column for name, column in (("donor", donor), ("species", species)) if column is not None}
        table = cls(
            values=values,
            families=tuple(named),
            widths=tuple(len(some) for some in named.values()),
            features=tuple(str(name) for some in named.values() for name in some),
            cell=np.asarray(range(len(values)) if cell is None else cell).astype(str),
            observed=observed,
            about={name: np.asarray(column).astype(str) for name, column in {**given, **(about or {})}.items()},
            provenance=provenance or {},
        )
        return table if label is None else table.with_label(label)

    @classmethod
    def from_dataframe(
        cls,
        frame: Any,
        labels: str | Sequence[Any] | np.ndarray | None = None,
        *,
        families: str | Mapping[str, Sequence[str]] = "number",
        cell: str | None = None,
        donor: str | None = None,
        species: str | None = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> FeatureTable:
        """Make a table from a pandas data frame with one row for each cell.

        Parameters
        ----------
        frame : pandas.DataFrame of n_cells rows
            Columns of numbers are features; NaN or NA is a missing value. Columns of text become text columns of the table.
        labels : str or array-like of length n_cells, optional
            Column that holds the class of each cell, or the classes. Default: the column ``label``, if there is one.
        families : {"number", "prefix", "column"} or mapping of str to sequence of str, default "number"
            How features are grouped into families. "number": columns such as ``psth_0`` and ``psth_1`` are the family ``psth``, every
            other column is a family of its own. "prefix": columns that agree in the part of the name before the first ``_``, ``.``,
            ``-`` or blank. "column": every column. A mapping gives the columns of each family; then other columns are no features.
        cell, donor, species : str, optional
            Columns that hold identifier, donor and species of each cell. Default: the index of the data frame, and the columns
            ``donor`` and ``species``, if there are such.
        provenance : mapping, optional
            Origin of the values; anything that JSON can hold.

        Returns
        -------
        FeatureTable
            The table.

        Raises
        ------
        TableError
            If it is no data frame, has no such column or no column of numbers, identifiers are not unique, or a cell has no value.

        Examples
        --------
        >>> import pandas
        >>> frame = pandas.DataFrame(
        ...     {"ap_width": [0.4, 0.9], "ap_peak": [31.0, 25.0], "tau": [12.0, None], "type": ["Pvalb", "Sst"]}, ["c1", "c2"]
        ... )
        >>> table = FeatureTable.from_dataframe(frame, "type", families="prefix")
        >>> table.families, table.widths, table.cell.tolist(), table.label.tolist()
        (('ap', 'tau'), (2, 1), ['c1', 'c2'], ['Pvalb', 'Sst'])
        """
        from jaxephys.schemas.data_frames import read_data_frame  # late, since it imports this module

        options = {"families": families, "cell": cell, "donor": donor, "species": species, "provenance": provenance}
        return read_data_frame(frame, labels, **options)

    @classmethod
    def read(cls, path: str | Path) -> FeatureTable:
        """Read a table and compare its content with the stored hash.

        Parameters
        ----------
        path : str or Path
            An ``.npz`` archive, or a folder that holds ``table.npz``.

        Returns
        -------
        FeatureTable
            The table.

        Raises
        ------
        TableError
            If there is no such file, it is damaged, it has another schema, or its content was changed after it was written.
        """
        path = Path(path) / FILE if Path(path).is_dir() else Path(path)
        arrays, provenance = read_table(path, "table", SCHEMA, {"about", *STORED})
        for name, (kinds, dimensions) in STORED.items():
            if arrays[name].dtype.kind not in kinds or arrays[name].ndim != dimensions:
                found = f"{arrays[name].dtype} of shape {arrays[name].shape}"
                raise TableError(
                    f"{path} is not a feature table: its {name} are {found}; build it again with data_prep"
                )
        return cls(
            values=arrays["values"].astype(np.float32),
            families=tuple(arrays["families"].tolist()),
            widths=tuple(arrays["widths"].tolist()),
            features=tuple(arrays["features"].tolist()),
            cell=arrays["cell"],
            observed=arrays["observed"],
            about=arrays["about"],
            provenance=provenance,
        )

    def write_file(self, path: str | Path) -> Path:
        """Write the table as one ``.npz`` archive; an existing file is replaced. See :meth:`write` for a folder.

        Parameters
        ----------
        path : str or Path
            File to write. No suffix is added. Its folder is created if needed.

        Returns
        -------
        Path
            The path of the archive.

        Examples
        --------
        >>> import tempfile, numpy as np
        >>> table = FeatureTable.from_arrays(np.eye(2) + 1, {"psth": 2}, ["Sst", "Vip"])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = table.write_file(f"{folder}/cells.npz")
        ...     FeatureTable.read(path).sha256 == table.sha256
        True
        """
        return write_table(path, SCHEMA, self._arrays(), self.provenance)

    save = write_file  # its name in version 0.1.0

    def write(self, folder: str | Path) -> Path:
        """Write the table as a folder with ``table.npz`` and a readable ``provenance.json``. See :meth:`write_file` for one file.

        Parameters
        ----------
        folder : str or Path
            Folder to write; it is created if needed. A table in it is replaced.

        Returns
        -------
        Path
            The path of ``table.npz``.
        """
        return write_table(Path(folder) / FILE, SCHEMA, self._arrays(), self.provenance, {"cells": len(self)})

    def __len__(self) -> int:
        return len(self.values)

    def __repr__(self) -> str:
        classes = "no labels" if self.label is None else f"{len(set(self.label) - set(UNLABELLED))} classes"
        return (
            f"FeatureTable({len(self)} cells, {len(self.families)} families, {len(self.features)} features, {classes})"
        )

    @property
    def label(self) -> Shaped[np.ndarray, "cell"] | None:
        """Class of each cell as text, "" where unknown; None if no cell has one."""
        return self._text("label")

    @property
    def donor(self) -> Shaped[np.ndarray, "cell"] | None:
        """Donor (animal or patient) of each cell as text, "" where unknown; None if no cell has one."""
        return self._text("donor")

    @property
    def species(self) -> Shaped[np.ndarray, "cell"] | None:
        """Species of each cell as text, "" where unknown; None if no cell has one."""
        return self._text("species")

    @property
    def classes(self) -> Shaped[np.ndarray, "class"]:
        """The different labels in alphabetical order; an error if a cell has none."""
        return np.unique(self._complete_labels())

    @property
    def columns(self) -> dict[str, slice]:
        """The columns of each family, by its name.

        Examples
        --------
        >>> import numpy as np
        >>> table = FeatureTable.from_arrays(np.arange(10.0).reshape(2, 5), {"isi_shape": 2, "psth": 3})
        >>> table.values[:, table.columns["psth"]].tolist()
        [[2.0, 3.0, 4.0], [7.0, 8.0, 9.0]]
        """
        ends = np.cumsum(self.widths).tolist()
        return {
            name: slice(end - width, end) for name, width, end in zip(self.families, self.widths, ends, strict=True)
        }

    @property
    def sha256(self) -> str:
        """Hash of the content without its provenance, see :func:`~jaxephys.schemas.storage.content_hash`."""
        return content_hash(self._arrays())

    def codes(self, classes: Shaped[np.ndarray, "class"] | None = None) -> Int[np.ndarray, "cell"]:
        """Return the class of each cell as an integer.

        Parameters
        ----------
        classes : ndarray of str, shape (n_classes,), optional
            Sorted class names that define the codes, such as those of a trained model. Default: the classes of this table.

        Returns
        -------
        ndarray of int32, shape (n_cells,)
            Index of each label in ``classes``.

        Raises
        ------
        TableError
            If a cell has no label or one that is not among ``classes``.

        Examples
        --------
        >>> import numpy as np
        >>> FeatureTable.from_arrays(np.ones((3, 1)), {"tau": 1}, ["Vip", "Sst", "Vip"]).codes().tolist()
        [1, 0, 1]
        """
        return encode_labels(self._complete_labels(), classes)

    def rows(self, chosen: Int[np.ndarray, "some"]) -> FeatureTable:
        """Return a table of some of the cells.

        Parameters
        ----------
        chosen : ndarray of int, shape (n_chosen,)
            Row indices of the cells, in the order of the new table.

        Returns
        -------
        FeatureTable
            The chosen cells with the same families and text columns.

        Examples
        --------
        >>> import numpy as np
        >>> table = FeatureTable.from_arrays(np.arange(1.0, 4.0)[:, None], {"tau": 1}, cell=["a", "b", "c"])
        >>> table.rows(np.array([2, 0])).cell.tolist()
        ['c', 'a']
        """
        per_cell = {name: getattr(self, name)[chosen] for name in ("values", "cell", "observed")}
        return replace(self, **per_cell, about={name: texts[chosen] for name, texts in self.about.items()})

    def with_label(self, label: Sequence[Any] | np.ndarray | None) -> FeatureTable:
        """Return the table with other labels.

        Parameters
        ----------
        label : array-like, shape (n_cells,), or None
            Class of each cell; stored as text. None removes the labels.

        Returns
        -------
        FeatureTable
            The same cells and features with these labels.

        Raises
        ------
        TableError
            If a cell gets an empty label.
        """
        others = {name: texts for name, texts in self.about.items() if name != "label"}
        if label is None:
            return replace(self, about=others)
        table = replace(self, about={"label": np.asarray(label).astype(str), **others})
        table._complete_labels()
        return table

    def labelled(self, by: str) -> FeatureTable:
        """Return the cells with a text in a column, which becomes their label.

        Parameters
        ----------
        by : str
            Name of a text column, such as ``subclass4``, ``subclass5`` or ``condition``.

        Returns
        -------
        FeatureTable
            The cells whose text is not empty.

        Raises
        ------
        TableError
            If the table has no such column, or no cell has a text in it.

        Examples
        --------
        >>> import numpy as np
        >>> about = {"subclass4": ["Vip", "", "Sst"], "condition": ["acute", "acute", "culture"]}
        >>> table = FeatureTable.from_arrays(np.ones((3, 2)), {"psth": 2}, about=about)
        >>> table.labelled("subclass4").label.tolist()
        ['Vip', 'Sst']
        """
        if by not in self.about:
            raise TableError(f"the table has no text column {by!r}: it has {', '.join(self.about) or 'none'}")
        chosen = self.rows(np.flatnonzero(self.about[by] != ""))
        return chosen.with_label(chosen.about[by])

    def _text(self, name: str) -> Shaped[np.ndarray, "cell"] | None:
        texts = self.about.get(name)
        return None if texts is None or (texts == "").all() else texts

    def _complete_labels(self) -> Shaped[np.ndarray, "cell"]:
        labels = self.about.get("label")
        if labels is None:
            raise TableError("the table has no labels: training needs one for each cell")
        missing = np.flatnonzero(np.isin(labels, UNLABELLED))
        if len(missing):
            raise TableError(
                f"cell {self.cell[missing[0]]} has no label, and {len(missing) - 1} others: label them or leave them out"
            )
        return labels

    def _arrays(self) -> dict[str, Any]:
        return {
            "values": self.values.astype(np.float32),
            "observed": self.observed,
            "families": np.array(self.families),
            "widths": np.array(self.widths, np.int32),
            "features": np.array(self.features),
            "cell": self.cell,
            "about": self.about,
        }


def group_features(names: Sequence[str]) -> dict[str, list[str]]:
    """Group feature names into families by their form ``<family>_<number>``.

    Parameters
    ----------
    names : sequence of str
        Names of the columns of a table, in order.

    Returns
    -------
    dict of str to list of str
        The features of each family, in the order of ``names``. Neighboring columns such as ``first_ap_v_0`` and
        ``first_ap_v_1`` are the family ``first_ap_v``. A column whose name has no number is a family of its own, and so is
        every column of a family whose columns are not all neighbors or whose name is that of a column.

    Examples
    --------
    >>> group_features(["first_ap_v_0", "first_ap_v_1", "tau", "ri"])
    {'first_ap_v': ['first_ap_v_0', 'first_ap_v_1'], 'tau': ['tau'], 'ri': ['ri']}
    >>> group_features(["v_1", "i_1", "v_2"])
    {'v_1': ['v_1'], 'i': ['i_1'], 'v_2': ['v_2']}
    """
    stems = [re.sub(r"(?<=.)_\d+$", "", name) for name in names]
    columns, known = dict[str, list[int]](), set(names)
    for column, stem in enumerate(stems):
        columns.setdefault(stem, []).append(column)
    grouped: dict[str, list[str]] = {}
    for name, stem in zip(names, stems, strict=True):
        neighbors = columns[stem][-1] - columns[stem][0] == len(columns[stem]) - 1
        grouped.setdefault(stem if neighbors and stem not in known else name, []).append(name)
    return grouped


def _as_float32(values: Any) -> np.ndarray:
    """Convert features to an array of float32, or raise an error that names the type that cannot be converted."""
    if hasattr(values, "toarray"):
        raise TableError(f"values are a sparse {type(values).__name__}: give values.toarray()")
    values = np.asarray(values)
    if values.dtype.kind == "c":
        raise TableError(f"values are complex ({values.dtype}): give real numbers, such as their magnitude")
    try:
        return values.astype(np.float32, copy=False)
    except (TypeError, ValueError) as error:
        raise TableError(
            f"values of type {values.dtype} are no numbers ({error}): give numbers, NaN where missing"
        ) from None


def _check_shapes(table: FeatureTable) -> None:
    cells, columns = table.values.shape if table.values.ndim == 2 else (-1, -1)
    if cells < 1 or columns < 1:
        raise TableError(f"values have shape {table.values.shape}: a table is [cell, column] with at least one of each")
    if len(table.families) != len(table.widths) or sum(table.widths) != columns or min(table.widths) < 1:
        raise TableError(
            f"{len(table.families)} families of widths {table.widths} do not make up the {columns} columns of values"
        )
    if len(table.features) != columns:
        raise TableError(f"there are {len(table.features)} feature names for {columns} columns")
    if len(set(table.families)) != len(table.families):
        raise TableError(f"a family occurs twice in {', '.join(table.families)}: give each family its own name")
    if np.shape(table.observed) != (cells, columns):
        raise TableError(f"observed has shape {np.shape(table.observed)}, but the values have {table.values.shape}")


def _check_values(table: FeatureTable) -> None:
    missing = np.isnan(table.values)
    for wrong, problem in (
        (np.isinf(table.values), "neither a number nor missing"),
        (missing & table.observed, "marked as observed"),
    ):
        if wrong.any():
            row, column = np.argwhere(wrong)[0]
            raise TableError(
                f"feature {table.features[column]!r} of cell {table.cell[row]} is {table.values[row, column]}, but it is "
                f"{problem}: give NaN for a missing value"
            )
    empty = missing.all(axis=1)
    if empty.any():
        raise TableError(f"cell {table.cell[empty.argmax()]} has no value at all: leave it out")
