"""What Llava promises beside being equal to transformers' (that is in tests/parity)."""

import pytest
import torch

from vlmcourse.models.attention import Cache
from vlmcourse.models.fusion import inject
from vlmcourse.models.language import LlamaConfig
from vlmcourse.models.llava import Llava, LlavaConfig
from vlmcourse.models.projector import Projector, pixel_shuffle, spectrum
from vlmcourse.models.vit import ViTConfig

IMAGE = 9


@pytest.fixture
def model():
    torch.manual_seed(0)
    vision = ViTConfig((16, 24), 8, width=16, depth=2, heads=2)
    return Llava(LlavaConfig(vision, LlamaConfig(30, 24, 2, 4), IMAGE)).eval()


def texts(*counts):
    """One text per count of placeholders, 20 tokens long."""
    ids = torch.randint(10, 30, (len(counts), 20), generator=torch.Generator().manual_seed(1))
    for row, count in zip(ids, counts, strict=True):
        row[2 : 2 + count] = IMAGE
    return ids


def test_features_stand_in_the_order_of_their_placeholders():
    places = torch.tensor([[False, True, True], [True, False, False]])
    features = torch.arange(1.0, 4).view(3, 1, 1).expand(3, 1, 2)
    assert inject(torch.zeros(2, 3, 2), features, places)[..., 0].tolist() == [[0, 1, 2], [3, 0, 0]]


@pytest.mark.parametrize("counts, images, message", [
    ((6, 5), 2, "text 1 has 5 image placeholders, but an image has 6 tokens; was a text cut off"),
    ((12, 0), 1, "have 12 image placeholders, which is 2 images, but 1 images were given"),
    ((6, 0), 2, "which is 1 images, but 2 images were given"),
    ((6, 6), 0, "the texts have 12 image placeholders, but no images were given"),
])  # fmt: skip
def test_images_and_placeholders_that_do_not_fit_are_named(model, counts, images, message):
    pictures = torch.randn(images, 3, 16, 24) if images else None
    with pytest.raises(ValueError, match=message):
        model(texts(*counts), pictures)


def test_features_may_be_given_in_place_of_images(model):
    ids, images = texts(12, 0, 6), torch.randn(3, 3, 16, 24)
    torch.testing.assert_close(model(ids, features=model.image_tokens(images)), model(ids, images))


def test_images_are_given_once_to_a_cache(model):
    ids, images, caches = texts(6, 12), torch.randn(3, 3, 16, 24), [Cache() for _ in model.blocks]
    first = model(ids[:, :15], images, caches=caches)
    rest = model(ids[:, 15:], caches=caches)
    torch.testing.assert_close(torch.cat([first, rest], 1), model(ids, images), atol=1e-5, rtol=0)


def test_layers_behind_the_one_that_is_read_do_not_run(model):
    def fail(*_):
        raise AssertionError("the last block should not run")

    model.vision.blocks[-1].forward = fail
    assert model.image_tokens(torch.randn(2, 3, 16, 24)).shape == (2, 6, 24)


def test_a_shuffled_token_holds_a_square_of_patches():
    features = (
        torch.arange(2 * 4 * 6).view(1, 4 * 6, 2).float()
    )  # a grid of 4 rows and 6 columns, two numbers each
    shuffled = pixel_shuffle(features, 2, (4, 6))
    assert shuffled.shape == (1, 6, 8)
    assert shuffled[0, 1].tolist() == features[0, [2, 3, 8, 9]].flatten().tolist()
    assert shuffled[0, 4].tolist() == features[0, [14, 15, 20, 21]].flatten().tolist()
    with pytest.raises(
        ValueError, match="25 patches do not fill a grid of 4 × 6; is the class token still there"
    ):
        pixel_shuffle(torch.zeros(1, 25, 2), 2, (4, 6))
    with pytest.raises(ValueError, match="squares of 4 × 4 do not tile"):
        pixel_shuffle(features, 4, (4, 6))


def test_projectors_have_one_layer_or_two():
    features = torch.randn(2, 16, 8)
    assert Projector(8, 12)(features).shape == (2, 16, 12) and Projector(8, 12).contract is None
    assert Projector(8, 12, hidden=20, shuffle=2)(features).shape == (2, 4, 12)
    assert Projector(8, 12, shuffle=2).tokens(16) == 4


def test_the_spectrum_counts_directions():
    values, rank = spectrum(torch.diag(torch.tensor([2.0, 2.0, 2.0, 0.0])))
    assert values.tolist() == [2, 2, 2, 0] and abs(rank - 3) < 1e-5
