"""NativeLlava: pictures of different sizes in one batch, each with its own number of tokens."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from vlmcourse.data.batches import Batches
from vlmcourse.data.text import IMAGE, load_tokenizer
from vlmcourse.models.fusion import check_rooms
from vlmcourse.models.generation import generate
from vlmcourse.models.language import LlamaConfig
from vlmcourse.models.native import PatchRow
from vlmcourse.models.native_llava import NativeConfig, NativeLlava, merged_grid
from vlmcourse.models.native_vit import NativeViTConfig
from vlmcourse.models.projector import pixel_shuffle
from vlmcourse.speak import Speaker, blinded
from vlmcourse.training.losses import answer_loss

VISION = NativeViTConfig((16, 16), 4, width=16, depth=2, heads=2, length=40)
CONFIG = NativeConfig(
    VISION, LlamaConfig(load_tokenizer().encoder.get_vocab_size(), 24, 2, 4), image_token=IMAGE
)
SIZES = ((16, 24), (8, 8), (16, 16), (8, 40))  # 6, 1, 4 and 5 tokens


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = NativeLlava(CONFIG)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 1.0 if parameter.dim() == 1 else 0.0, 0.2)
    return model.eval()


def tensors(sizes=SIZES) -> list[torch.Tensor]:
    dice = torch.Generator().manual_seed(1)
    return [torch.randn(3, *size, generator=dice) for size in sizes]


def arrays(sizes=SIZES) -> list[np.ndarray]:
    dice = np.random.default_rng(2)
    return [dice.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]


def test_a_picture_has_as_many_tokens_as_squares_of_four_patches(model):
    assert [model.tokens_of(*size) for size in SIZES] == [6, 1, 4, 5]
    assert model.tokens_per_image == 4
    tokens = model.image_tokens(tensors())
    assert tokens.counts == [6, 1, 4, 5] and tokens.grids == ((2, 3), (1, 1), (2, 2), (1, 5))


def test_tokens_of_a_picture_are_those_of_it_alone_shuffled_and_projected(model):
    for picture, tokens in zip(tensors(), model.image_tokens(tensors()).split(), strict=True):
        grid = picture.shape[1] // 4, picture.shape[2] // 4
        patches = model.vision.patches(picture[None])
        torch.testing.assert_close(tokens, model.projector(patches, grid)[0])
        torch.testing.assert_close(tokens, model.projector.map(pixel_shuffle(patches, 2, grid))[0])


def test_kept_pixels_and_kept_features_give_the_same_tokens(model):
    tokens = model.image_tokens(tensors())
    pixels = model.vision.cut(tensors())
    assert torch.equal(model.image_tokens(pixels).vectors, tokens.vectors)
    assert torch.equal(model.connect(model.image_features(pixels)).vectors, tokens.vectors)
    alike = torch.stack(tensors(((8, 16), (8, 16))))
    torch.testing.assert_close(model.image_tokens(alike).vectors, model.image_tokens(list(alike)).vectors)


def test_the_last_norm_and_an_earlier_layer_are_read_when_asked_for(model):
    other = NativeLlava(replace(CONFIG, normed=True)).eval()
    other.load_state_dict(model.state_dict())
    features = model.image_features(tensors()).vectors
    torch.testing.assert_close(other.image_features(tensors()).vectors, model.vision.norm(features))
    earlier = NativeLlava(replace(CONFIG, layer=-2)).eval()
    earlier.load_state_dict(model.state_dict())
    alone = model.vision.patches(tensors()[0][None], -2)[0]
    torch.testing.assert_close(earlier.image_features(tensors()).split()[0], alone)


def test_the_projector_is_as_wide_inside_as_the_language_model_if_nothing_else_is_said():
    for hidden, wide in ((None, 24), (7, 7)):
        projector = NativeLlava(replace(CONFIG, hidden=hidden)).projector
        assert projector.expand.weight.shape == (wide, 4 * 16) and projector.contract.weight.shape == (
            24,
            wide,
        )
    projector = NativeLlava(replace(CONFIG, hidden=0)).projector
    assert projector.expand.weight.shape == (24, 4 * 16) and projector.contract is None


def test_without_a_shuffle_each_patch_is_a_token(model):
    plain = NativeLlava(replace(CONFIG, shuffle=1)).eval()
    tokens = plain.image_tokens(tensors())
    assert tokens.counts == [24, 4, 16, 20] and plain.tokens_of(8, 8) == 4
    torch.testing.assert_close(tokens.vectors, plain.projector.map(plain.image_features(tensors()).vectors))


def text(*parts) -> list[int]:
    """Words as numbers; a list [n] is n placeholders."""
    row = []
    for part in parts:
        row += [IMAGE] * part[0] if isinstance(part, list) else [part]
    return row


def test_a_batch_of_texts_is_read_as_each_alone(model):
    rows = [text(101, [6], 102, [1], 103), text(104, [4], 105, [5])]
    length = max(map(len, rows))
    ids = torch.tensor([row + [0] * (length - len(row)) for row in rows])
    real = torch.tensor([[True] * len(row) + [False] * (length - len(row)) for row in rows])
    both = model(ids, tensors(), mask=real)
    for number, (row, shown) in enumerate(zip(rows, (tensors()[:2], tensors()[2:]), strict=True)):
        alone = model(torch.tensor([row]), shown)[0]
        torch.testing.assert_close(both[number, : len(row)], alone, atol=1e-5, rtol=1e-5)
    features = model.image_tokens(tensors())
    torch.testing.assert_close(model(ids, features=features, mask=real), both)
    with pytest.raises(ValueError, match="the texts have 7 image placeholders, but no images were given"):
        model(ids[:1])


def test_room_that_does_not_fit_the_pictures_is_named():
    places = torch.tensor([[True, True, True, False], [True, True, False, False]])
    check_rooms(places, [3, 2])
    check_rooms(places, [1, 2, 1, 1])
    check_rooms(places & False, [])
    with pytest.raises(
        ValueError, match="text 0 has 3 image placeholders, but its pictures have 2, 3 tokens"
    ):
        check_rooms(places, [2, 3])
    with pytest.raises(ValueError, match="text 1 has 2 image placeholders, but its pictures have no tokens"):
        check_rooms(places, [3])
    with pytest.raises(ValueError, match="room for 2 pictures, but 3 were given"):
        check_rooms(places, [3, 2, 4])


def test_a_grid_that_squares_do_not_tile_is_refused(model):
    assert merged_grid((4, 6), 2) == (2, 3)
    for grid in ((3, 4), (4, 3)):
        with pytest.raises(ValueError, match=r"squares of 2 × 2 do not tile .* resize the picture so that"):
            merged_grid(grid, 2)
    with pytest.raises(ValueError, match="squares of 2 × 2 do not tile a grid of 3 × 4 patches"):
        model.tokens_of(12, 16)
    with pytest.raises(ValueError, match="squares of 2 × 2 do not tile a grid of 4 × 3 patches"):
        model.image_tokens(tensors(((16, 12),)))
    with pytest.raises(ValueError, match="patches of 4 pixels do not tile a picture of 16×18"):
        model.tokens_of(16, 18)
    with pytest.raises(ValueError, match="patches of 4 pixels do not tile a picture of 18×16"):
        model.tokens_of(18, 16)
    with pytest.raises(ValueError, match="do not tile a grid of 4 × 4 patches"):
        replace(CONFIG, shuffle=3)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (dict(spread=2), "spread = 2"),
        (dict(normed=True, layer=-2), "not behind layer -2"),
        (dict(normed=True, layer=1), "not behind layer 1"),
        (dict(layer=-4), "layer = -4, but the encoder has 3 residual streams"),
    ],
)
def test_what_has_no_meaning_here_is_refused(wrong, says):
    with pytest.raises(ValueError, match=says):
        replace(CONFIG, **wrong)


# --- spoken with ---


def speaker_of(model) -> Speaker:
    torch.manual_seed(0)
    return Speaker(model)


def test_a_speaker_answers_about_each_as_about_it_alone(model):
    speaker, asked = speaker_of(model), ["what is it?", "how many?", "which colour?", "where is the red one?"]
    together = speaker.answer(arrays(), asked, steps=5)
    alone = [
        speaker.answer(image, question, steps=5) for image, question in zip(arrays(), asked, strict=True)
    ]
    assert together == alone and len(set(together)) > 1
    ids, mask = speaker.words.prompts(asked, [6, 1, 4, 5])
    assert (ids == IMAGE).sum(dim=1).tolist() == [6, 1, 4, 5] and mask[:, -1].all()
    written = generate(model, ids, mask=mask, images=[image for image in map(as_pixels, arrays())], steps=5)
    assert speaker.words.decode(written[:, ids.shape[1] :]) == together


def as_pixels(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image).permute(2, 0, 1).float() / 127.5 - 1


TALKS = [[("what is it?", "a dog"), ("where?", "left")], [("how many?", "two")], [("why?", "it is red")],
         [("who?", "a cat")]]  # fmt: skip


def test_rows_have_the_room_of_their_pictures_and_are_graded(model):
    speaker = speaker_of(model)
    features = speaker.features(arrays(), batch=3)
    assert features.grids == ((4, 6), (2, 2), (4, 4), (2, 10))
    rows = speaker.encode(TALKS, images=arrays())
    assert (rows.ids == IMAGE).sum(dim=1).tolist() == [6, 1, 4, 5]
    assert all(torch.equal(*both) for both in zip(rows, speaker.encode(TALKS, images=features), strict=True))
    graded = speaker.grade(features, rows, batch=3)
    assert graded.shape == (5,) and not graded.all()
    hidden = speaker.hidden(features, rows)
    for number in range(4):
        some = rows.rows(slice(number, number + 1))
        alone = speaker.hidden(features[number : number + 1], some)
        torch.testing.assert_close(hidden[number, : alone.shape[1]], alone[0], atol=1e-5, rtol=1e-5)


def test_a_batch_of_one_size_needs_no_list(model):
    speaker = speaker_of(model)
    stack = np.stack(arrays(((16, 16), (16, 16))))
    assert speaker.encode(TALKS[:2]).ids.shape == speaker.encode(TALKS[:2], images=stack).ids.shape
    assert torch.equal(speaker.features(stack).vectors, speaker.features(list(stack)).vectors)
    assert speaker.answer(stack, ["what?", "why?"], steps=3) == speaker.answer(
        list(stack), ["what?", "why?"], steps=3
    )


def test_blinded_pictures_keep_their_sizes():
    blank = blinded(arrays())
    assert [image.shape for image in blank] == [image.shape for image in arrays()]
    assert {int(image.min()) for image in blank} | {int(image.max()) for image in blank} == {235}


def test_rows_of_other_pictures_are_noticed(model):
    speaker = speaker_of(model)
    rows = speaker.encode(TALKS, images=arrays()[::-1])
    with pytest.raises(ValueError, match="text 0 has 5 image placeholders, but its pictures have 6 tokens"):
        speaker.hidden(speaker.features(arrays()), rows)
    with pytest.raises(ValueError, match="4 images are asked about, but 3 were given"):
        speaker.encode(TALKS, images=arrays()[:3])


def test_it_learns_from_features_of_pictures_of_different_sizes(model):
    speaker = speaker_of(model)
    features, rows = speaker.features(arrays()), speaker.encode(TALKS, images=arrays())

    def loss(hidden, some, head):
        return answer_loss(hidden, some.labels, head)

    history = speaker.tune(features, rows, steps=8, size=4, loss=loss, seed=0, lr=1e-2)
    assert history.losses[-1] < 0.7 * history.losses[0]


def test_a_row_of_pictures_is_batched_like_an_array():
    row = PatchRow(torch.arange(9.0)[:, None], ((1, 2), (2, 2), (3, 1)))
    batches = Batches((row, torch.arange(3)), 2, seed=0)
    for some, numbers in batches:
        assert some.grids == tuple(row.grids[number] for number in numbers)
        assert torch.equal(some.vectors, row[numbers].vectors)
    assert len(batches) == 1
