"""Recipes make the data they say, and a recipe trained twice gives the same model."""

import math

import pytest
import torch

from vlmcourse.data.pixels import normalise
from vlmcourse.data.text import EOS, load_tokenizer
from vlmcourse.families import clips
from vlmcourse.families.clips import scene_pairs
from vlmcourse.recipes.clip import CLIP_OPENMOJI, CLIP_ORDER, CLIP_SCENES
from vlmcourse.world import scenes
from vlmcourse.world.scenes import COLOURS


def test_a_scene_stands_beside_its_twin():
    images, ids = clips.scene_pairs(40)
    assert images.shape == (40, 2, 64, 64, 3) and ids.shape == (40, 2, clips.TEXT_LENGTH)
    decoded = [load_tokenizer().decode(pair) for pair in ids]
    changed = [sum(a != b for a, b in zip(*map(str.split, texts), strict=True)) for texts in decoded]
    assert (
        set(changed) <= {0, 1} and sum(changed) > 20
    )  # short captions of one object in two may not name the change
    assert (images[:, 0] != images[:, 1]).flatten(1).any(1).all()


def test_what_is_grey_is_told_without_colours():
    images, ids = clips.scene_pairs(60, grey=0.5)
    pale = (images == images[..., :1]).flatten(1).all(1)
    assert 15 < pale.sum() < 45
    named = [
        any(c in text for c in COLOURS) for pair in ids for text in [" ".join(load_tokenizer().decode(pair))]
    ]
    assert named == (~pale).tolist()


def test_only_the_order_of_words_tells_a_pair_apart():
    images, ids = clips.order_pairs(30)
    assert images.shape == (30, 2, 64, 64, 3) and (images[:, 0] != images[:, 1]).flatten(1).any(1).all()
    assert torch.equal(ids[:, 0].sort(1).values, ids[:, 1].sort(1).values)
    assert (ids[:, 0] != ids[:, 1]).any(1).all()


def test_training_is_the_same_every_time():
    pairs, losses = clips.scene_pairs(64), []
    for _ in range(2):
        torch.manual_seed(0)
        model = clips.new_clip(16, 32, normalise(pairs[0][:, 0]))
        losses.append(
            clips.train_clip(model, pairs, steps=3, lr=1e-3, batch=32, shift=1, precision="no").losses
        )
    assert losses[0] == losses[1]


def test_scene_prompts_name_every_class():
    assert [len(clips.scene_prompts(what)) for what in ("colour", "shape")] == [7, 5]
    assert all("red" in text for text in clips.scene_prompts("colour")[2])
    ids, _ = load_tokenizer().encode(clips.scene_prompts("shape")[4])
    assert all("star" in text for text in load_tokenizer().decode(ids)) and (ids == EOS).any(1).all()


def test_retrieval_candidates_are_all_different():
    batch, texts = clips.unique_scenes(100)
    assert len(batch) == len(set(texts)) == 100


def test_twins_stay_together_in_a_batch_and_the_rates_are_those_of_the_recipe(monkeypatch):
    noted = []
    monkeypatch.setattr(
        clips, "learn", lambda model, batches, loss, **options: noted.append((batches, loss, options))
    )
    monkeypatch.setattr(
        clips, "scene_pairs", lambda count, **data: noted.append((count, data)) or scene_pairs(96)
    )
    (made,) = clips.run(CLIP_SCENES, lambda stage, model: {"watch": stage.name})
    (count, data), (batches, loss, options) = noted
    assert (count, data) == (20_000, dict(grey=0.5, seed=0)) and made.stage.ships == "clip-scenes"
    images, ids = next(batches.stream())
    assert images.shape[:2] == ids.shape[:2] == (64, 2)  # 128 images, two by two
    assert (images[:, 0] != images[:, 1]).flatten(1).any(1).all()
    groups = options["optimizer"].param_groups
    assert {group["lr"] for group in groups} == {3e-3} and groups[0]["weight_decay"] == 0.05
    assert options["steps"] == 2000 and options["watch"] == "contrast"
    assert loss(made.stored, (images, ids)).item() == pytest.approx(math.log(128), rel=0.1)


@pytest.mark.parametrize("recipe", [CLIP_SCENES, CLIP_ORDER, CLIP_OPENMOJI], ids=lambda recipe: recipe.name)
def test_each_recipe_learns_from_its_own_pairs(monkeypatch, recipe):
    for name in ("scene_pairs", "order_pairs", "emoji_pairs"):
        monkeypatch.setattr(clips, name, lambda *sizes, name=name, **data: (name, *sizes, *data.values()))
    assert (
        clips.pairs_of(recipe.stages[0])
        == {
            "clip-scenes": ("scene_pairs", 20_000, 0.5, 0),
            "clip-order": ("order_pairs", 12_000, 1),
            "clip-openmoji": ("emoji_pairs", "train"),
        }[recipe.name]
    )


def test_images_are_moved_all_the_same_way_and_only_if_the_recipe_says_so(monkeypatch):
    seen, losses = [], []
    monkeypatch.setattr(clips, "learn", lambda model, batches, loss, **options: losses.append(loss))
    pairs = scene_pairs(16)
    model = clips.new_clip(16, 32, normalise(pairs[0][:, 0]))

    def tells(images, ids):
        seen.append(images)
        return torch.eye(2), torch.eye(2), torch.tensor(1.0)

    monkeypatch.setattr(model, "forward", tells)
    still = normalise(pairs[0].flatten(0, 1))
    for shift in (0, 2):
        clips.train_clip(model, pairs, steps=1, lr=1e-3, batch=32, shift=shift, precision="no")
    losses[0](model, pairs)
    assert torch.equal(seen[0], still)
    moves = set()
    for _ in range(40):
        losses[1](model, pairs)
        ways = [
            (x, y)
            for x in range(-2, 3)
            for y in range(-2, 3)
            if torch.equal(seen[-1], still.roll((x, y), (2, 3)))
        ]
        moves |= set(ways[:1])
        assert ways
    assert {abs(x) for x, _ in moves} == {0, 1, 2} and len(moves) > 8


@pytest.mark.parametrize("what", ["colour", "shape"])
def test_names_are_asked_of_the_split_and_compared_with_that_attribute(monkeypatch, what):
    """A model that reads the truth from the number of the scene names everything right, in its own split."""
    drawn, sample = [], scenes.sample
    monkeypatch.setattr(scenes, "sample", lambda *a, **k: drawn.append((a, k)) or sample(*a, **k))
    batch = sample("novel", 30, objects=(1, 1))
    names = scenes.COLOURS if what == "colour" else scenes.SHAPES
    monkeypatch.setattr(clips, "text_features", lambda model, texts: named(texts, names))
    monkeypatch.setattr(
        clips, "image_features", lambda model, images: torch.eye(len(names))[getattr(batch, what)[:, 0]]
    )
    assert clips.zero_shot(None, "novel", what, 30) == 1.0
    assert drawn == [(("novel", 30), {"objects": (1, 1)})]


def named(texts, names) -> torch.Tensor:
    return torch.stack([torch.tensor([float(name in text.split()) for name in names]) for text in texts])
