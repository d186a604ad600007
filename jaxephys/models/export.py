"""Trained models as programs that run without this package: :func:`export_model` writes one, :func:`load_exported` runs it.

The format ``stablehlo`` holds the whole computation, weights and calibration included, as one StableHLO program of any number of samples
for CPUs, NVIDIA GPUs and TPUs. ``jax.export.deserialize`` reads it too. The format ``numpy`` holds the arrays only, with a table of their
names. Both have ``signature.json``, which describes inputs and outputs, and ``README.md``.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import traverse_util

from jaxephys import __version__
from jaxephys.engine.compile_cache import use_persistent_cache
from jaxephys.engine.orbax_files import CheckpointError

FORMATS = ("stablehlo", "numpy")
PLATFORMS = ("cpu", "cuda", "tpu")
PROGRAM, SIGNATURE, README, EXPORT = "model.stablehlo", "signature.json", "README.md", "params.npz"
INSTALL = 'pip install "jaxephys[export]"'


class ExportedArray(NamedTuple):
    """An input or an output of an exported program.

    Parameters
    ----------
    name : str
        Name of the argument, or key of the result.
    shape : str
        Sizes of the axes, separated by commas. A letter stands for any number, such as ``"n, 12"``; ``"64*n, 10"`` for a multiple.
    dtype : str
        Type of the numbers, such as ``"float32"``.
    description : str
        What the array holds, with its unit, and how missing values are marked.
    """

    name: str
    shape: str
    dtype: str
    description: str


class ExportProgram(NamedTuple):
    """What an estimator exports.

    Parameters
    ----------
    function : callable
        Takes the inputs in their order and returns a dict of the outputs by name. It is traced by JAX.
    inputs : sequence of ExportedArray
        Arguments of the function.
    outputs : sequence of ExportedArray
        Results of the function. Their shapes are for people.
    notes : str
        How the inputs are prepared from raw data, as Markdown.
    """

    function: Callable[..., dict[str, Any]]
    inputs: Sequence[ExportedArray]
    outputs: Sequence[ExportedArray]
    notes: str


class ExportedModel:
    """A program that `export_model` has written. It is called with its inputs by name.

    Parameters
    ----------
    program : jax.export.Exported
        The program.
    signature : mapping
        Content of ``signature.json``.
    """

    def __init__(self, program: Any, signature: Mapping[str, Any]) -> None:
        self.program = program
        self.signature = signature
        use_persistent_cache()
        self._call = jax.jit(program.call)  # compiled once for each number of samples

    def __call__(self, **inputs: Any) -> dict[str, np.ndarray]:
        """Compute the outputs.

        Parameters
        ----------
        **inputs : array
            Inputs by name, as ``signature["inputs"]`` describes them. They are converted to the required type.

        Returns
        -------
        dict of str to array
            Outputs by name.

        Raises
        ------
        ValueError
            If an input is missing or unknown, or its shape does not fit.
        """
        expected = [ExportedArray(**array) for array in self.signature["inputs"]]
        names = [array.name for array in expected]
        if set(inputs) != set(names):
            raise ValueError(f"the inputs are {', '.join(sorted(inputs)) or 'missing'}: give {', '.join(names)}")
        arrays = [np.asarray(inputs[array.name], array.dtype) for array in expected]
        try:
            return {name: np.asarray(value) for name, value in self._call(*arrays).items()}
        except ValueError as error:
            shapes = ", ".join(f"{name} {array.shape}" for name, array in zip(names, arrays, strict=True))
            wanted = ", ".join(f"{array.name} ({array.shape})" for array in expected)
            raise ValueError(f"the inputs have the shapes {shapes}: give {wanted}") from error


def export_model(model: Any, folder: str | Path, format: str = "stablehlo") -> Path:
    """Write a fitted estimator as a program that needs neither its classes nor this package.

    Parameters
    ----------
    model : PatchSeqClassifier or Hippie or SpikeTransformer
        A fitted estimator.
    folder : str or Path
        The folder to create.
    format : {"stablehlo", "numpy"}, default "stablehlo"
        ``"stablehlo"``: the whole computation, for `load_exported` and for ``jax.export.deserialize``; needs the extra ``export``.
        ``"numpy"``: the arrays alone, in ``params.npz``.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    ValueError
        If the format is unknown, the folder exists, the estimator has no exported form, or the package ``flatbuffers`` is missing.

    Examples
    --------
    >>> import jaxephys
    >>> from jaxephys.hippie.synthetic import make_synthetic_units
    >>> units = make_synthetic_units(60)
    >>> model = jaxephys.Hippie(4, width=2, trunk="dense", seeds=2, max_epochs=2, progress=False).fit(units)
    >>> folder = export_model(model, "hippie_arrays", "numpy")
    >>> "params/z_mean/kernel" in np.load("hippie_arrays/params.npz")
    True
    """
    folder = Path(folder)
    if format not in FORMATS:
        raise ValueError(f"there is no format {format!r}: choose from {', '.join(FORMATS)}")
    if folder.exists():
        raise ValueError(f"{folder} exists: choose another name")
    program = model.export_program()
    arrays: dict[str, Any] = dict(traverse_util.flatten_dict(model._saved_arrays(), sep="/"))
    signature: dict[str, Any] = {
        "kind": type(model).__name__,
        "description": model.describe(),
        "format": format,
        "versions": {"jaxephys": __version__, "jax": jax.__version__},
        "inputs": [array._asdict() for array in program.inputs],
        "outputs": [array._asdict() for array in program.outputs],
    }
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        if format == "stablehlo":
            content = _serialize(program)
            signature |= {"platforms": list(PLATFORMS), "sha256": hashlib.sha256(content).hexdigest()}
            (temporary / PROGRAM).write_bytes(content)
        else:
            np.savez(temporary / EXPORT, allow_pickle=False, **arrays)
        (temporary / SIGNATURE).write_text(json.dumps(signature, indent=2) + "\n", encoding="utf-8")
        (temporary / README).write_text(_readme(signature, program, arrays), encoding="utf-8")
        temporary.chmod(0o755)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def load_exported(folder: str | Path) -> ExportedModel:
    """Load a program that `export_model` has written in the format ``stablehlo``.

    Parameters
    ----------
    folder : str or Path
        The folder.

    Returns
    -------
    ExportedModel
        The program, which is called with arrays.

    Raises
    ------
    CheckpointError
        If the folder holds no program, or a damaged one. It is a ``ValueError``.
    ValueError
        If the package ``flatbuffers`` is missing.

    Examples
    --------
    >>> program = load_exported("interneurons_stablehlo")  # doctest: +SKIP
    >>> program(values=table.values)["probability"]  # doctest: +SKIP
    """
    folder = Path(folder)
    try:
        signature = json.loads((folder / SIGNATURE).read_text(encoding="utf-8"))
        content = (folder / PROGRAM).read_bytes()
    except FileNotFoundError as error:
        name = Path(error.filename).name
        raise CheckpointError(
            f"{folder} holds no exported program: {name} is missing, export it as {FORMATS[0]}"
        ) from error
    except ValueError as error:
        raise CheckpointError(f"{folder / SIGNATURE} is damaged: export the model again") from error
    if hashlib.sha256(content).hexdigest() != signature.get("sha256"):
        raise CheckpointError(f"{folder / PROGRAM} was damaged or changed after the export: export the model again")
    _check_flatbuffers()
    return ExportedModel(_jax_export().deserialize(bytearray(content)), signature)


def _serialize(program: ExportProgram) -> bytes:
    """Trace a program for any number of samples and all platforms, with products in float32 on each of them."""
    _check_flatbuffers()
    export = _jax_export()
    scope = export.SymbolicScope()
    specs = [
        jax.ShapeDtypeStruct(export.symbolic_shape(array.shape, scope=scope), array.dtype) for array in program.inputs
    ]
    with jax.default_matmul_precision("float32"):
        return bytes(export.export(jax.jit(program.function), platforms=PLATFORMS)(*specs).serialize())


def _jax_export() -> Any:
    return importlib.import_module("jax.export")


def _check_flatbuffers() -> None:
    if importlib.util.find_spec("flatbuffers") is None:
        raise ValueError(f"the format {FORMATS[0]} needs the package flatbuffers: {INSTALL}")


def _readme(signature: Mapping[str, Any], program: ExportProgram, arrays: Mapping[str, np.ndarray]) -> str:
    parts = [f"# {signature['kind']}\n\n{signature['description']}. Exported by jaxephys {__version__}."]
    if signature["format"] == "stablehlo":
        arguments = ", ".join(f"{array.name}={array.name}" for array in program.inputs)
        parts.append(f"""## Run

