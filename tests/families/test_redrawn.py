"""Which words a drawing deserves, and a projector that learns to choose them."""

import numpy as np
import pytest
import torch

from vlmcourse.data import openmoji
from vlmcourse.data.redrawing import Move, redraw
from vlmcourse.families import redrawn
from vlmcourse.models.choosing import ChoosingProjector


def test_words_of_a_drawing():
    part = openmoji.Parts("playing water polo now", "woman", "medium-dark")
    assert redrawn.words_of(part) == ["playing", "water", "polo now", "woman", "medium-dark"]
    assert redrawn.words_of(openmoji.Parts("astronaut", "man")) == ["astronaut", "", "", "man", ""]


def test_training_shows_people_and_every_held_out_word():
    train, rows = openmoji.load("train"), redrawn.people()
    assert all(train.parts[row].gender or train.parts[row].tone for row in rows) and len(rows) == 1337
    lists = redrawn.word_lists()
    assert lists[3] == ["", "man", "person", "woman"] and set(lists[4]) == {"", *openmoji.TONES}
    for part in openmoji.load("heldout").parts:
        assert all(word in names for names, word in zip(lists, redrawn.words_of(part), strict=True))


def test_a_projector_learns_to_choose():
    torch.manual_seed(0)
    chosen = torch.stack([torch.randint(3, (400,)), torch.randint(2, (400,))], 1)
    signs = torch.cat([torch.nn.functional.one_hot(chosen[:, 0], 3), chosen[:, 1:]], 1).float()
    features = (50 + 9 * (signs @ torch.randn(4, 12) + 0.1 * torch.randn(400, 12)))[:, None]
    projector = ChoosingProjector(12, 8, [torch.randn(3, 5), torch.randn(2, 5)])
    history = redrawn.choose_words(projector, features, chosen, steps=120, size=64, lr=0.02)
    assert history.losses[-1] < 0.3 * history.losses[0] and not projector.expand.weight.requires_grad
    right = torch.stack([scores.argmax(1) for scores in projector.scores(features)], 1) == chosen
    assert right.float().mean() > 0.98


class Counted(torch.nn.Module):
    """An eye that counts what it looks at."""

    config = type("Config", (), dict(patch_size=16, width=4))

    def __init__(self):
        super().__init__()
        self.weight, self.seen = torch.nn.Parameter(torch.ones(1)), 0

    def patches(self, images, layer):
        self.seen += len(images)
        assert layer == redrawn.LAYER
        return images.mean((2, 3), keepdim=False).repeat(1, 2)[:, None, :4] * self.weight


def test_what_the_eye_said_is_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    eye, rows = Counted(), np.arange(130)
    first = redrawn.summaries(eye, "heldout", rows)
    assert eye.seen == 130 and first.shape == (130, 1, 4)
    expected = eye.patches(redrawn.to_tensor(redraw("heldout", rows, side=16)), redrawn.LAYER)
    torch.testing.assert_close(first, expected, atol=1e-3, rtol=0)
    eye.seen = 0
    assert torch.equal(redrawn.summaries(eye, "heldout", rows), first) and eye.seen == 0
    broken = sorted((tmp_path / "vlmcourse" / "summaries").iterdir())[0]
    broken.write_bytes(b"half")
    assert torch.equal(redrawn.summaries(eye, "heldout", rows), first) and eye.seen in (30, 100)
    eye.seen = 0
    redrawn.summaries(eye, "heldout", rows, Move(turn=9.0))
    assert eye.seen == 130  # other pixels
    with torch.no_grad():
        eye.weight += 1
    assert (
        redrawn.summaries(eye, "heldout", rows)[0, 0, 0] != pytest.approx(first[0, 0, 0]) and eye.seen == 260
    )
