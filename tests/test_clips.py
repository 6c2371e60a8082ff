"""Recipes make the data they say, and a recipe trained twice gives the same model."""

import torch

from vlmcourse import clips
from vlmcourse.data.pixels import normalise
from vlmcourse.data.text import EOS, load_tokenizer
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


def test_without_a_twin_the_second_scene_is_another():
    images, _ = clips.scene_pairs(10, twin=False)
    twins, _ = clips.scene_pairs(10)
    assert torch.equal(images[:, 0], twins[:, 0]) and not torch.equal(images[:, 1], twins[:, 1])


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
