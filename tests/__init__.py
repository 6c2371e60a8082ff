"""Tests: what the course promises.  Under them every annotation of the rooms named in pyproject.toml is checked."""

from beartype import BeartypeConf, beartype

typechecked = beartype(conf=BeartypeConf(is_pep484_tower=True))  # where a float is asked for, an int will do
