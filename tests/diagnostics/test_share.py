"""Shares of attention, updates and gradients: by hand, and on models whose shares are known."""

import dataclasses

import pytest
import torch

from vlmcourse.diagnostics.share import (
    Shares,
    attention_share,
    gradient_ratio,
    gradient_share,
    image_grid,
    image_share,
    prompt_looks,
    update_share,
)
from vlmcourse.families import connectors
from vlmcourse.families.nano import new_vlm
from vlmcourse.models.attention import Attention, record_attention
from vlmcourse.models.look import packed
from vlmcourse.recipes.book import RECIPES
from vlmcourse.speak import Speaker
from vlmcourse.world import scenes
from vlmcourse.world.render import render, to_tensor

IMAGES = render(scenes.sample("validation", 3))
ASKED = ["What colour is the circle?", "How many things are there?", "Is there a star?"]
TALKS = [[(text, "red")] for text in ASKED]


def untrained(name="nano-vlm"):
    """Apart from the eye."""
    if name == "nano-vlm":
        return Speaker(new_vlm().eval())
    recipe = RECIPES[name]
    taken = {part: other for part, other in recipe.start.items() if other == "nano-vlm"}
    return Speaker(connectors.new_model(dataclasses.replace(recipe, start=taken)).eval())


def test_the_share_sums_over_image_keys_and_is_the_mean_over_heads():
    weights = torch.tensor([[[[[0.1, 0.2, 0.7]], [[0.5, 0.1, 0.4]]]]])  # one layer, text and query; two heads
    share = image_share(weights, torch.tensor([[True, False, True]]))
    torch.testing.assert_close(share, torch.tensor([[[0.85]]]))


def test_every_text_has_its_own_places_and_every_layer_its_own_share():
    weights = torch.rand(4, 2, 3, 5, 6, generator=torch.Generator().manual_seed(0)).softmax(dim=-1)
    places = torch.tensor([[1, 1, 0, 0, 0, 0], [0, 0, 0, 1, 0, 1]]).bool()
    share = image_share(weights, places)
    for layer in range(4):
        for text, keys in enumerate([[0, 1], [3, 5]]):
            for query in range(5):
                by_hand = sum(weights[layer, text, head, query, keys].sum() for head in range(3)) / 3
                assert share[layer, text, query] == pytest.approx(by_hand.item(), abs=1e-6)


def test_the_share_of_an_update_compares_lengths():
    image = torch.tensor([[[[3.0, 4.0], [0, 0], [0, 0]]]])
    words = torch.tensor([[[[0.0, 15.0], [1, 0], [0, 0]]]])
    torch.testing.assert_close(update_share(image, words), torch.tensor([[[0.25, 0, 0]]]))


def test_where_the_answer_begins_is_the_last_token():
    shares = Shares(torch.arange(24.0).reshape(2, 3, 4), torch.ones(3, 4).bool(), "attention")
    assert shares.at_answer().tolist() == [7, 19]


def test_the_gradient_ratio_is_of_mean_lengths():
    image = torch.tensor([[[3.0, 4.0], [0, 0]], [[0, 1], [0, 3]]])
    words = torch.tensor([[[2.0, 0, 0], [0, 0, 8]], [[0, 1, 0], [0, 0, 1]]])
    torch.testing.assert_close(gradient_ratio(image, words), torch.tensor([0.5, 2.0]))


def test_image_tokens_look_at_nothing_but_images_and_words_at_both():
    speaker = untrained()
    share = attention_share(speaker, IMAGES, ASKED)
    ids, real = speaker.words.prompts(ASKED, speaker.model.tokens_per_image)
    assert share.kind == "attention" and share.shares.shape == (4, *ids.shape)
    assert torch.equal(share.real, real) and not real.all()
    seen = ids == speaker.words.image
    first = real.int().argmax(dim=1)  # <user>: there is nothing else to look at
    assert share.shares[:, torch.arange(3), first].max() == 0
    last = seen.shape[1] - 1 - seen.flip(1).int().argmax(dim=1)
    inside = share.shares[:, torch.arange(3), last]
    assert (inside > 0.9).all()  # all but <user>
    counted = seen.sum(dim=1) / real.sum(dim=1)
    torch.testing.assert_close(share.at_answer(), counted.mean().expand(4), atol=0.1, rtol=0)


@pytest.mark.parametrize("name", ["nano-blip", "nano-flamingo", "nano-blip2", "nano-blip2-t5"])
def test_every_family_tells_what_its_words_take_from_the_image(name):
    speaker = untrained(name)
    for gate in [weight for key, weight in speaker.model.named_parameters() if key.endswith("look_gate")]:
        gate.data.fill_(1.0)
    share = attention_share(speaker, IMAGES, ASKED)
    assert share.kind == ("attention" if name.startswith("nano-blip2") else "update")
    assert share.shares.shape[:2] == (4, 3) and share.real.shape == share.shares.shape[1:]
    assert (share.at_answer() > 0).all() and (share.shares <= 1).all()
    assert (gradient_share(speaker, IMAGES, TALKS) > 0).all()
    assert not any(module._forward_hooks for module in speaker.model.modules())


