"""A workspace of its own for every test, English cards, and references afterwards."""

import pytest

from vlmcourse.slots import REGISTRY
from vlmcourse.workbook import engine


@pytest.fixture(autouse=True)
def workspace(tmp_path, monkeypatch):
    monkeypatch.setenv("VLMCOURSE_WORKSPACE", str(tmp_path))
    monkeypatch.setattr(engine, "language", "en")
    monkeypatch.setattr(engine, "references", True)
    engine._hints_shown.clear()
    yield tmp_path
    for slot in REGISTRY.values():
        slot.reset()
        slot.mine = None
