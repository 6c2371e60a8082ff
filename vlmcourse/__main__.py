"""``python -m vlmcourse``: the same as the command ``vlmcourse``."""

from vlmcourse.cli import app

app()