def test_the_weights_behind_a_share_are_those_of_its_words_on_the_patches():
    speaker = untrained()
    looks = prompt_looks(speaker, IMAGES[1], ASKED[1])
    share = attention_share(speaker, IMAGES[1:2], ASKED[1:2])
    ids, _ = speaker.words.prompts(ASKED[1:2], speaker.model.tokens_per_image)
    words = ids[0] != speaker.words.image
    assert looks.tokens == ["<user>", "how", "many", "things", "are", "there", "?", "<assistant>"]
    assert torch.equal(looks.shares, share.shares[:, 0, words])
    assert looks.kind == "attention" and looks.grid == (8, 8)
    assert looks.weights.shape == (4, 4, len(looks.tokens), 64)
    torch.testing.assert_close(looks.weights.sum(dim=-1).mean(dim=1), looks.shares)
    assert looks.weights[:, :, 0].max() == 0  # <user> stands before the image


def test_a_weight_stands_at_its_own_head_token_and_patch():
    speaker = untrained()
    looks = prompt_looks(speaker, IMAGES[0], ASKED[0])
    ids, _ = speaker.words.prompts(ASKED[:1], speaker.model.tokens_per_image)
    reader, prompt = speaker.model.begin(ids, to_tensor(IMAGES[:1]))
    with record_attention(speaker.model.language) as layers:
        reader.hidden(prompt)
    first = int((ids[0] == speaker.words.image).int().argmax())
    whole = layers[2][0, 3]  # (query, key) of one head
    torch.testing.assert_close(looks.weights[2, 3, -1], whole[-1, first : first + 64])
    torch.testing.assert_close(looks.weights[2, 3, 1], whole[first + 64, first : first + 64])


@pytest.mark.parametrize(
    "name, kind", [("nano-flamingo", "update"), ("nano-blip", "update"), ("nano-blip2", "attention")]
)
def test_no_weights_are_laid_over_patches_where_there_are_none(name, kind):
    looks = prompt_looks(untrained(name), IMAGES[0], ASKED[0])
    assert looks.weights is None and looks.grid is None and looks.kind == kind
    assert looks.shares.shape == (4, len(looks.tokens)) and looks.tokens[1:3] == ["what", "colour"]


@pytest.mark.parametrize("name, patchwise", [("nano-vlm", False), ("nano-blip2", True)])
def test_a_grid_needs_tokens_that_stand_for_places_and_fill_a_square(name, patchwise):
    speaker = untrained(name)
    speaker.model.patchwise = patchwise
    looks = prompt_looks(speaker, IMAGES[0], ASKED[0])
    assert looks.weights is None and looks.grid is None and looks.kind == "attention"


def test_behind_closed_gates_no_image_is_heard():
    speaker = untrained("nano-flamingo")
    assert attention_share(speaker, IMAGES, ASKED).shares.abs().max() == 0
    assert gradient_share(speaker, IMAGES, TALKS).tolist() == [0.0]


def test_an_open_gate_lets_as_much_through_as_it_says():
    speaker = untrained("nano-flamingo")
    kept = {}
    for number, gated in enumerate(speaker.model.gated):
        gated.look_gate.data.fill_(0.5 if number == 2 else 0.0)
    for key, layer in (("image", speaker.model.gated[2]), ("words", speaker.model.language.blocks[2])):
        layer.attention.register_forward_hook(lambda _, given, output, key=key: kept.update({key: output}))
    share = attention_share(speaker, IMAGES, ASKED)
    image = torch.tensor(0.5).tanh() * kept["image"].norm(dim=-1)
    by_hand = image / (image + kept["words"].norm(dim=-1))
    torch.testing.assert_close(share.shares[2], by_hand)
    assert share.shares[[0, 1, 3]].abs().max() == 0 and by_hand.max() > 1e-3


def test_a_gradient_is_found_before_every_block_and_none_is_kept():
    speaker = untrained()
    ratio = gradient_share(speaker, IMAGES, TALKS)
    assert ratio.shape == (4,) and (ratio > 0).all()
    assert all(parameter.grad is None for parameter in speaker.model.parameters())
    assert not any(module._forward_pre_hooks for module in speaker.model.modules())
    for attention in speaker.model.language.modules():
        if isinstance(attention, Attention):
            torch.nn.init.zeros_(attention.project_out.weight)
    assert gradient_share(speaker, IMAGES, TALKS).tolist() == [0.0] * 4  # words read no image


def test_gradients_are_those_of_the_answers_loss():
    """Before the first block they are what autograd says of the embedded row."""
    speaker = untrained()
    model, rows = speaker.model, speaker.encode(TALKS)
    row = model.embed(rows.ids, features=model.connect(speaker.features(IMAGES))).detach().requires_grad_()
    logits = model.head(model.language.hidden(row, packed(rows.packs)))[:, :-1]
    right = rows.labels[:, 1:]
    loss = torch.nn.functional.cross_entropy(logits[right >= 0], right[right >= 0])
    lengths = torch.autograd.grad(loss, row)[0].norm(dim=-1)
    seen = rows.ids == speaker.words.image
    by_hand = lengths[seen].mean() / lengths[(rows.packs >= 0) & ~seen].mean()
    torch.testing.assert_close(gradient_share(speaker, IMAGES, TALKS)[0], by_hand, rtol=1e-4, atol=0)


def test_tokens_are_laid_out_as_high_for_their_width_as_the_image():
    assert image_grid(64, 64, 64) == (8, 8) and image_grid(128, 128, 256) == (8, 16)
    assert image_grid(12, 192, 64) == (6, 2) and image_grid(1, 5, 5) == (1, 1)
    assert image_grid(10, 64, 64) is None and image_grid(0, 64, 64) is None
    assert image_grid(12, 64, 128) is None  # 2.4 rows
