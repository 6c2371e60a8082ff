"""An eye learns what stands in each patch."""

import numpy as np
import pytest
import torch

from vlmcourse.families.native import new_native, run
from vlmcourse.recipes.nano_native import NANO_NATIVE
from vlmcourse.training.patchwise import (
    NONE,
    SPLIT_SCORES,
    PatchReader,
    patch_loss,
    patch_truth,
    scene_things,
    teach_patches,
)
from vlmcourse.world import pages, scenes
from vlmcourse.world.sheets import CHARACTERS, DRAWN
from vlmcourse.world.truth import list_things

CIRCLE, BAR = DRAWN.index("circle"), DRAWN.index("bar")


def truth(*things, size=(16, 24)):
    return patch_truth(np.array(things), size).reshape(size[0] // 8, size[1] // 8, 8)


def test_where_nothing_stands_every_class_is_none():
    found = patch_truth(np.zeros((0, 6), int), (16, 24))
    assert found.shape == (6, 8)
    assert (found[:, :4] == NONE).all() and np.isnan(found[:, 4:]).all()
    assert tuple(NONE) == tuple(scores - 1 for scores in SPLIT_SCORES[:4])


def test_a_letter_belongs_to_the_half_patch_of_its_middle():
    # middles (3.5, 4.5), (9.5, 4.5) and (15.5, 12.5)
    found = truth((1, 1, 6, 8, 0, -1), (7, 1, 12, 8, 7, -1), (13, 9, 18, 16, 12, -1))
    assert found[0, 0, :2].tolist() == [0, NONE[1]]
    assert found[0, 1, :2].tolist() == [7, NONE[1]]
    assert found[1, 1, :2].tolist() == [NONE[0], 12]
    assert (found[..., 2:4] == NONE[2:]).all() and np.isnan(found[..., 4:]).all()
    assert (found[..., :2] != NONE[:2]).sum() == 3


def test_a_mark_belongs_to_one_patch_and_says_how_far_its_edges_are():
    found = truth((8, 1, 15, 8, CIRCLE, 3))  # the middle of its patch is at (12, 4)
    assert found[0, 1, 2:].tolist() == [0, 3, 4 / 8, 3 / 8, 3 / 8, 4 / 8]
    assert (found[..., 2] != NONE[2]).sum() == 1


def test_a_large_thing_belongs_to_all_patches_whose_middles_it_covers():
    found = truth((4, 2, 21, 13, CIRCLE, 1))  # middles 4, 12 and 20 across, 4 and 12 down
    assert (found[..., 2] == 0).all() and (found[..., 3] == 1).all()
    assert found[1, 2, 4:].tolist() == [16 / 8, 10 / 8, 1 / 8, 1 / 8]
    assert (truth((4, 2, 20, 12, CIRCLE, 1))[..., 3] == 1).sum() == 2  # right and bottom are exclusive


def test_a_thin_bar_belongs_to_the_patches_along_its_middle():
    found = truth((5, 2, 10, 13, BAR, 2))  # no middle from 5 to 10; its own is at 7.5
    assert (found[..., 2] == BAR - len(CHARACTERS)).tolist() == [[True, False, False]] * 2
    assert found[0, 0, 4:].tolist() == [-1 / 8, 2 / 8, 6 / 8, 9 / 8]


def test_of_scenes_things_are_their_objects():
    batch = scenes.sample("train", 5)
    for number, things in enumerate(scene_things(batch)):
        objects = list_things(batch, number)
        assert things[:, :4].tolist() == [list(one.box) for one in objects]
        assert [DRAWN[what] for what in things[:, 4]] == [scenes.SHAPES[one.shape] for one in objects]
        assert things[:, 5].tolist() == [one.colour for one in objects]


def test_the_loss_by_hand():
    right = torch.from_numpy(truth((8, 1, 15, 8, CIRCLE, 3), size=(8, 16)).reshape(-1, 8)).float()
    scores = [torch.zeros(2, count) for count in SPLIT_SCORES]
    signs, shape, colour = (np.log(SPLIT_SCORES[place]) for place in (0, 2, 3))
    # signs: nothing anywhere; shape and colour: one patch with something, one without, each as important
    classes = 2 * signs + 2 * shape + 2 * colour
    misses = np.array([4, 3, 3, 4]) / 8 - 0.05  # Huber with beta 0.1
    assert patch_loss(scores, right).item() == pytest.approx(classes + 3 * misses.mean(), rel=1e-5)
    nothing = patch_loss([part[:1] for part in scores], right[:1])
    assert nothing.item() == pytest.approx(2 * signs + shape + colour, rel=1e-5)


def test_many_empty_patches_do_not_outweigh_a_full_one():
    right = torch.from_numpy(truth((8, 1, 15, 8, CIRCLE, 3), size=(8, 80)).reshape(-1, 8)).float()
    scores = [torch.zeros(10, count) for count in SPLIT_SCORES]
    few = patch_loss([part[:2] for part in scores], right[:2])
    assert patch_loss(scores, right).item() == pytest.approx(few.item(), rel=1e-5)


def test_an_eye_learns_what_it_is_shown():
    torch.manual_seed(0)
    reader = PatchReader(new_native().vision)
    batch = pages.sample_pages("train", 8, sizes=[(64, 64), (64, 128)])
    before = [part.clone() for part in reader.eye.parameters()]
    history = teach_patches(reader, batch.pictures, batch.shown, size=4, steps=12)
    assert np.mean(history.losses[-3:]) < 0.7 * history.losses[0]
    assert any(not torch.equal(old, new) for old, new in zip(before, reader.eye.parameters(), strict=True))


def test_the_first_stage_of_the_recipe_leaves_projector_and_language_alone():
    recipe = NANO_NATIVE.until("eye").vary("eye", steps=2, size=2, data=dict(pages=4, scenes=2))
    start = new_native(recipe).state_dict()
    (made,) = run(recipe, lambda stage, model: {})
    changed = {name for name, part in made.stored.state_dict().items() if not torch.equal(part, start[name])}
    assert changed and all(name.startswith("vision.") for name in changed)
