"""Five ways for words to meet an image, behind one interface."""

import pytest
import torch

from vlmcourse.models.attention import Cache
from vlmcourse.models.fusion import (
    FAMILIES,
    FusionConfig,
    cross_attend,
    gated_cross_attend,
    late_fusion,
    sized,
)
from vlmcourse.models.generation import generate
from vlmcourse.models.language import Llama, LlamaConfig

CONFIG = FusionConfig(12, LlamaConfig(30, 24, 2, 4))


@pytest.fixture(params=FAMILIES)
def family(request):
    torch.manual_seed(0)
    model = FAMILIES[request.param](CONFIG).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("gate"):
            parameter.data.fill_(1.0)
    return model


def batch():
    torch.manual_seed(1)
    mask = torch.ones(3, 7, dtype=torch.bool)
    mask[1, 5:] = False
    return torch.randn(3, 9, 12), torch.randint(1, 30, (3, 7)), mask


def test_scores_stand_at_every_word_and_depend_on_the_image(family):
    features, ids, mask = batch()
    scores = family(ids, features, mask=mask)
    assert scores.shape == (3, 7, 30)
    other = features.clone()
    other[1] = -other[1]
    change = (family(ids, other, mask=mask) - scores).abs().amax((1, 2))
    assert change[1] > 1e-3 and change[0] == change[2] == 0


def test_no_word_sees_a_later_one(family):
    features, ids, mask = batch()
    later = ids.clone()
    later[:, 4:] = 3
    scores = family(ids, features, mask=mask)
    torch.testing.assert_close(family(later, features, mask=mask)[:, :4], scores[:, :4], atol=1e-5, rtol=0)


def test_only_a_prompt_in_a_prefix_is_read_in_both_directions(family):
    features, ids, mask = batch()
    later, prompt = ids.clone(), (torch.arange(7) < 4).expand(3, 7)
    later[:, 3] = 3
    change = (
        family(later, features, mask=mask, prompt=prompt)[:, :3]
        - family(ids, features, mask=mask, prompt=prompt)[:, :3]
    )
    assert (change.abs().max() > 1e-3) == (type(family).__name__ == "PrefixInjection")
    later = ids.clone()
    later[:, 4:] = 3
    scores = family(ids, features, mask=mask, prompt=prompt)
    torch.testing.assert_close(
        family(later, features, mask=mask, prompt=prompt)[:, :4], scores[:, :4], atol=1e-5, rtol=0
    )


def test_padding_changes_nothing(family):
    features, ids, mask = batch()
    alone = family(ids[1:2, :5], features[1:2], mask=mask[1:2, :5])
    torch.testing.assert_close(family(ids, features, mask=mask)[1:2, :5], alone, atol=1e-5, rtol=0)


def test_gradients_reach_the_projector_and_all_of_the_language_model(family):
    features, ids, mask = batch()
    family(ids, features, mask=mask).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in family.parameters())


def test_only_injection_takes_up_context():
    taken = {name: family(CONFIG).image_tokens_in_context(64) for name, family in FAMILIES.items()}
    assert taken == {"late": 0, "cross-attention": 0, "gated cross-attention": 0, "injection": 64,
                     "injection, prefix": 64}  # fmt: skip


def test_a_closed_gate_is_the_language_model_alone():
    torch.manual_seed(0)
    model, (features, ids, mask) = FAMILIES["gated cross-attention"](CONFIG).eval(), batch()
    torch.testing.assert_close(model(ids, features, mask=mask)[mask], model.language(ids, mask=mask)[mask])


def test_steps_by_hand():
    tokens, context = torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[5.0, 7.0]]])
    parts = (tokens, context, lambda t: 2 * t, lambda queries, keys: queries + keys)
    assert cross_attend(*parts).tolist() == [[[8.0, 13.0]]]
    gated = gated_cross_attend(*parts, torch.tensor(0.5).atanh())
    torch.testing.assert_close(gated, torch.tensor([[[4.5, 7.5]]]))
    late = late_fusion(torch.tensor([[5.0, 7.0]]), tokens, lambda t: t)
    assert late.tolist() == [[[1, 2, 5, 7, 5, 14]]]


def test_families_of_one_size_have_nearly_as_many_parameters():
    counts = [
        sum(p.numel() for p in sized(family, CONFIG, 30_000).parameters()) for family in FAMILIES.values()
    ]
    assert max(counts) <= 30_000 and min(counts) > 30_000 - 3 * 24 * 2
    with pytest.raises(
        ValueError, match=r"LateFusion has \d+ parameters with the narrowest MLPs, more than 9000"
    ):
        sized(FAMILIES["late"], CONFIG, 9000)


def test_a_family_writes_as_any_other_model_does(family):
    features, ids, _ = batch()
    written = generate(family, ids, images=features, steps=5)
    assert torch.equal(written, generate(family, ids, images=features, steps=5, cached=False))
    with torch.no_grad():
        assert torch.equal(family(written[:, :-1], features)[:, 6:].argmax(-1), written[:, 7:])


def test_features_may_be_given_in_place_of_images(family):
    features, ids, mask = batch()
    scores = family(ids, features=family.image_tokens(features), mask=mask)
    torch.testing.assert_close(scores, family(ids, features, mask=mask))


def test_what_begin_gives_reads_on_like_a_language_model(family):
    features, ids, mask = batch()
    reader, prompt = family.begin(ids, features)
    assert torch.equal(prompt, family.language.embed(ids)) and reader.blocks is family.blocks
    caches = [Cache() for _ in reader.blocks]
    first = reader.hidden(prompt[:, :4], mask=mask[:, :4], caches=caches)
    rest = reader.hidden(embeddings=prompt[:, 4:], mask=mask, caches=caches)
    scores = reader.head(torch.cat([first, rest], dim=1))
    whole = family(ids, features, mask=mask)
    torch.testing.assert_close(scores[mask], whole[mask], atol=1e-5, rtol=0)


def test_a_language_model_alone_reads_no_image():
    model = Llama(CONFIG.language)
    with pytest.raises(ValueError, match="Llama is a language model; it reads no images"):
        generate(model, torch.ones(1, 3, dtype=torch.long), images=torch.zeros(1, 3, 8, 8), steps=1)
    reader, vectors = model.begin(torch.tensor([[1, 2]]))
    assert reader is model and torch.equal(vectors, model.embed(torch.tensor([[1, 2]])))
