"""Tests: what the course promises.  They check the annotations of the modules named in pyproject.toml."""

import subprocess
import sys
from pathlib import Path

from beartype import BeartypeConf, beartype

typechecked = beartype(conf=BeartypeConf(is_pep484_tower=True))  # where a float is asked for, an int will do


def in_a_process_of_its_own(check) -> None:
    """Call a function of a test module where annotations are not checked: that check cannot be compiled."""
    code = f"from {check.__module__} import {check.__name__} as check; check()"
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1], check=True)
