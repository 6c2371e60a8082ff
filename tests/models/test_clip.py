"""What CLIP promises beside being equal to the libraries (that is in tests/parity)."""

import math

import pytest
import torch

from tests import in_a_process_of_its_own
from vlmcourse.data import pixels
from vlmcourse.models.attention import record_attention
from vlmcourse.models.clip import (
    CLIP,
    CLIPConfig,
    TextConfig,
    info_nce,
    normalise,
    pool_at_eos,
    siglip_loss,
    zero_shot_classifier,
)
from vlmcourse.models.vit import ViTConfig
from vlmcourse.world.captions import captions
from vlmcourse.world.render import render
from vlmcourse.world.scenes import sample

EOS = 1
VISION = ViTConfig(image_size=(8, 12), patch_size=4, width=16, depth=2, heads=4)
TEXT = TextConfig(vocabulary=20, eos=EOS, length=7, width=12, depth=2, heads=3)


def model(**options) -> CLIP:
    torch.manual_seed(0)
    return CLIP(CLIPConfig(VISION, TEXT, width=10, **options))


def batch(size=6):
    torch.manual_seed(1)
    ids = torch.randint(2, 20, (size, 7))
    ids[:, 4] = EOS
    return torch.randn(size, 3, 8, 12), ids


def unit(*shape):
    return normalise(torch.randn(*shape, dtype=torch.float64))


def test_the_first_eos_is_pooled_even_if_it_is_neither_last_nor_the_highest_id():
    ids = torch.tensor([[5, 9, 3, 3], [3, 9, 3, 9], [9, 9, 9, 3]])
    hidden = torch.arange(12.0).reshape(3, 4, 1)
    assert pool_at_eos(hidden, ids, 3).flatten().tolist() == [2, 4, 11]


def test_what_stands_behind_eos_changes_nothing():
    _, ids = batch()
    other = ids.clone()
    other[:, 5:] = EOS
    clip_ = model().eval()
    assert torch.equal(clip_.encode_text(ids), clip_.encode_text(other))
    assert torch.allclose(clip_.encode_text(ids), clip_.encode_text(ids[:, :5]), atol=1e-6)


def test_padding_that_all_texts_share_is_not_computed():
    _, ids = batch()
    ids[0, 4:6] = torch.tensor([2, EOS])
    clip_ = model()
    with record_attention(clip_.text) as record:
        clip_.encode_text(ids)
    assert [weights.shape[-1] for weights in record] == [
        6,
        6,
    ]  # the longest text ends in its sixth of seven tokens


def test_only_what_eos_reads_is_computed_and_that_changes_nothing():
    tower, count = model().text, 40
    ids = torch.full((count, 7), EOS)  # padded with EOS, as OpenAI's tokenizer does
    for row, length in enumerate(
        torch.randint(0, 7, (count,), generator=torch.Generator().manual_seed(0)).tolist()
    ):
        ids[row, :length] = torch.randint(2, 20, (length,), generator=torch.Generator().manual_seed(row))
    wanted = pool_at_eos(tower(ids), ids, EOS)
    weights = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(1))
    right = torch.autograd.grad((wanted * weights).sum(), list(tower.parameters()))
    found = tower.text_vector(ids)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    gradients = torch.autograd.grad((found * weights).sum(), list(tower.parameters()))
    torch.testing.assert_close(gradients, right, atol=1e-4, rtol=1e-4)


def test_a_word_before_eos_changes_the_text_and_only_from_there_on():
    _, ids = batch()
    other = ids.clone()
    other[:, 2] = 2 + (ids[:, 2] - 1) % 18
    tower = model().text
    same = (tower(ids) - tower(other)).abs().amax(dim=(0, 2)) == 0
    assert same.tolist() == [True, True, False, False, False, False, False]


def test_features_have_length_one_and_the_scale_begins_at_one_over_seven_hundredths():
    image, text, scale = model()(*batch())
    assert torch.allclose(image.norm(dim=1), torch.ones(6)) and torch.allclose(
        text.norm(dim=1), torch.ones(6)
    )
    assert scale.item() == pytest.approx(14.2857, abs=1e-3)


@pytest.mark.parametrize("seed", range(3))
def test_the_loss_of_an_untrained_model_on_scenes_is_within_five_percent_of_ln_of_the_batch(seed):
    scenes = sample("train", 64)
    words = {
        word: 2 + place for place, word in enumerate(sorted({w for c in captions(scenes) for w in c.split()}))
    }
    ids = [[words[word] for word in caption.split()] + [EOS] for caption in captions(scenes)]
    ids = torch.nn.utils.rnn.pad_sequence(
        [torch.tensor(row) for row in ids], batch_first=True, padding_value=EOS
    )
    torch.manual_seed(seed)
    whole = CLIP(CLIPConfig(ViTConfig(), TextConfig(vocabulary=len(words) + 2, eos=EOS, length=ids.shape[1])))
    with torch.no_grad():
        loss = whole.loss(pixels.normalise(torch.as_tensor(render(scenes))), ids)
    assert loss.item() == pytest.approx(math.log(64), rel=0.05)


