"""Contrast, matching and writing: the formulas against loops, and what each loss must not see."""

import math

import pytest
import torch
from torch.nn import functional as F

from vlmcourse.models.bert import BertConfig
from vlmcourse.models.blip import Blip, BlipConfig, hard_negatives
from vlmcourse.models.qformer import Matcher, MatcherConfig, QFormerConfig
from vlmcourse.models.vit import ViTConfig
from vlmcourse.training import matching
from vlmcourse.training.capfilt import judge_captions, keep_captions
from vlmcourse.training.matching import (
    KINDS_OF_LOSS,
    contrast_loss,
    learn_to_match,
    match_loss,
    matched_pairs,
    matching_loss,
    next_words_loss,
    soft_contrast,
)

EYE = ViTConfig(16, 8, width=12, depth=1, heads=2)
TEXT = BertConfig(19, 12, 2, 2, positions=9, segments=0)


def loud(model):
    """With weights so large that whatever is seen makes a difference."""
    torch.manual_seed(0)
    for weight in model.parameters():
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, std=0.4)
    return model.eval()


def blip():
    return loud(Blip(BlipConfig(EYE, TEXT, start=1, end=2, shared=5)))


def matcher():
    return loud(Matcher(MatcherConfig(EYE, QFormerConfig(TEXT, EYE.width, queries=3), shared=5)))


def batch(count=4):
    """Features, ids and mask of so many pairs."""
    torch.manual_seed(1)
    ids = torch.randint(3, 19, (count, 7))
    ids[:, 0] = 1
    mask = torch.arange(7) < torch.tensor([7, 5, 6, 4, 7, 5])[:count, None]
    return torch.randn(count, 5, 12), ids, mask


def test_the_contrast_is_the_cross_entropy_with_shared_out_targets():
    torch.manual_seed(2)
    similarity, slow, share = torch.randn(3, 5), torch.randn(3, 5), 0.3
    total = 0.0
    for row in range(3):
        for column in range(5):
            target = (1 - share) * (row == column) + share * slow[row].softmax(0)[column].item()
            total -= target * similarity[row].log_softmax(0)[column].item()
    assert soft_contrast(similarity, slow, share).item() == pytest.approx(total / 3, abs=1e-6)


def test_a_contrast_without_a_share_is_clips():
    similarity = torch.randn(4, 6)
    expected = F.cross_entropy(similarity, torch.arange(4))
    assert torch.allclose(soft_contrast(similarity, torch.randn(4, 6), 0.0), expected)


def test_each_pair_is_shown_once_true_and_twice_wrong():
    images, texts, labels = matched_pairs(torch.tensor([1, 2, 0]), torch.tensor([2, 0, 0]))
    pairs = list(zip(images.tolist(), texts.tolist(), labels.tolist(), strict=True))
    assert pairs == [(0, 0, 1), (1, 1, 1), (2, 2, 1), (0, 1, 0), (1, 2, 0), (2, 0, 0), (2, 0, 0), (0, 1, 0),
                     (0, 2, 0)]  # fmt: skip


def test_next_words_are_those_behind_and_padding_is_never_asked_for():
    scores, (_, ids, mask) = torch.randn(4, 7, 19), batch()
    surprises = [
        -scores[text, place].log_softmax(0)[ids[text, place + 1]]
        for text in range(4)
        for place in range(6)
        if mask[text, place + 1]
    ]
    expected = torch.stack(surprises).mean()
    assert torch.allclose(next_words_loss(scores, ids, mask, 0.0), expected)
    hidden = ids.masked_fill(~mask, 0)
    assert torch.equal(next_words_loss(scores, ids, mask, 0.1), next_words_loss(scores, hidden, mask, 0.1))


def test_smoothing_shares_a_part_of_the_target_out_evenly():
    _, ids, mask = batch()
    flat = torch.zeros(4, 7, 19)
    assert next_words_loss(flat, ids, mask, 0.1).item() == pytest.approx(math.log(19), abs=1e-5)
    sure = torch.full((4, 7, 19), -30.0).scatter(2, ids.roll(-1, 1)[..., None], 30.0)
    expected = 0.1 * 60 * 18 / 19  # the share of every other word, each 60 nats away
    assert next_words_loss(sure, ids, mask, 0.1).item() == pytest.approx(expected, rel=1e-4)


def test_random_negatives_are_never_ones_own_and_all_others_as_likely():
    torch.manual_seed(3)
    drawn = torch.stack([hard_negatives(torch.zeros(4, 4), torch.rand(4)) for _ in range(3000)])
    counts = torch.stack([(drawn == text).sum(dim=0) for text in range(4)], dim=1)
    assert counts.diagonal().sum() == 0
    assert (counts[~torch.eye(4, dtype=torch.bool)] / 3000 - 1 / 3).abs().max() < 0.04


