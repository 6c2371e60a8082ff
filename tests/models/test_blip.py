"""What BLIP promises beside being equal to transformers' (that is in tests/parity)."""

import pytest
import torch

from vlmcourse.data.packing import pack
from vlmcourse.models.bert import BertConfig
from vlmcourse.models.blip import Blip, BlipConfig, enqueue, hard_negatives, move_average
from vlmcourse.models.blip2 import Blip2Config, Blip2T5
from vlmcourse.models.generation import generate
from vlmcourse.models.qformer import QFormerConfig
from vlmcourse.models.t5 import T5Config
from vlmcourse.models.vit import ViTConfig

START, END, MARK = 3, 4, 5
VISION = ViTConfig(16, 8, width=24, depth=1, heads=2)
TEXT = BertConfig(30, 24, 2, 3, positions=40, segments=0)
IMAGES = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(2))


def blip(**options) -> Blip:
    torch.manual_seed(0)
    model = Blip(BlipConfig(VISION, TEXT, START, END, shared=8, **options)).eval()
    model.head.score.bias.data[[START, END]] = -1e9  # random weights write neither
    return model


def blip2() -> Blip2T5:
    torch.manual_seed(0)
    qformer = QFormerConfig(TEXT, 24, queries=4, reads=False)
    words = T5Config(30, 20, 2, 2, 2, 10, 30, start=0)
    model = Blip2T5(Blip2Config(VISION, qformer, words, MARK, START, END)).eval()
    model.language.embedding.weight.data[[START, END]] = 0  # random weights write neither
    return model


def rows(image_tokens):
    """Two images with two and three questions; opening 6, then the image's placeholders."""
    talks = [[([7, 8, START], [9, 10, END]), ([11, START], [12, END])],
             [([13, 14, 15, START], [16, END]), ([7, START], [17, 18, END]),
              ([8, 9, START], [10, END])]]  # fmt: skip
    return pack(talks, [6] + [MARK] * image_tokens, 0), talks


@pytest.mark.parametrize("make", [blip, blip2])
def test_packed_questions_are_answered_as_one_by_one(make):
    """In one row a question sees its image, itself and no other; so every answer has the same scores."""
    model = make().requires_grad_(False)
    packs, talks = rows(model.tokens_per_image)
    features = model.image_tokens(IMAGES)
    together = model.head(model.hidden_of_packs(packs.ids, packs.packs, features))
    opening = [6] + [MARK] * model.tokens_per_image
    for image, row in enumerate(talks):
        for number, (question, answer) in enumerate(row, 1):
            ids = torch.tensor([opening + question + answer])
            alone = model(ids, features=features[image : image + 1])[0, -len(answer) - 1 : -1]
            places = (packs.packs[image] == number).nonzero()[:, 0]
            torch.testing.assert_close(
                together[image, places[-len(answer) - 1 : -1]], alone, atol=1e-5, rtol=1e-5
            )


@pytest.mark.parametrize("make", [blip, blip2])
@pytest.mark.parametrize("cached", [True, False])
def test_what_is_written_is_what_is_scored_best(make, cached):
    model = make().requires_grad_(False)
    prompt = torch.tensor([[6] + [MARK] * model.tokens_per_image + [7, 8, START]] * 2)
    text = generate(model, prompt, images=IMAGES, steps=6, cached=cached).clone()
    scores = model(text[:, :-1], IMAGES)[:, prompt.shape[1] - 1 :]
    scores[..., START] = scores[..., END] = -torch.inf  # random weights may write these, too
    assert torch.equal(scores.argmax(-1), text[:, prompt.shape[1] :]) or {START, END} & set(
        text[0].tolist()[-6:]
    )


def test_encoder_and_decoder_share_all_but_self_attention():
    model = blip()
    mine, theirs = dict(model.language.named_parameters()), dict(model.encoder.named_parameters())
    apart = {name for name in theirs if mine[name] is not theirs[name]}
    assert apart and all("attention" in name for name in apart)
    assert all("attention" not in name or "cross" in name for name in set(theirs) - apart)
    loose = blip(tied=False)
    assert all(
        p is not q
        for p, q in zip(loose.language.blocks.parameters(), loose.encoder.blocks.parameters(), strict=True)
    )


def test_a_negative_is_never_the_own_text_and_likelier_the_more_alike():
    similarity = torch.tensor(
        [[9.0, 1.0, 0.0, 0.0], [0.0, 9.0, 0.0, 0.0], [0.0, 0.0, 9.0, 3.0], [0.0, 0.0, 0.0, 9.0]]
    )
    dice = torch.rand(4000, 4, generator=torch.Generator().manual_seed(0))
    drawn = torch.stack([hard_negatives(similarity, row) for row in dice])
    assert not (drawn == torch.arange(4)).any()
    shares = (drawn[:, 0] == torch.tensor([[1], [2], [3]])).float().mean(1)
    expected = torch.tensor([1.0, 0.0, 0.0]).softmax(0)
    torch.testing.assert_close(shares, expected, atol=0.03, rtol=0)
    assert (drawn[:, 2] == 3).float().mean() > 0.85


def test_the_borders_of_the_dice_are_texts_too():
    similarity = torch.zeros(3, 3)
    edges = torch.tensor([0.0, 0.0, 0.0]), torch.tensor([1 - 2**-24] * 3)
    assert [hard_negatives(similarity, dice).tolist() for dice in edges] == [[1, 0, 0], [2, 2, 1]]


def test_the_slow_copy_and_the_queue():
    old, new = {"w": torch.tensor([1.0, 0.0])}, {"w": torch.tensor([0.0, 1.0])}
    assert move_average(old, new, 0.9)["w"].tolist() == pytest.approx([0.9, 0.1])
    queue = torch.arange(8.0).view(4, 2)
    assert enqueue(queue, torch.full((1, 2), 9.0))[:, 0].tolist() == [2, 4, 6, 9]


def test_a_text_that_is_too_long_is_named():
    with pytest.raises(ValueError, match="a text of 41 tokens is too long for this model: 40 at most"):
        blip().text_vectors(torch.ones(1, 41, dtype=torch.long))
