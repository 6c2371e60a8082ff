"""Relevance: the published equations written as loops, and applied to models whose attention is known."""

import dataclasses
import math

import pytest
import torch

from vlmcourse.diagnostics.relevance import (
    NoPatches,
    as_maps,
    cam_map,
    cross_attention_rule,
    grad_cam,
    kept_attention,
    normalise_relevance,
    relevance_map,
    score_answer,
    self_attention_rule,
    stack_relevance,
    weigh_by_gradient,
)
from vlmcourse.families import connectors
from vlmcourse.families.making import load_speaker
from vlmcourse.families.nano import new_vlm
from vlmcourse.models.attention import Attention, record_attention, scaled_dot_product
from vlmcourse.models.llava import Llava
from vlmcourse.recipes.book import RECIPES
from vlmcourse.speak import Speaker
from vlmcourse.world import questions, scenes
from vlmcourse.world.render import render

BATCH = scenes.sample("validation", 12, start=40_000)
IMAGES, ASKED = render(BATCH), questions.ask(BATCH, "shape")
PAIR = "What shape is the red thing?", "circle"


def random(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def product(left, right):
    """Matrix product as three loops."""
    rows = [[0.0] * right.shape[1] for _ in range(left.shape[0])]
    for i in range(left.shape[0]):
        for j in range(right.shape[1]):
            for k in range(left.shape[1]):
                rows[i][j] += float(left[i, k]) * float(right[k, j])
    return torch.tensor(rows, dtype=torch.float64)


def normalised(matrix):
    """Equations 8 and 9, number by number."""
    size = len(matrix)
    rows = [[float(matrix[i, j]) - (i == j) for j in range(size)] for i in range(size)]
    for i, row in enumerate(rows):
        total = sum(row)
        rows[i] = [number / total + (i == j) if total else float(i == j) for j, number in enumerate(row)]
    return torch.tensor(rows, dtype=torch.float64)


def relevance(size, seed):
    return torch.eye(size, dtype=torch.float64) + random(size, size, seed=seed)


def test_an_attention_counts_where_it_raises_the_score():
    attention = torch.tensor([[[0.5, 0.5], [0.2, 0.8]], [[1.0, 0.0], [0.4, 0.6]]])
    gradient = torch.tensor([[[2.0, -2.0], [1, 1]], [[1.0, 9.0], [-1.0, 2]]])
    by_hand = torch.tensor([[(1 + 1) / 2, 0], [0.2 / 2, (0.8 + 1.2) / 2]])
    torch.testing.assert_close(weigh_by_gradient(attention, gradient), by_hand)


def test_the_rule_of_self_attention_is_the_published_one():
    own, across, attention = relevance(4, 1), random(4, 3, seed=2), random(4, 4, seed=3)
    got = self_attention_rule(own, across, attention)
    torch.testing.assert_close(got[0], own + product(attention, own), rtol=0, atol=1e-12)
    torch.testing.assert_close(got[1], across + product(attention, across), rtol=0, atol=1e-12)


def test_normalising_is_the_published_one_and_leaves_the_identity_alone():
    own = relevance(5, 4)
    own[2] = torch.eye(5)[2]
    torch.testing.assert_close(normalise_relevance(own), normalised(own), rtol=0, atol=1e-12)
    assert torch.equal(normalise_relevance(torch.eye(3)), torch.eye(3))
    added = normalise_relevance(own) - torch.eye(5)
    torch.testing.assert_close(added.sum(dim=1), torch.tensor([1.0, 1, 0, 1, 1], dtype=torch.float64))


def test_the_rule_of_cross_attention_is_the_published_one():
    own, other, across, back = relevance(4, 5), relevance(3, 6), random(4, 3, seed=7), random(3, 4, seed=8)
    attention = random(4, 3, seed=9)
    new_across, new_own = cross_attention_rule(own, other, across, back, attention)
    step = product(product(normalised(own).T, attention), normalised(other))
    torch.testing.assert_close(new_across, across + step, rtol=0, atol=1e-12)
    torch.testing.assert_close(new_own, own + product(attention, back), rtol=0, atol=1e-12)


def test_grad_cam_weighs_whole_maps_and_keeps_what_is_above_zero():
    activations = torch.tensor([[[[1.0, 2.0]], [[3.0, -1.0]]]])  # two channels of one row
    gradients = torch.tensor([[[[4.0, 0.0]], [[-2.0, 0.0]]]])  # means 2 and -1
    assert grad_cam(activations, gradients).tolist() == [[[0.0, 5.0]]]
    activations, gradients = random(2, 3, 4, 5, seed=1) - 0.4, random(2, 3, 4, 5, seed=2) - 0.5
    for image in range(2):
        total = sum(gradients[image, c].sum() / 20 * activations[image, c] for c in range(3))
        torch.testing.assert_close(grad_cam(activations, gradients)[image], total.clamp(min=0))


def test_patch_tokens_become_maps_row_by_row():
    maps = as_maps(torch.arange(24).float().reshape(1, 6, 4), (2, 3))
    assert maps.shape == (1, 4, 2, 3) and maps[0, 1].tolist() == [[1, 5, 9], [13, 17, 21]]


def untrained(name="nano-vlm", gate=0.7):
    if name == "nano-vlm":
        return Speaker(new_vlm().eval())
    recipe = RECIPES[name]
    taken = {part: other for part, other in recipe.start.items() if other == "nano-vlm"}
    model = connectors.new_model(dataclasses.replace(recipe, start=taken)).eval()
    for key, weight in model.named_parameters():
        if key.endswith("_gate"):
            weight.data.fill_(gate)
    return Speaker(model)


def test_attention_is_kept_with_its_graph_and_nothing_else_changes():
    model, images = untrained().model, torch.randn(2, 3, 64, 64)
    before = model.vision(images)
    with record_attention(model.vision) as record:
        model.vision(images)
    with kept_attention(model) as calls:
        torch.testing.assert_close(model.vision(images), before, atol=1e-4, rtol=1e-4)
    assert all(call.weights.requires_grad for call in calls) and len(calls) == len(record)
    for call, weights, block in zip(calls, record, model.vision.blocks, strict=True):
        torch.testing.assert_close(call.weights, weights)
        assert call.layer is block.attention
    model.vision(images)
    assert len(calls) == len(record) and scaled_dot_product.active is scaled_dot_product.reference
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_keeping_stops_after_an_error_and_runs_the_learners_function():
    ran, model = [], untrained().model

    def mine(*given):
        ran.append(len(given))
        return scaled_dot_product.reference(*given)

    scaled_dot_product.install(mine)
    try:
        with pytest.raises(ZeroDivisionError), kept_attention(model):
            model.vision(torch.randn(1, 3, 64, 64))
            1 / 0  # noqa: B018
        assert ran and scaled_dot_product.active is mine
    finally:
        scaled_dot_product.reset()
    assert not any(module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("name", ["nano-vlm", "nano-flamingo", "nano-blip", "nano-blip2-t5"])
def test_an_answer_is_scored_by_the_logits_of_its_words_without_its_end(name):
    speaker = untrained(name)
    features, words = speaker.features(IMAGES[:1]), ("top left", 2)
    told = score_answer(speaker, features, "Where is the star?", words[0])
    rows = speaker.encode([[("Where is the star?", words[0])]])
    scores, right, _ = next(speaker.scores(features, rows))
    assert len(right) == words[1] + 1 and told.places.sum() == words[1]
    torch.testing.assert_close(told.score, scores[[0, 1], right[:2]].sum())
    with pytest.raises(ValueError, match="no token of the answer '' is learned"):
        score_answer(speaker, features, "Where?", "")


def loop_relevance(speaker, image, instruction, answer):
    """LLaVA's alone, from a plain forward pass with its own attention, and the equations as loops."""
    model, rows = speaker.model, speaker.encode([[(instruction, answer)]])
    kept = []

    def plain(query, key, value, mask=None):
        scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
        weights = scores.masked_fill(~mask, -1e30).softmax(dim=-1)
        weights.retain_grad()
        kept.append(weights)
        return weights @ value, weights

    features = speaker.features(image[None])
    scaled_dot_product.install(plain)
    try:
        logits = model(rows.ids, features=model.connect(features))
    finally:
        scaled_dot_product.reset()
    places = (rows.labels[0] >= 0).nonzero().flatten()[:-1] - 1
    sum(logits[0, place, rows.ids[0, place + 1]] for place in places).backward()
    total = torch.eye(len(rows.ids[0]), dtype=torch.float64)
    for weights in kept:
        heads = (weights.grad * weights).detach()[0].double()
        mean = sum(torch.where(head > 0, head, 0) for head in heads) / len(heads)
        total = total + torch.einsum("ik,kj->ij", mean, total)
    return sum(total[place] for place in places)[rows.ids[0] == speaker.words.image]


@pytest.mark.parametrize("pair", [PAIR, ("Where is the circle?", "bottom left")])
def test_the_map_of_a_llava_is_that_of_the_loops(pair):
    speaker = load_speaker("nano-vlm")[0]
    by_hand = loop_relevance(speaker, IMAGES[0], *pair).float()
    got = relevance_map(speaker, IMAGES[0], *pair)
    assert got.shape == (8, 8) and got.max() > 1e-3
    torch.testing.assert_close(got.flatten(), by_hand, atol=1e-5, rtol=1e-3)


def test_a_stack_follows_its_steps_in_order():
    own, cross = Attention(8, 2), Attention(8, 2, context_width=8)
    first, second, third = (
        random(3, 3, seed=1).float(),
        random(3, 4, seed=2).float(),
        random(3, 3, seed=3).float(),
    )
    got, across = stack_relevance([(own, first), (cross, second), (own, third)])
    relevant = torch.eye(3) + first
    looked = normalise_relevance(relevant).T @ second
    torch.testing.assert_close(across, looked + third @ looked)
    torch.testing.assert_close(got, relevant + third @ relevant)
    cached = torch.cat([random(3, 2, seed=4).float(), first], dim=1)
    torch.testing.assert_close(stack_relevance([(own, cached)])[0], relevant)
    assert stack_relevance([(own, first)])[1] is None


FAMILIES = ["nano-vlm", "nano-flamingo", "nano-blip", "nano-blip2", "nano-blip2-t5"]


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("explain", [cam_map, relevance_map])
def test_every_family_has_maps_over_its_patches(name, explain):
    speaker = untrained(name)
    seen = explain(speaker, IMAGES[0], "Where is the star?", "top left")
    assert seen.shape == (8, 8) and seen.isfinite().all() and (seen >= 0).all() and seen.max() > 0
    assert not torch.equal(seen, explain(speaker, IMAGES[1], "Where is the star?", "top left"))
    assert all(parameter.grad is None for parameter in speaker.model.parameters())


@pytest.mark.parametrize("name", FAMILIES)
def test_a_model_of_which_nothing_is_trained_has_the_same_map(name):
    speaker = untrained(name)
    before = relevance_map(speaker, IMAGES[0], *PAIR)
    speaker.model.requires_grad_(False)
    torch.testing.assert_close(relevance_map(speaker, IMAGES[0], *PAIR), before)


def test_behind_closed_gates_nothing_is_relevant():
    speaker = untrained("nano-flamingo", gate=0.0)
    assert relevance_map(speaker, IMAGES[0], *PAIR).max() == 0
    assert cam_map(speaker, IMAGES[0], *PAIR).max() == 0


@pytest.mark.parametrize("frozen", [False, True])
def test_where_no_gradient_arrives_grad_cam_is_empty(frozen):
    speaker = untrained()
    connect = speaker.model.connect
    speaker.model.connect = lambda features: connect(features).detach()
    speaker.model.requires_grad_(not frozen)
    assert cam_map(speaker, IMAGES[0], *PAIR).tolist() == torch.zeros(8, 8).tolist()
    assert relevance_map(speaker, IMAGES[0], *PAIR).max() > 0


def test_grad_cam_is_of_the_patches_features_without_the_class_token():
    speaker = untrained("nano-blip")
    features = speaker.features(IMAGES[:1]).requires_grad_()
    assert features.shape[1] == 65
    score_answer(speaker, features, *PAIR).score.backward()
    gradient, seen = features.grad[0, 1:], features.detach()[0, 1:]
    by_hand = (seen @ gradient.mean(dim=0)).clamp(min=0).reshape(8, 8)
    torch.testing.assert_close(cam_map(speaker, IMAGES[0], *PAIR), by_hand)


@pytest.mark.parametrize("name", ["nano-flamingo", "nano-blip", "nano-blip2"])
def test_what_no_connector_looks_at_is_not_relevant(name):
    """The eye's patches 5 and 40 are masked in every attention to patches."""
    speaker = untrained(name)

    def without(query, key, value, mask=None, *rest):
        if key.shape[2] in (65, 65 + 16, 65 + 32, 65 + 64) and query.shape[2] != 65:
            hidden = torch.zeros(query.shape[2], key.shape[2], dtype=torch.bool)
            hidden[:, [6, 41]] = True
            mask = ~hidden if mask is None else mask & ~hidden
        return scaled_dot_product.reference(query, key, value, mask, *rest)

    scaled_dot_product.install(without)
    try:
        seen = relevance_map(speaker, IMAGES[0], *PAIR).flatten()
    finally:
        scaled_dot_product.reset()
    assert (seen == 0).nonzero().flatten().tolist() == [5, 40]


def test_image_tokens_that_are_no_patches_are_refused():
    config = dataclasses.replace(new_vlm().config, shuffle=2)
    with pytest.raises(NoPatches, match="16 image tokens cannot be laid over 8 × 8 patches"):
        relevance_map(Speaker(Llava(config).eval()), IMAGES[0], *PAIR)


def test_an_opening_that_is_read_apart_changes_no_map():
    speaker, _ = load_speaker("nano-vlm")
    apart = Speaker(speaker.model, dataclasses.replace(speaker.words, opening_apart=True))
    assert len(apart.words.opening()) > 0  # it is cached, and its own attention runs first
    torch.testing.assert_close(
        relevance_map(apart, IMAGES[0], *PAIR), relevance_map(speaker, IMAGES[0], *PAIR)
    )