```python
from jaxephys.models.export import load_exported

program = load_exported("FOLDER")
outputs = program({arguments})
```

Without jaxephys, with JAX and flatbuffers (a StableHLO program for {", ".join(PLATFORMS)}):

```python
import jax.export

program = jax.export.deserialize(bytearray(open("FOLDER/{PROGRAM}", "rb").read()))
outputs = program.call({", ".join(array.name for array in program.inputs)})
```""")
    else:
        rows = [f"| `{name}` | {leaf.dtype} | {leaf.shape} |" for name, leaf in sorted(arrays.items())]
        table = "\n".join(["| array | type | shape |", "|---|---|---|", *rows])
        parts.append(f"""## Arrays

`numpy.load("FOLDER/{EXPORT}")` reads them. The first axis of each is that of the networks of the ensemble. A `kernel` of a dense layer
has the shape (in, out), one of a convolution (width, in, out). The computation itself is in the format `stablehlo`.

{table}""")
    for heading, described in (("Inputs", program.inputs), ("Outputs", program.outputs)):
        rows = [f"| `{array.name}` | {array.dtype} | ({array.shape}) | {array.description} |" for array in described]
        parts.append("\n".join([f"## {heading}\n", "| name | type | shape | content |", "|---|---|---|---|", *rows]))
    return "\n\n".join([*parts, f"## Preparation\n\n{program.notes}"]) + "\n"
