"""The examples in docstrings run and print what they show."""

import doctest
import importlib
import re

import pytest

from tests.test_docstrings import modules, source_of

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def with_examples() -> list[str]:
    """Return the modules whose source holds an example."""
    return [name for name in modules() if re.search(r"^\s*>>> ", source_of(name).read_text(), flags=re.MULTILINE)]


@pytest.mark.parametrize("module", with_examples())
def test_examples_of_docstrings(module, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = doctest.testmod(importlib.import_module(module), optionflags=FLAGS)
    assert result.attempted > 0
    assert result.failed == 0


def test_the_public_classes_have_examples():
    import jaxephys

    for name in ("PatchSeqClassifier", "Hippie", "SpikeTransformer", "FeatureTable", "UnitTable", "Recording"):
        assert ">>> " in (getattr(jaxephys, name).__doc__ or ""), f"{name} has no example in its docstring"
