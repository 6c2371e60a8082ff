"""Tests: what the course promises, and the annotations of models, world, training and diagnostics.

Where annotations hold the sizes of arrays, jaxtyping checks them (the modules named in pyproject.toml). The
other modules ask small things a million times: beartype alone checks those, at a tenth of the price.
"""

import subprocess
import sys
from pathlib import Path

from beartype import BeartypeConf, beartype
from beartype.claw import beartype_packages

INT_FOR_FLOAT = BeartypeConf(is_pep484_tower=True)  # where a float is asked for, an int will do
typechecked = beartype(conf=INT_FOR_FLOAT)
WITHOUT_ARRAYS = ("exporting", "grammar", "instructions", "questions", "truth", "twins")
beartype_packages([f"vlmcourse.world.{name}" for name in WITHOUT_ARRAYS], conf=INT_FOR_FLOAT)


def in_a_process_of_its_own(check) -> None:
    """Call a function of a test module where annotations are not checked: that check cannot be compiled."""
    code = f"from {check.__module__} import {check.__name__} as check; check()"
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1], check=True)
