"""Reading the tensors of a file written by ``torch.save`` or Lightning, without PyTorch and without executing its pickle.

Such a file is a zip archive: ``NAME/data.pkl`` describes the objects, ``NAME/data/0``, ``NAME/data/1``, ... contain the numbers and
``NAME/byteorder`` the byte order. A pickle is a program that may call any function. Here it may only rebuild tensors and ordered
dictionaries; every other name in it becomes an inert object that remembers the name and does nothing.
"""

from __future__ import annotations

import io
import math
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np

from jaxephys.engine.checkpoint import CheckpointError

STORAGES = {
    "FloatStorage": np.float32,
    "DoubleStorage": np.float64,
    "HalfStorage": np.float16,
    "BFloat16Storage": jnp.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
    "ComplexFloatStorage": np.complex64,
    "ComplexDoubleStorage": np.complex128,
}
OLD_FORMAT = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)[:-1]  # first bytes of a file of PyTorch before 1.6


def read_state_dict(path: str | Path) -> dict[str, np.ndarray]:
    """Read a state dict, or a Lightning checkpoint that has one under ``state_dict``.

    Parameters
    ----------
    path : str or Path
        File with the ending .ckpt, .pt or .pth.

    Returns
    -------
    dict of arrays
        Tensors by name. They are read-only views.

    Raises
    ------
    CheckpointError
        If the file is damaged or contains something other than tensors in the state dict.
    """
    content = read_torch_file(path)
    table = content.get("state_dict", content) if isinstance(content, dict) else content
    if not isinstance(table, dict):
        raise CheckpointError(
            f"{path} contains {_type_name(table)} instead of a table of tensors: it is no checkpoint, and no code in it was executed"
        )
    for name, value in table.items():
        if not isinstance(name, str) or not isinstance(value, np.ndarray):
            raise CheckpointError(
                f"{path} contains {_type_name(value)} under {name!r} instead of a tensor: save the state_dict alone "
                "(no code in it was executed)"
            )
    return dict(table)


def read_torch_file(path: str | Path) -> Any:
    """Read the object in a file of ``torch.save``.

    Parameters
    ----------
    path : str or Path
        The file.

    Returns
    -------
    object
        Dictionaries, lists, numbers and NumPy arrays, with `InertObject` for everything else.

    Raises
    ------
    CheckpointError
        If the file is damaged or not of this format.
    """
    with open(path, "rb") as file:
        if file.read(len(OLD_FORMAT)) == OLD_FORMAT:
            raise CheckpointError(f"{path} is in the format of torch before 1.6: load it and save it with a newer one")
    if not zipfile.is_zipfile(path):
        raise CheckpointError(f"{path} is no zip, as a PyTorch checkpoint is: give the .ckpt, .pt or .pth file itself")
    try:
        with zipfile.ZipFile(path) as archive:
            roots = [name.removesuffix("data.pkl") for name in archive.namelist() if name.endswith("/data.pkl")]
            if len(roots) != 1:
                raise CheckpointError(f"it has {len(roots)} records data.pkl, but a PyTorch checkpoint has one")
            return TensorUnpickler(archive, roots[0]).load()
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except Exception as error:  # pickle and zipfile raise a dozen types of exceptions for a damaged file
        raise CheckpointError(f"{path} is damaged ({error}): download or save it again") from error


class InertObject:
    """Replacement of a class or function that a pickle names, and of what it would return. It accepts every use and does nothing.

    Parameters
    ----------
    *args, **kwargs : object
        Ignored.
    """

    origin = ""

    def __new__(cls, *args: Any, **kwargs: Any) -> InertObject:
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __call__(self, *args: Any, **kwargs: Any) -> InertObject:
        return self

    def _ignore(self, *args: Any) -> None:
        pass

    __setstate__ = __setitem__ = append = extend = add = _ignore


class TensorUnpickler(pickle.Unpickler):
    """An unpickler that only rebuilds tensors, as read-only views of the buffers that they were read into.

    Parameters
    ----------
    archive : zipfile.ZipFile
        The file.
    root : str
        Folder of the record ``data.pkl`` in the archive.
    """

    def __init__(self, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(io.BytesIO(archive.read(f"{root}data.pkl")))
        order = archive.read(f"{root}byteorder") if f"{root}byteorder" in archive.namelist() else b"little"
        if order not in (b"little", b"big"):
            raise CheckpointError(f"the byte order is {order!r}, neither little nor big")
        self._archive, self._root = archive, root
        self._order: Literal["<", ">"] = "<" if order == b"little" else ">"
        self._storages: dict[str, np.ndarray] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Return what a name in the pickle means. It returns bound methods, whose attributes a pickle cannot set.

        Parameters
        ----------
        module, name : str
            Module and name of a class or function.

        Returns
        -------
        object
            A method that rebuilds tensors, ``OrderedDict``, the name of a number format, or a subclass of `InertObject`.
        """
        if module == "torch" and name in STORAGES:
            return name
        admitted = {
            "torch._utils._rebuild_tensor_v2": self._tensor,
            "torch._utils._rebuild_parameter": self._parameter,
            "collections.OrderedDict": OrderedDict,
        }
        full_name = f"{module}.{name}"
        return admitted.get(full_name) or type(name, (InertObject,), {"origin": full_name})

    def persistent_load(self, pid: Any) -> np.ndarray:
        """Return the numbers of a storage.

        Parameters
        ----------
        pid : tuple
            ``("storage", type, key, device, count)``.

        Returns
        -------
        array (count,)
            Its numbers.
        """
        word, kind, key, _, count = pid
        if word != "storage" or not isinstance(kind, str) or kind not in STORAGES:
            raise CheckpointError(f"numbers of the kind {_type_name(kind)} cannot be read: save them as float32")
        if key not in self._storages:
            raw = self._archive.read(f"{self._root}data/{key}")
            dtype = np.dtype(STORAGES[kind])
            self._storages[key] = np.frombuffer(raw, dtype if dtype.itemsize == 1 else dtype.newbyteorder(self._order))
        storage = self._storages[key]
        if len(storage) != count:
            raise CheckpointError(f"record {key} has {len(storage)} numbers instead of {count}: download it again")
        return storage

    def _tensor(self, storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> np.ndarray:
        """Return the view of a storage. Its limits are checked, because strides could address memory outside the storage."""
        if not isinstance(storage, np.ndarray) or not isinstance(size, tuple) or not isinstance(stride, tuple):
            raise CheckpointError(f"a tensor is made of {_type_name(storage)}: it is no checkpoint")
        numbers = (offset, *size, *stride)
        if len(size) != len(stride) or not all(isinstance(number, int) and number >= 0 for number in numbers):
            raise CheckpointError(f"a tensor has the offset, sizes and strides {numbers}: it is no checkpoint")
        last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
        if math.prod(size) and last >= len(storage):
            raise CheckpointError(f"a tensor reaches to number {last} of {len(storage)}: it is no checkpoint")
        steps = tuple(step * storage.itemsize for step in stride)
        return np.lib.stride_tricks.as_strided(storage[offset:], size, steps, writeable=False)

    def _parameter(self, tensor: Any, *_: Any) -> Any:
        return tensor


def _type_name(value: Any) -> str:
    """Return the name of the type of an object, or of a type; for an inert object, the name that the pickle gave."""
    kind = value if isinstance(value, type) else type(value)
    return kind.origin if issubclass(kind, InertObject) else kind.__name__
