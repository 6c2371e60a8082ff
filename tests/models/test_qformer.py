"""What the Q-Former promises beside being equal to transformers' (that is in tests/parity)."""

import pytest
import torch

from vlmcourse.models.bert import BertConfig
from vlmcourse.models.qformer import (
    Matcher,
    MatcherConfig,
    QFormerConfig,
    apart_mask,
    best_query,
    query_votes,
    together_mask,
    writing_mask,
)
from vlmcourse.models.vit import ViTConfig

QUERIES = 3
WORDS = torch.tensor([[True, True, True, True], [True, True, False, False]])
IDS = torch.randint(1, 30, (2, 4), generator=torch.Generator().manual_seed(1))
IMAGES = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def matcher() -> Matcher:
    torch.manual_seed(0)
    text = BertConfig(30, 24, 4, 3, positions=20, segments=0)
    vision = ViTConfig(16, 8, width=16, depth=1, heads=2)
    return Matcher(MatcherConfig(vision, QFormerConfig(text, 16, QUERIES), shared=8)).eval()


def moved(model, mask, place, image=False):
    """At which queries and words the output moves if the word at ``place``, or the image, is another."""
    features = model.image_features(IMAGES)
    before = model.qformer(features, IDS, mask(QUERIES, WORDS))
    ids, other = IDS.clone(), features.clone()
    if image:
        other += torch.randn_like(other)
    else:
        ids[:, place] = (ids[:, place] + 5) % 29 + 1
    after = model.qformer(other, ids, mask(QUERIES, WORDS))
    return ((after - before).abs().amax(-1) > 1e-6)[0].tolist()


def test_apart_nothing_passes_between_queries_and_words(matcher):
    assert moved(matcher, apart_mask, 1) == [False] * 3 + [True] * 4
    assert moved(matcher, apart_mask, None, image=True) == [True] * 3 + [False] * 4


def test_together_everything_sees_everything(matcher):
    assert moved(matcher, together_mask, 3) == [True] * 7
    assert moved(matcher, together_mask, None, image=True) == [True] * 7


def test_writing_queries_see_no_word_and_words_see_none_that_follows(matcher):
    assert moved(matcher, writing_mask, 2) == [False] * 5 + [True] * 2
    assert moved(matcher, writing_mask, 0) == [False] * 3 + [True] * 4
    assert moved(matcher, writing_mask, None, image=True) == [True] * 7


@pytest.mark.parametrize("mask", [apart_mask, together_mask, writing_mask])
def test_padding_is_never_seen(matcher, mask):
    features, ids = matcher.image_features(IMAGES), IDS.clone()
    before = matcher.qformer(features, ids, mask(QUERIES, WORDS))[1, : QUERIES + 2]
    ids[1, 2:] = 7
    after = matcher.qformer(features, ids, mask(QUERIES, WORDS))[1, : QUERIES + 2]
    assert torch.equal(before, after)


def test_the_contrast_of_two_passes_is_that_of_one_with_nothing_between(matcher):
    """ask and read are what apart_mask lets through, at less than half the price."""
    features = matcher.image_features(IMAGES)
    both = matcher.qformer(features, IDS, apart_mask(QUERIES, WORDS))
    torch.testing.assert_close(both[:, :QUERIES], matcher.qformer.ask(features))
    alone = matcher.qformer.read(IDS, WORDS)
    torch.testing.assert_close(both[:, QUERIES:][WORDS], alone[WORDS])


def test_of_the_queries_the_best_one_counts():
    images = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[0.6, 0.8], [-1.0, 0.0]]])
    texts = torch.tensor([[0.0, 1.0], [-1.0, 0.0], [1.0, 0.0]])
    assert best_query(images, texts).tolist() == [
        [1.0, 0.0, 1.0],
        [pytest.approx(0.8), 1.0, pytest.approx(0.6)],
    ]


def test_the_image_reaches_every_second_block_only(matcher):
    assert [hasattr(block, "cross") for block in matcher.qformer.blocks] == [True, False, True, False]


def test_in_a_block_another_image_changes_all_queries_and_no_word(matcher):
    features, tokens = matcher.image_features(IMAGES), torch.randn(1, QUERIES + 4, 24)
    one, other = (matcher.qformer.blocks[0](tokens, context=f[None], queries=QUERIES) for f in features)
    assert ((one - other).abs().amax(-1) > 1e-6)[0].tolist() == [True] * QUERIES + [False] * 4


def test_every_query_has_a_vote_and_no_word():
    tokens, match = torch.randn(2, 5, 4), torch.nn.Linear(4, 2)
    votes = query_votes(tokens, QUERIES, match)
    torch.testing.assert_close(votes, torch.stack([match(tokens[:, q]) for q in range(QUERIES)]).mean(dim=0))
    tokens[:, QUERIES:] += 1
    assert torch.equal(query_votes(tokens, QUERIES, match), votes)


def test_every_image_is_held_against_every_text_by_all_its_queries(matcher):
    images, texts = torch.randn(2, QUERIES, 8), torch.randn(4, 8)
    alike = matcher.alike(images, texts)
    assert alike.shape == (2, 4)
    assert alike[1, 3].item() == pytest.approx(max((query @ texts[3]).item() for query in images[1]))


def test_whether_they_match_is_the_mean_of_what_the_queries_say(matcher):
    features = matcher.image_features(IMAGES)
    tokens = matcher.qformer(features, IDS, together_mask(QUERIES, WORDS))
    scores = matcher.match(tokens[:, :QUERIES]).mean(dim=1)
    torch.testing.assert_close(matcher.match_scores(features, IDS, WORDS), scores)
