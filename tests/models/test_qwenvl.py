"""QwenVL: where pictures stand in a text, what is written behind them, and several texts about one."""

from dataclasses import replace

import pytest
import torch

from vlmcourse.models.attention import Cache
from vlmcourse.models.generation import generate
from vlmcourse.models.native_vit import NativeViTConfig
from vlmcourse.models.qwen import QwenConfig
from vlmcourse.models.qwenvl import QwenVL, QwenVLConfig, picture_spans

IMAGE = 4
VISION = NativeViTConfig(8, 4, width=16, depth=2, heads=2, activation="quick_gelu", patch_bias=False,
                         turned=True, frames=2, length=32)  # fmt: skip
CONFIG = QwenVLConfig(VISION, QwenConfig(50, 24, 2, 2, 1, sections=(2, 2, 2)), IMAGE, hidden=64)


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = QwenVL(CONFIG)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 1.0 if parameter.dim() == 1 else 0.0, 0.3)
    model.language.head.weight.data[IMAGE] = 0
    return model.eval()


def pictures(*sizes: tuple[int, int]) -> list[torch.Tensor]:
    dice = torch.Generator().manual_seed(1)
    return [torch.randn(3, *size, generator=dice) for size in sizes]


def test_a_picture_behind_another_has_a_span_of_its_own():
    places = [False, True, True, True, False, True]
    assert picture_spans(places, [(1, 2), (1, 1), (1, 1), (9, 9)]) == ([(1, 3), (3, 4), (5, 6)], 3)
    assert picture_spans([False], [(1, 2)]) == ([], 0) and picture_spans([], []) == ([], 0)


@pytest.mark.parametrize(("places", "grids", "says"), [
    ([True, True, False], [(1, 3)], "a picture of 1 × 3 tokens has no room for 3 from place 0 on"),
    ([False, True, True], [(1, 3)], "no room for 3 from place 1 on"),
    ([True, False, True], [(1, 1)], "placeholders for more than 1 pictures"),
])  # fmt: skip
def test_placeholders_that_do_not_fit_the_pictures_are_named(places, grids, says):
    with pytest.raises(ValueError, match=says):
        picture_spans(places, grids)


def test_tokens_stand_in_time_row_and_column_behind_padding_too(model):
    ids = torch.tensor([[0, 7, *[IMAGE] * 6, 8], [9, 8, 7, *[IMAGE] * 2, 5, 5, 5, 5]])
    real = torch.ones_like(ids, dtype=torch.bool)
    real[0, 0] = False
    look = model.place(ids, [(2, 3), (1, 2)], real)
    assert look.positions[:, 0].tolist() == [
        [0, 0, 1, 1, 1, 1, 1, 1, 4], [0, 0, 1, 1, 1, 2, 2, 2, 4], [0, 0, 1, 2, 3, 1, 2, 3, 4],
    ]  # fmt: skip
    assert look.positions[:, 1].tolist() == [
        [0, 1, 2, 3, 3, 5, 6, 7, 8], [0, 1, 2, 3, 3, 5, 6, 7, 8], [0, 1, 2, 3, 4, 5, 6, 7, 8],
    ]  # fmt: skip
    assert not look.mask[0, 0, 1:, 0].any()


def test_a_text_alone_is_read_by_its_language_model(model):
    ids = torch.tensor([[5, 9, 8, 7]])
    torch.testing.assert_close(model(ids), model.language(ids))
    assert generate(model, ids, steps=5).tolist() == generate(model.language, ids, steps=5).tolist()


