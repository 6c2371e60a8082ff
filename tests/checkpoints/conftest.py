"""SmolLM2 is read once, whichever of its models are tested."""

import copy

import pytest

from vlmcourse.families import real
from vlmcourse.interop import hub


@pytest.fixture(scope="session")
def load_real():
    """real.load_real, with a copy of the language model that is in memory already."""
    language, tokenizer = hub.load_smollm2()
    return lambda name: real.load_real(name, (copy.deepcopy(language), tokenizer))
