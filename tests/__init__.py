"""Tests: what the course promises.  They check the annotations of the modules named in pyproject.toml."""

from beartype import BeartypeConf, beartype

typechecked = beartype(conf=BeartypeConf(is_pep484_tower=True))  # where a float is asked for, an int will do
