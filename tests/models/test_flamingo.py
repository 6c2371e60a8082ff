"""What Flamingo promises beside being equal to transformers' (that is in tests/parity)."""

import pytest
import torch

from vlmcourse.models.flamingo import Flamingo, FlamingoConfig, media_mask, side_by_side
from vlmcourse.models.language import LlamaConfig
from vlmcourse.models.vit import ViTConfig

MARK = 9


def flamingo(**options) -> Flamingo:
    torch.manual_seed(0)
    vision = ViTConfig((16, 24), 8, width=16, depth=1, heads=2)
    config = FlamingoConfig(vision, LlamaConfig(30, 24, 3, 4), MARK, latents=4, resampler_part=8, **options)
    return Flamingo(config).eval()


def text(*places, length=12):
    ids = torch.randint(10, 30, (1, length), generator=torch.Generator().manual_seed(1))
    ids[0, list(places)] = MARK
    return ids


IMAGES = torch.randn(3, 3, 16, 24, generator=torch.Generator().manual_seed(2))


def test_closed_gates_leave_the_language_model_as_it_was():
    model, ids = flamingo(), text(3, 7)
    assert torch.equal(model(ids, IMAGES[:2]), model.language(ids))
    assert not torch.equal(flamingo(gate=0.5)(ids, IMAGES[:2]), model.language(ids))


def test_gates_that_are_closed_still_learn_and_nothing_behind_them_does():
    model = flamingo()
    model(text(3), IMAGES[:1]).square().mean().backward()
    for block in model.gated:
        assert block.look_gate.grad.abs() > 0 and block.think_gate.grad.abs() > 0
        assert block.attention.project_in.weight.grad.abs().max() == 0
    assert model.resampler.latents.grad.abs().max() == 0


@pytest.mark.parametrize("last_only, seen", [(True, [1]), (False, [0, 1])])
def test_a_word_sees_the_last_image_or_all_before_it_and_none_that_follows(last_only, seen):
    model, ids = flamingo(gate=0.5, last_only=last_only), text(3, 6, 9)
    whole = model(ids, IMAGES)
    for image in range(3):
        other = IMAGES.clone()
        other[image] += 1
        moved = (model(ids, other) - whole).abs().amax(-1)[0] > 1e-6
        assert not moved[:3].any()  # what stands before the first image sees none
        assert moved[8] or image not in seen
        if image == 2:
            assert not moved[:9].any() and moved[9]


def test_only_the_words_carry_an_image_that_is_not_the_last():
    """Directly a word behind the second image sees the second alone; with one block nothing else helps."""
    mask = media_mask(text(3, 6) == MARK, 2, True)[0]
    assert mask[:3].sum() == 0
    assert mask[3:6].tolist() == [[True, False]] * 3 and mask[6:].tolist() == [[False, True]] * 6
    every = media_mask(text(3, 6) == MARK, 2, False)[0]
    assert every[6:].all() and every[3:6].tolist() == [[True, False]] * 3


def test_texts_have_images_of_their_own_number():
    model = flamingo(gate=0.5)
    both = torch.cat([text(3, 7), text(5)])
    together = model(both, IMAGES)
    torch.testing.assert_close(together[:1], model(both[:1], IMAGES[:2]))
    torch.testing.assert_close(together[1:], model(both[1:], IMAGES[2:]))


def test_images_stand_beside_their_own_text():
    latents = torch.arange(6.0).reshape(3, 2, 1)
    row = side_by_side(latents, torch.tensor([1, 2]))
    assert row[..., 0].tolist() == [[0, 1, 0, 0], [2, 3, 4, 5]]


@pytest.mark.parametrize("places, images", [((3, 7), 1), ((3,), 2), ((), 1)])
def test_images_and_placeholders_that_do_not_fit_are_named(places, images):
    with pytest.raises(ValueError, match=f"have {len(places)} image placeholders, but there are {images}"):
        flamingo()(text(*places), IMAGES[:images])


def test_an_image_of_any_size_becomes_as_many_latents():
    model = flamingo()
    assert model.image_tokens(torch.randn(2, 3, 16, 24)).shape == (2, 4, 16)
    assert model.image_tokens(torch.randn(2, 3, 32, 32)).shape == (2, 4, 16)