def test_several_texts_about_a_picture_are_read_as_each_alone(model):
    shown = pictures((16, 24), (8, 16))
    rows = [[5, *[IMAGE] * 6, 11, 12, 13, 21, 22], [6, *[IMAGE] * 2, 14, 15, 23, 0, 0, 0, 0, 0, 0]]
    ids = torch.tensor(rows)
    packs = torch.tensor([[0] * 7 + [1, 1, 1, 2, 2], [0] * 3 + [1, 1, 2] + [-1] * 6])
    hidden = model.hidden_of_packs(ids, packs, model.image_tokens(shown))
    for row, text in ((0, 1), (0, 2), (1, 1), (1, 2)):
        beginning, own = packs[row] == 0, packs[row] == text
        alone = model.hidden(ids[row][beginning | own][None], shown[row : row + 1])[0]
        torch.testing.assert_close(hidden[row][own], alone[beginning.sum() :], atol=1e-5, rtol=1e-5)


def test_behind_cached_tokens_a_place_is_needed(model):
    ids, caches = torch.tensor([[5, *[IMAGE] * 6, 7]]), [Cache() for _ in model.blocks]
    model(ids, pictures((16, 24)), caches=caches)
    with pytest.raises(ValueError, match="nobody knows where a token stands; write through begin"):
        model(torch.tensor([[9]]), caches=caches)
    with pytest.raises(ValueError, match="a look says by itself which tokens are real"):
        model(torch.tensor([[9]]), look=model.place(torch.tensor([[9]]), ()), mask=torch.tensor([[True]]))
    longer = model(torch.tensor([[5, *[IMAGE] * 6, 7, 9]]), pictures((16, 24)))
    look = replace(model.place(torch.tensor([[5, 5, 5, 5, 5, 9]]), ()), mask=None)
    look = replace(look, positions=look.positions[..., -1:])  # word, 3 columns, word: the next stands at 5
    torch.testing.assert_close(model(torch.tensor([[9]]), look=look, caches=caches)[:, -1], longer[:, -1])


def test_padding_in_front_changes_nothing(model):
    shown = pictures((16, 24), (8, 16))
    rows = [[5, *[IMAGE] * 6, 7], [5, 9, *[IMAGE] * 2, 7]]
    ids, real = torch.zeros(2, 8, dtype=torch.long), torch.ones(2, 8, dtype=torch.bool)
    ids[0], ids[1, 3:], real[1, :3] = torch.tensor(rows[0]), torch.tensor(rows[1]), False
    hidden = model.hidden(ids, shown, mask=real)
    written = generate(model, ids, mask=real, images=shown, steps=4)[:, 8:]
    for number, row in enumerate(rows):
        alone = torch.tensor([row]), shown[number : number + 1]
        torch.testing.assert_close(
            hidden[number, real[number]], model.hidden(*alone)[0], atol=1e-5, rtol=1e-5
        )
        expected = generate(model, alone[0], images=alone[1], steps=4)[0, len(row) :]
        assert written[number].tolist() == expected.tolist()


def test_padding_has_no_place_of_its_own_in_front_of_what_is_written(model):
    ids, real = (
        torch.tensor([[0, 0, 5, IMAGE, IMAGE, 7]]),
        torch.tensor([[False, False, True, True, True, True]]),
    )
    reader, prompt = model.begin(ids, pictures((8, 16)))
    reader.hidden(prompt, mask=real, caches=[Cache() for _ in model.blocks])
    assert reader.asked.positions[2, 0].tolist() == [0, 0, 0, 1, 2, 3]


def test_writing_goes_on_with_some_of_the_texts(model):
    ids, shown = torch.tensor([[5, *[IMAGE] * 6, 7], [5, 9, 8, *[IMAGE] * 4, 7]]), pictures((16, 24), (32, 8))
    reader, prompt = model.begin(ids, shown)
    caches = [Cache() for _ in model.blocks]
    reader.hidden(prompt, caches=caches)
    reader.select([1])
    for cache in caches:
        cache.select([1])
    word = torch.tensor([[9]])
    behind = reader.hidden(reader.embed(word), caches=caches)
    alone = model.hidden(torch.cat([ids[1:], word], dim=1), shown[1:])
    torch.testing.assert_close(behind[:, -1], alone[:, -1])


def test_the_last_norm_comes_before_the_projector_by_default():
    assert CONFIG.normed and CONFIG.shuffle == 2 and CONFIG.layer == -1