def test_projections_begin_with_a_spread_that_keeps_the_size_of_what_they_read():
    clip_ = CLIP(CLIPConfig(VISION, TEXT, 400))
    for projection in (clip_.project_image, clip_.project_text):
        assert projection.weight.std().item() == pytest.approx(projection.in_features**-0.5, rel=0.05)


def test_the_loss_is_exactly_ln_of_the_batch_when_all_features_are_alike():
    same = unit(1, 10).expand(6, -1)
    assert info_nce(same, same, 14.0).item() == pytest.approx(math.log(6))


def test_both_losses_vanish_when_every_pair_is_far_from_all_others():
    axes = torch.eye(6, dtype=torch.float64)
    assert info_nce(axes, axes, 100.0) < 1e-9
    assert siglip_loss(axes, axes, 100.0, -50.0) < 1e-9


def test_siglip_judges_every_pair_alone_so_a_new_pair_does_not_change_the_old_terms():
    image, text = unit(5, 8), unit(5, 8)
    whole = 5 * siglip_loss(image, text, 10.0, -10.0)
    rows = sum(torch.nn.functional.softplus(-(1 if i == j else -1) * (10 * image[i] @ text[j] - 10))
               for i in range(5) for j in range(5))  # fmt: skip
    assert whole.item() == pytest.approx(rows.item())


def test_the_scale_stops_at_one_hundred_and_comes_back_from_there():
    clip_ = model()
    clip_.logit_scale.data.fill_(9.0)
    assert clip_.train().scale().item() == pytest.approx(100, rel=1e-6)
    clip_.scale().backward()
    assert clip_.logit_scale.grad > 0  # still learns, unlike a clamp inside the graph
    before = clip_.eval().logit_scale.clone()
    clip_.scale()
    assert torch.equal(before, clip_.logit_scale)


def test_a_bias_chooses_siglips_loss():
    clip_ = model(scale=10, bias=-10)
    image, text, scale, bias = clip_(*batch())
    assert scale.item() == pytest.approx(10) and bias.item() == -10
    assert clip_.loss(*batch()) == siglip_loss(image, text, scale, bias)
    assert len(model()(*batch())) == 3


def test_class_weights_are_unit_vectors_and_a_long_prompt_vector_weighs_no_more():
    prompts = torch.randn(3, 4, 6, dtype=torch.float64)
    weights = zero_shot_classifier(prompts)
    assert torch.allclose(weights.norm(dim=1), torch.ones(3, dtype=torch.float64))
    prompts[:, 0] *= 50
    assert torch.allclose(zero_shot_classifier(prompts), weights)


def test_the_model_runs_whatever_normalise_is_installed():
    clip_ = model()
    try:
        normalise.install(lambda features: features)
        assert clip_(*batch())[0].norm(dim=1).std() > 0
    finally:
        normalise.reset()


def test_a_few_steps_learn_a_batch_by_heart():
    clip_, pairs = model(), batch()
    optimizer = torch.optim.AdamW(clip_.parameters(), lr=3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        loss = clip_.loss(*pairs)
        loss.backward()
        optimizer.step()
    assert loss < 0.1
    image, text, _ = clip_(*pairs)
    assert (image @ text.T).argmax(dim=1).tolist() == list(range(6))


def test_attention_of_both_towers_can_be_looked_at():
    clip_ = model()
    with record_attention(clip_) as record:
        clip_(*batch())
    assert [tuple(weights.shape) for weights in record] == [(6, 4, 7, 7)] * 2 + [(6, 3, 5, 5)] * 2
    assert (record[2].triu(1) == 0).all()


def compiles_whole():
    clip_ = model()
    compiled = torch.compile(clip_, fullgraph=True, backend="eager")
    for one, other in zip(compiled(*batch()), clip_(*batch()), strict=True):
        assert torch.equal(one, other)


def test_it_compiles_whole():
    in_a_process_of_its_own(compiles_whole)


BAD = [
    (lambda ids: ids[:, :4], "text 0 has no end-of-sequence token 1"),
    (
        lambda ids: (ids + 1).tile(2).index_fill(1, torch.tensor(13), EOS),
        "14 tokens are more than this tower's 7",
    ),
]


@pytest.mark.parametrize(("change", "says"), BAD)
def test_texts_that_cannot_be_read_are_named(change, says):
    with pytest.raises(ValueError, match=says):
        model().encode_text(change(batch()[1]))
