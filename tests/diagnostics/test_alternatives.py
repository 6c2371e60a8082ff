import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch

from vlmcourse.data.text import END
from vlmcourse.diagnostics import alternatives
from vlmcourse.diagnostics.alternatives import answers_for, beam, look_and_answer, one_thread
from vlmcourse.families import connectors, nano, native
from vlmcourse.models.attention import Cache
from vlmcourse.models.language import next_scores
from vlmcourse.recipes.book import RECIPES
from vlmcourse.speak import Speaker
from vlmcourse.world import pages, questions, render, scenes
from vlmcourse.world.instructions import FULL
from vlmcourse.world.render import to_tensor

IMAGES = render.render(scenes.sample("test", 3))
QUESTION = "What colour is the circle?"


class Chain:
    """A language of twelve tokens in which only the last token counts; it ends soon."""

    def __init__(self, seed: int):
        scores = torch.randn(12, 12, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 1.5
        scores[:, END] += 3
        self.scores = scores.log_softmax(dim=-1)

    def hidden(self, ids, mask, caches):
        assert len(ids) == len(caches[0].past[0]) and (caches[0].past[0][:, 0, -1, 0] >= 0).all()
        return torch.nn.functional.one_hot(ids, 12).double()

    def head(self, hidden):
        return hidden @ self.scores

    def probability(self, text) -> float:
        chain = [0, *text, END]
        return sum(float(self.scores[a, b]) for a, b in itertools.pairwise(chain))


@pytest.mark.parametrize("seed", range(5))
def test_a_beam_finds_the_likeliest_texts_and_their_probabilities(seed, unchecked):
    chain = Chain(seed)
    found = beam(chain, chain.scores[:1], [Cache((torch.zeros(1, 1, 3, 2), torch.zeros(1, 1, 3, 2)))], 5)
    others = [token for token in range(12) if token != END]
    texts = [text for length in range(4) for text in itertools.product(others, repeat=length)]
    every = sorted(map(chain.probability, texts), reverse=True)
    assert [score for _, score in found] == pytest.approx(
        [chain.probability(text) for text, _ in found], rel=1e-4
    )
    assert [score for _, score in found[:3]] == pytest.approx(
        every[:3], rel=1e-4
    )  # further down a beam may miss one


def test_how_unlikely_an_answer_may_be_is_said(unchecked):
    chain = Chain(0)
    chain.scores[:, END] = -0.001  # nearly certain to end, so that nothing else is likely
    chain.scores[:, [token for token in range(12) if token != END]] = -20.0
    cache = lambda: [Cache((torch.zeros(1, 1, 3, 2), torch.zeros(1, 1, 3, 2)))]  # noqa: E731
    assert len(beam(chain, chain.scores[:1], cache(), 3)) == 1
    found = beam(chain, chain.scores[:1], cache(), 3, least=-math.inf)
    assert [score for _, score in found] == pytest.approx([-0.001, -20.001, -20.001], rel=1e-4)


def test_an_answer_that_never_ends_is_cut_behind_64_tokens(unchecked):
    chain = Chain(0)
    chain.scores[:, END] = -1e9
    cache = Cache((torch.zeros(1, 1, 3, 2), torch.zeros(1, 1, 3, 2)))
    [(text, _)] = beam(chain, chain.scores[:1], [cache], 1)
    assert len(text) == 64


def test_a_small_model_answers_with_one_thread(model):
    before, seen = torch.get_num_threads(), []
    model.head.register_forward_pre_hook(lambda *_: seen.append(torch.get_num_threads()))
    torch.set_num_threads(2)
    try:
        look_and_answer(Speaker(model), IMAGES[0], QUESTION, choices=1)
        assert set(seen) == {1} and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model():
    return nano.new_vlm().eval()


@one_thread()
def test_one_choice_is_greedy_decoding(model):
    for image in IMAGES:
        said = look_and_answer(Speaker(model), image, FULL, choices=1)
        assert said["answer"] == Speaker(model).answer(image, FULL)


def test_attention_is_on_the_image_and_depends_on_it(model):
    said, other = (look_and_answer(Speaker(model), image, QUESTION) for image in IMAGES[:2])
    assert said["attention"].numel() == model.tokens_per_image and 0 < said["attention"].sum() < 1
    assert not torch.equal(said["attention"], other["attention"])
    assert 1 <= len(said["choices"]) <= 5 and all(math.isfinite(p) for _, p in said["choices"])


@one_thread()
def test_the_nano_vlm_says_what_greedy_decoding_says():
    model, _ = nano.load_vlm()
    batch = scenes.sample("test", 60, start=500)
    images, asked = render.render(batch), [question.text for question in questions.ask(batch)]
    answer, caption = answers_for(Speaker(model))
    said = [answer(image, text) for image, text in zip(images, asked, strict=True)]
    greedy = Speaker(model).answer(images, asked)
    assert np.mean([one["answer"] == other for one, other in zip(said, greedy, strict=True)]) >= 0.95
    assert all(0.5 < sum(p for _, p in one["choices"]) <= 1.001 for one in said)
    assert caption(images[0]) == Speaker(model).answer(images[0], FULL)


def test_a_page_of_any_size_is_answered_as_it_is_and_looked_at_in_its_own_squares():
    speaker, _ = native.load_native()
    page = pages.sample_pages("test", 1, kind="tables", sizes=[(128, 256)])
    question = page.asked[0][0]
    found = look_and_answer(speaker, page.pictures[0], question.text)
    assert found["answer"] == speaker.answer(page.pictures[0], question.text)
    assert found["attention"].shape == (8, 16)
    box = [edge // 16 for edge in question.boxes[0]]
    there = found["attention"][box[1] : box[3] + 1, box[0] : box[2] + 1].sum()
    assert there > 3 * found["attention"].mean()


@pytest.mark.parametrize("name", ["nano-flamingo", "nano-blip", "nano-blip2", "nano-blip2-t5"])
@torch.no_grad()
def test_the_beams_of_every_family_take_image_and_question_with_them(name, monkeypatch):
    """Untrained, apart from the eye; what a beam says of a text is what one pass over the text says."""
    monkeypatch.setattr(alternatives, "LONGEST", 4)
    recipe = RECIPES[name]
    taken = {part: other for part, other in recipe.start.items() if other == "nano-vlm"}
    model = connectors.new_model(dataclasses.replace(recipe, start=taken)).eval()
    for gate in [weight for key, weight in model.named_parameters() if key.endswith("_gate")]:
        gate.fill_(0.5)  # behind a closed one no image counts
    speaker, image = Speaker(model), to_tensor(IMAGES[:1])
    ids, _ = speaker.words.prompts([QUESTION], model.tokens_per_image)
    reader, prompt = model.begin(ids, image)
    caches = [Cache() for _ in reader.blocks]
    scores = next_scores(reader, prompt, caches=caches).log_softmax(dim=-1)
    for tokens, total in beam(reader, scores, caches, 5):
        tokens = [*tokens, END][:4]
        whole = torch.cat([ids, torch.tensor([tokens])], dim=1)
        said = model(whole, image)[0, ids.shape[1] - 1 : -1].log_softmax(dim=-1)
        assert total == pytest.approx(sum(said[n, token].item() for n, token in enumerate(tokens)), abs=1e-3)
    assert look_and_answer(speaker, IMAGES[0], QUESTION, 2)["attention"] is None