@pytest.mark.parametrize("hard", [True, False])
def test_what_fits_is_never_a_negative(monkeypatch, hard):
    shown = []
    monkeypatch.setattr(
        matching, "matched_pairs", lambda *wrong: shown.append(wrong) or matched_pairs(*wrong)
    )
    model, (features, ids, mask) = blip(), batch()
    fits = torch.zeros(4, 4, dtype=torch.bool)
    fits[0, 1] = fits[0, 2] = fits[3, 1] = True
    for _ in range(20):
        match_loss(model, features, ids, mask, 5 * torch.randn(4, 4), hard, fits)
    assert all(texts[0] == 3 and texts[3] != 1 and images[1] not in (0, 3) for texts, images in shown)


def test_in_the_contrast_what_fits_too_is_no_candidate():
    similarity = torch.randn(3, 3)
    fits = torch.zeros(3, 3, dtype=torch.bool)
    fits[0, 2] = True
    rows = [similarity[0, :2].log_softmax(0)[0], *(similarity[n].log_softmax(0)[n] for n in (1, 2))]
    columns = [*(similarity[:, n].log_softmax(0)[n] for n in (0, 1)), similarity[1:, 2].log_softmax(0)[1]]
    expected = -(sum(rows) + sum(columns)) / 6
    assert torch.allclose(contrast_loss(similarity, fits), expected, atol=1e-6)


def test_hard_negatives_are_drawn_by_the_softmax_of_the_others():
    torch.manual_seed(4)
    similarity = torch.randn(3, 3)
    drawn = torch.stack([hard_negatives(similarity, torch.rand(3)) for _ in range(4000)])
    wanted = similarity.masked_fill(torch.eye(3, dtype=torch.bool), -torch.inf).softmax(dim=1)
    found = torch.stack([(drawn == text).float().mean(dim=0) for text in range(3)], dim=1)
    assert (found - wanted).abs().max() < 0.03 and found.diagonal().sum() == 0


@pytest.mark.parametrize("count", [2, 7, 300])
def test_a_negative_is_in_the_batch_whatever_the_dice(count):
    similarity = 30 * torch.randn(count, count)
    almost_one = torch.full((count,), 1 - 2**-24)
    for dice in (torch.zeros(count), almost_one):
        drawn = hard_negatives(similarity, dice)
        assert (drawn < count).all() and (drawn >= 0).all() and (drawn != torch.arange(count)).all()


@pytest.mark.parametrize("new", [blip, matcher])
@pytest.mark.parametrize("kind", KINDS_OF_LOSS)
def test_padding_changes_no_loss(new, kind):
    model, (features, ids, mask) = new(), batch()
    longer, real = F.pad(ids, (0, 1), value=5), F.pad(mask, (0, 1))
    losses = []
    for text in ((ids, mask), (longer, real), (ids.masked_fill(~mask, 4), mask)):
        torch.manual_seed(5)
        losses.append(matching_loss(model, features, *text, kinds=[kind])[0])
    assert torch.allclose(losses[0], losses[1], atol=1e-5)
    assert torch.allclose(losses[0], losses[2], atol=1e-5)


@pytest.mark.parametrize("new", [blip, matcher])
def test_in_the_contrast_image_and_text_do_not_see_each_other(new):
    model, (features, ids, mask) = new(), batch()
    features.requires_grad_()
    images = model.image_vectors(features)
    (slope,) = torch.autograd.grad(images[0].sum(), features)
    assert slope[0].abs().sum() > 0 and slope[1:].abs().sum() == 0
    other = ids.clone()
    other[1, 3] = (other[1, 3] + 1) % 19
    moved = (model.text_vectors(ids, mask) - model.text_vectors(other, mask)).abs().amax(dim=1) > 1e-6
    assert moved.tolist() == [False, True, False, False]


@pytest.mark.parametrize("new", [blip, matcher])
def test_a_writer_sees_its_image_and_no_word_to_come(new):
    model, (features, ids, mask) = new(), batch()
    before = model.write_scores(features, ids, mask)
    other = ids.clone()
    other[:, 4] = (other[:, 4] + 1) % 19
    after = model.write_scores(features, other, mask)
    assert torch.allclose(before[:, :4], after[:, :4], atol=1e-5)
    assert not torch.allclose(before[:, 4], after[:, 4], atol=1e-4)
    assert not torch.allclose(before, model.write_scores(features.roll(1, 0), ids, mask), atol=1e-4)


@pytest.mark.parametrize("new", [blip, matcher])
def test_a_matcher_sees_every_word_and_the_image(new):
    model, (features, ids, mask) = new(), batch()
    before = model.match_scores(features, ids, mask)
    last = ids.clone()
    last[0, 6] = (last[0, 6] + 1) % 19
    assert not torch.allclose(before[0], model.match_scores(features, last, mask)[0], atol=1e-6)
    assert not torch.allclose(before, model.match_scores(features.roll(1, 0), ids, mask), atol=1e-6)


