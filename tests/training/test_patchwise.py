"""An eye learns what stands in each patch."""

import numpy as np
import pytest
import torch

from vlmcourse.families.native import new_native, run
from vlmcourse.models.native import cut_pictures
from vlmcourse.recipes.nano_native import NANO_NATIVE
from vlmcourse.training import patchwise
from vlmcourse.training.patchwise import (
    CLASSES,
    SPLIT_SCORES,
    PatchReader,
    letters_right,
    patch_loss,
    patch_truth,
    scene_things,
    teach_patches,
)
from vlmcourse.world import pages, scenes
from vlmcourse.world.render import to_tensor
from vlmcourse.world.sheets import DRAWN
from vlmcourse.world.truth import list_things

CIRCLE, BAR = DRAWN.index("circle"), DRAWN.index("bar")


def truth(*things, size=(16, 24)):
    return patch_truth(np.array(things), size).reshape(size[0] // 8, size[1] // 8, 12)


def test_where_nothing_stands_every_class_is_none():
    found = patch_truth(np.zeros((0, 8), int), (16, 24))
    assert found.shape == (6, 12)
    assert (found[:, :8] == CLASSES).all() and np.isnan(found[:, 8:]).all()
    assert CLASSES == (36, 36, 6, 6, 6, 7, 10, 9)
    assert SPLIT_SCORES == (37, 37, 7, 7, 7, 8, 11, 10, 4)


def test_a_letter_belongs_to_the_half_patch_of_its_middle():
    # middles (3.5, 4.5), (9.5, 4.5) and (15.5, 12.5)
    found = truth((1, 1, 6, 8, 0, -1, 3, -1), (7, 1, 12, 8, 7, -1, 4, -1), (13, 9, 18, 16, 12, -1, 0, 8))
    assert found[0, 0, :4].tolist() == [0, 36, 3, 6]
    assert found[0, 1, :4].tolist() == [7, 36, 4, 6]
    assert found[1, 1, :4].tolist() == [36, 12, 6, 0]
    assert found[..., 7].tolist() == [[9, 9, 9], [9, 8, 9]]  # in the last cell of a table
    assert (found[..., 4:7] == CLASSES[4:7]).all() and np.isnan(found[..., 8:]).all()
    assert (found[..., :2] != 36).sum() == 3


def test_of_a_number_each_digit_says_in_which_cell_it_is():
    found = truth((1, 1, 6, 8, 4, -1, 0, 0), (7, 1, 12, 8, 5, -1, 1, 0))
    assert found[0, :2, 7].tolist() == [0, 0] and found[0, :2, 2].tolist() == [0, 1]
    both = truth((0, 1, 5, 8, 4, -1, 0, 2), (4, 1, 9, 8, 5, -1, 1, -1))  # one patch: a digit, and a letter
    assert both[0, 0].tolist()[:4] == [4, 5, 0, 1] and both[0, 0, 7] == 2


def test_a_mark_belongs_to_one_patch_and_says_how_far_its_edges_are():
    found = truth((8, 1, 15, 8, CIRCLE, 3, 0, -1))  # the middle of its patch is at (12, 4)
    assert found[0, 1, 4:].tolist() == [0, 3, 10, 9, 4 / 8, 3 / 8, 3 / 8, 4 / 8]
    assert (found[..., 4] != 6).sum() == 1 and (found[..., :4] == CLASSES[:4]).all()


def test_a_large_thing_belongs_to_all_patches_whose_middles_it_covers():
    found = truth((4, 2, 21, 13, CIRCLE, 1, 0, -1))  # middles 4, 12 and 20 across, 4 and 12 down
    assert (found[..., 4] == 0).all() and (found[..., 5] == 1).all()
    assert found[1, 2, 8:].tolist() == [16 / 8, 10 / 8, 1 / 8, 1 / 8]
    assert (truth((4, 2, 20, 12, CIRCLE, 1, 0, -1))[..., 5] == 1).sum() == 2  # right and bottom are exclusive


def test_a_thin_bar_belongs_to_the_patches_along_its_middle():
    found = truth((5, 2, 10, 13, BAR, 2, 7, -1))  # no middle from 5 to 10; its own is at 7.5
    assert (found[..., 4] == 5).tolist() == [[True, False, False]] * 2
    assert found[0, 0, 5:].tolist() == [2, 7, 9, -1 / 8, 2 / 8, 6 / 8, 9 / 8]


def test_of_scenes_things_are_their_objects():
    batch = scenes.sample("train", 5)
    for number, things in enumerate(scene_things(batch)):
        objects = list_things(batch, number)
        assert things[:, :4].tolist() == [list(one.box) for one in objects]
        assert [DRAWN[what] for what in things[:, 4]] == [scenes.SHAPES[one.shape] for one in objects]
        assert things[:, 5].tolist() == [one.colour for one in objects]
        assert (things[:, 6:] == [0, -1]).all()


def test_the_loss_by_hand():
    right = torch.from_numpy(truth((8, 1, 15, 8, CIRCLE, 3, 0, -1), size=(8, 16)).reshape(-1, 12)).float()
    scores = [torch.zeros(2, count) for count in SPLIT_SCORES]
    each = np.log(SPLIT_SCORES[:-1])
    # a shape and its colour in one patch of two, nothing else in any; each case is as important
    misses = np.array([4, 3, 3, 4]) / 8 - 0.05  # Huber with beta 0.1
    expected = each.sum() + each[4] + each[5] + 3 * misses.mean()
    assert patch_loss(scores, right).item() == pytest.approx(expected, rel=1e-5)
    nothing = patch_loss([part[:1] for part in scores], right[:1])
    assert nothing.item() == pytest.approx(each.sum(), rel=1e-5)


def test_many_empty_patches_do_not_outweigh_a_full_one():
    right = torch.from_numpy(truth((8, 1, 15, 8, CIRCLE, 3, 0, -1), size=(8, 80)).reshape(-1, 12)).float()
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


def test_letters_are_counted_in_the_halves_of_patches_in_which_they_stand(monkeypatch):
    batch, reader = pages.sample_pages("test", 6, kind="words"), PatchReader(new_native().vision)
    place, share = iter(range(6)), []

    def forward(_):
        number = next(place)
        true = torch.from_numpy(patch_truth(batch.shown[number], batch.sizes[number]))[:, :2].long()
        if number == 2:  # of one page every letter is taken for the next one of the alphabet
            true = (true + 1) % 37
        share.append(len(batch.shown[number]))
        return [torch.nn.functional.one_hot(half, 37).float() for half in true.unbind(1)]

    monkeypatch.setattr(reader, "forward", forward)
    found = letters_right(reader, batch)
    assert found == pytest.approx(1 - share[2] / sum(share))
    with pytest.raises(ValueError, match="nothing is written"):
        letters_right(PatchReader(new_native().vision), pages.sample_pages("test", 2, kind="marks"))


def test_each_patch_is_read_by_itself():
    reader = PatchReader(new_native().vision)
    pictures = [
        to_tensor(page[None])[0] for page in pages.sample_pages("test", 2, sizes=[(64, 128)]).pictures
    ]
    with torch.no_grad():
        alone = reader(cut_pictures(pictures[:1], 8))
        both = reader(cut_pictures(pictures, 8))
    for one, two in zip(alone, both, strict=True):
        torch.testing.assert_close(two[: len(one)], one, atol=1e-4, rtol=1e-4)


def test_another_seed_shows_pages_in_another_order_and_precision_fits_a_step(monkeypatch):
    batch, asked = pages.sample_pages("train", 6, sizes=[(64, 64), (64, 128)]), []
    monkeypatch.setattr(patchwise, "precision_of", lambda *given: asked.append(given) or "no")
    losses = []
    for seed in (0, 1):
        torch.manual_seed(0)
        reader = PatchReader(new_native().vision)
        losses += teach_patches(reader, batch.pictures, batch.shown, size=2, steps=1, seed=seed).losses
    assert losses[0] != losses[1]
    mean = sum(height * width for height, width in batch.sizes) / 64 / 6
    assert asked == [(int(2 * mean), 96)] * 2