def test_the_matching_loss_judges_exactly_the_pairs_that_were_drawn(monkeypatch):
    model, (features, ids, mask) = blip(), batch()
    similarity = 5 * torch.randn(4, 4)
    torch.manual_seed(6)
    loss = match_loss(model, features, ids, mask, similarity, hard=True)
    torch.manual_seed(6)
    dice, terms = torch.rand(2, 4), []
    texts, images = hard_negatives(similarity, dice[0]), hard_negatives(similarity.T, dice[1])
    for one in range(4):
        pairs = [(one, one, 1), (one, texts[one], 0), (images[one], one, 0)]
        for image, text, label in pairs:
            scores = model.match_scores(features[image][None], ids[text][None], mask[text][None])
            terms.append(-scores[0].log_softmax(0)[label])
    assert torch.allclose(loss, torch.stack(terms).mean(), atol=1e-5)


def test_random_negatives_ignore_the_similarity():
    model, (features, ids, mask) = blip(), batch()
    losses = []
    for similarity in (torch.zeros(4, 4), 50 * torch.randn(4, 4)):
        torch.manual_seed(7)
        losses.append(match_loss(model, features, ids, mask, similarity, hard=False))
    assert torch.equal(*losses)


def test_nothing_is_learned_through_the_choice_of_negatives():
    model, (features, ids, mask) = blip(), batch()
    loss, _ = matching_loss(model, features, ids, mask, kinds=["match"])
    loss.backward()
    assert model.project_text.weight.grad is None and model.project_image.weight.grad is None


def test_losses_of_several_kinds_are_summed_and_named():
    model, given = blip(), batch()
    torch.manual_seed(8)
    loss, parts = matching_loss(model, *given, smoothing=0.1)
    assert tuple(parts) == KINDS_OF_LOSS
    assert torch.allclose(loss, sum(parts.values()))


def test_negatives_are_hard_and_targets_sharp_unless_said_otherwise():
    def losses(**options):
        torch.manual_seed(9)
        return torch.stack([*matching_loss(blip(), *batch(), **options)[1].values()])

    usual = losses()
    assert torch.equal(usual, losses(kinds=KINDS_OF_LOSS, hard=True, smoothing=0.0, fits=None))
    assert (usual != losses(hard=False)).tolist() == [False, True, False]
    assert (usual != losses(smoothing=0.1)).tolist() == [False, False, True]


def test_a_seed_decides_which_pairs_a_step_reads():
    def read(seed):
        seen, model = [], torch.nn.Linear(12, 1)

        def noted(model, features, ids, mask):
            seen.append(ids.tolist())
            return model(features).mean()

        features, ids, mask = batch(6)
        learn_to_match(model, features, (ids, mask), steps=3, size=2, seed=seed, loss=noted)
        return seen

    assert read(0) == read(0) != read(1)


@pytest.mark.parametrize(("kinds", "says"), [(["match", "itm"], "no loss is called itm"), ([], "no loss is")])
def test_unknown_losses_are_refused_by_name(kinds, says):
    with pytest.raises(ValueError, match=says):
        matching_loss(blip(), *batch(), kinds=kinds)


def test_one_pair_alone_has_no_wrong_partner():
    with pytest.raises(ValueError, match="has none in it"):
        matching_loss(blip(), *batch(1))


def test_a_model_learns_its_pairs():
    features, ids, mask = batch(6)
    model = blip()
    model.vision.requires_grad_(False)
    given = dict(steps=60, size=6, lr=3e-3)
    history = learn_to_match(model, features.bfloat16(), (ids, mask), **given)
    assert history.losses[-1] < 0.7 * history.losses[0]
    assert {"contrast", "match", "write"} <= history.metrics.keys()
    with torch.no_grad():
        alike = model.alike(model.image_vectors(features), model.text_vectors(ids, mask))
    assert (alike.argmax(dim=1) == torch.arange(6)).all()


def test_families_of_pairs_come_together_in_a_batch():
    seen = []

    def noted(model, features, ids, mask):
        seen.append(ids[:, 1].tolist())
        return matching_loss(model, features, ids, mask)

    features, ids, mask = batch(6)
    families = features.reshape(3, 2, 5, 12), (ids.reshape(3, 2, 7), mask.reshape(3, 2, 7))
    learn_to_match(blip(), *families, steps=2, size=2, loss=noted)
    partner = dict(zip(ids[::2, 1].tolist(), ids[1::2, 1].tolist(), strict=True))
    assert all(partner[row[0]] == row[1] and partner[row[2]] == row[3] for row in seen)
    assert matching.KINDS_OF_LOSS == ("contrast", "match", "write")


def test_the_filter_keeps_what_itm_believes():
    scores = torch.tensor([[[0.0, 1.0], [2.0, 0.0]], [[0.0, 0.1], [0.0, 3.0]]])
    images, sources = keep_captions(scores, 0.7)
    assert images.tolist() == [0, 1] and sources.tolist() == [0, 1]


def test_captions_are_judged_in_parts_as_at_once():
    model, (features, ids, mask) = blip(), batch()
    sources = [(ids, mask), (ids.roll(1, 0), mask.roll(1, 0))]
    scores = judge_captions(model, features, sources, size=3)
    assert scores.shape == (4, 2, 2)
    expected = model.match_scores(features, ids.roll(1, 0), mask.roll(1, 0))
    assert torch.allclose(scores[:, 1], expected, atol=1e-5)
