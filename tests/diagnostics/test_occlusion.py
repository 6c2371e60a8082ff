"""Occlusion covers what it says, probabilities are the model's, and grounding knows chance."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from vlmcourse.diagnostics import occlusion
from vlmcourse.diagnostics.occlusion import (
    answer_probability,
    covered,
    explain_all,
    grounding,
    grounding_of,
    occlude,
    occlusion_map,
    rivals_for,
)
from vlmcourse.families.making import load_speaker
from vlmcourse.world import questions, scenes
from vlmcourse.world.render import render

COLOUR = torch.tensor([1, 2, 3], dtype=torch.uint8)


def test_each_copy_hides_one_patch_and_the_image_stays():
    image = torch.randint(10, 250, (4, 6, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    before, copies = image.clone(), occlude(image, 2, COLOUR)
    assert copies.shape == (6, 4, 6, 3) and torch.equal(image, before)
    for number, copy in enumerate(copies):
        top, left = 2 * (number // 3), 2 * (number % 3)
        by_hand = image.clone()
        by_hand[top : top + 2, left : left + 2] = COLOUR
        assert torch.equal(copy, by_hand)


@pytest.mark.parametrize("shape", [(5, 6, 3), (6, 5, 3)])
def test_patches_must_tile_the_image(shape):
    with pytest.raises(ValueError, match="patches of 2 pixels do not tile an image of"):
        occlude(torch.zeros(shape, dtype=torch.uint8), 2, COLOUR)


@pytest.mark.parametrize(
    "box, rows, columns",
    [
        ((4, 8, 8, 12), [2], [1]),  # exactly one patch: right and bottom are exclusive
        ((3, 8, 8, 12), [2], [0, 1]),
        ((4, 7, 9, 13), [1, 2, 3], [1, 2]),
        ((0, 0, 1, 1), [0], [0]),
        ((5, 9, 6, 10), [2], [1]),
    ],
)
def test_a_box_covers_every_patch_it_touches(box, rows, columns):
    by_hand = torch.zeros(4, 5, dtype=torch.bool)
    for row in rows:
        by_hand[row, columns] = True
    assert torch.equal(covered(box, 4, (4, 5)), by_hand)


def test_grounding_compares_with_all_boxes_of_this_size():
    evidence = torch.tensor([[1.0, 2, 3], [4, 5, 6]])
    inside = torch.tensor([[False, True, True], [False, False, False]])
    found, anywhere = grounding(evidence, inside)
    assert found == 2.5 and anywhere == pytest.approx((1.5 + 2.5 + 4.5 + 5.5) / 4)
    whole = torch.ones(2, 3, dtype=torch.bool)
    assert grounding(evidence, whole) == (3.5, 3.5)
    column = torch.tensor([[True, False, False], [True, False, False]])
    assert grounding(evidence, column) == (2.5, pytest.approx(3.5))


def test_maps_are_scaled_and_what_speaks_against_the_answer_does_not_count():
    large = torch.tensor([[300.0, 100], [-500, 0]])
    small = torch.tensor([[0.0, 0.0], [0.0, 0.2]])
    inside, anywhere = grounding_of([large, small], [[(0, 0, 4, 4)], [(4, 4, 8, 8), (0, 0, 4, 4)]], 4)
    assert inside == pytest.approx((0.75 + 1 + 0) / 3) and anywhere == pytest.approx(0.25)
    assert grounding_of([torch.zeros(2, 2)], [[(0, 0, 4, 4)]], 4) == (0, 0)


@pytest.fixture(scope="module")
def speaker():
    return load_speaker("nano-vlm")[0]


BATCH = scenes.sample("validation", 30, start=40_000)
IMAGES, ASKED = render(BATCH), questions.ask(BATCH, "shape")
KEPT = [number for number, question in enumerate(ASKED) if question][:5]


def test_the_probability_is_that_of_the_whole_answer(speaker):
    question = "Where is the circle?"
    likely = answer_probability(speaker, IMAGES[:7], question, "top left")
    features = speaker.features(IMAGES[:7])
    rows = speaker.encode([[(question, "top left")]] * 7)
    logits = speaker.model(rows.ids, features=speaker.model.connect(features))
    places = (rows.labels[0] >= 0).nonzero().flatten()
    assert len(places) == 3  # top, left, and the end
    chances = logits.softmax(dim=-1)
    by_hand = [chances[n, places - 1, rows.ids[n, places]].prod().item() for n in range(7)]
    assert likely.tolist() == pytest.approx(by_hand, abs=1e-5)
    assert likely.min() > 0 and likely.max() <= 1 and likely.std() > 0


def test_many_images_are_more_than_one_batch(speaker):
    many = np.tile(IMAGES[:2], (60, 1, 1, 1))
    likely = answer_probability(speaker, many, "Is there a star?", "yes")
    assert likely.shape == (120,) and torch.allclose(likely[:2].repeat(60), likely, atol=1e-4)


@pytest.mark.parametrize("side", [8, 16])
def test_a_map_is_by_how_much_the_probability_falls(speaker, side):
    scene = KEPT[0]
    image, question = IMAGES[scene], ASKED[scene]
    falls = occlusion_map(speaker, image, question.text, question.answer, side)
    assert falls.shape == (64 // side, 64 // side)
    hidden = image.copy()
    hidden[side : 2 * side, 2 * side : 3 * side] = image[0, 0]
    before, after = answer_probability(speaker, np.stack([image, hidden]), question.text, question.answer)
    assert falls[1, 2] == pytest.approx((before - after).item(), abs=1e-5)


def test_an_oblong_image_has_an_oblong_map(monkeypatch):
    def bright(speaker, images, instruction, answer):
        return torch.from_numpy(images.mean(axis=(1, 2, 3))).float()

    monkeypatch.setattr(occlusion, "answer_probability", bright)
    image = np.zeros((16, 24, 3), np.uint8)
    image[8:16, 16:24] = 240
    image[4, 4] = 60
    image[15], image[:, 23] = 0, 0
    falls = occlusion_map(None, image, "", "")
    assert falls.shape == (2, 3) and falls[1, 2] == pytest.approx(240 * 49 / 384)
    assert falls[0, 0] == pytest.approx(60 / 384) and falls.count_nonzero() == 2


def test_the_evidence_of_a_model_that_sees_lies_in_its_box(speaker):
    asked = [ASKED[number] for number in KEPT]
    inside, anywhere = explain_all(occlusion_map, speaker, IMAGES[KEPT], asked)
    assert inside > 2 * anywhere


def test_each_map_is_of_its_own_image_question_and_answer():
    images = np.zeros((2, 12, 24, 3), np.uint8)
    images[1] = 7
    asked = [
        SimpleNamespace(text="a", answer="x", boxes=[(0, 0, 4, 4)]),
        SimpleNamespace(text="b", answer="y", boxes=[(8, 8, 12, 12)]),  # patches of 4 pixels
    ]
    seen = []

    def explain(speaker, image, text, answer):
        seen.append((speaker, image[0, 0, 0], text, answer))
        return torch.eye(3, 6)

    assert explain_all(explain, "it", images, asked) == pytest.approx((1 / 3, 1 / 18))
    assert seen == [("it", 0, "a", "x"), ("it", 7, "b", "y")]


QUESTION = "How many things are there?"


def test_rivals_are_the_likeliest_whole_answers_and_their_chances_those_of_each_alone(speaker):
    answers, chances = rivals_for(speaker, 4)(IMAGES[0], QUESTION)
    found = chances(IMAGES[:3])
    alone = [answer_probability(speaker, IMAGES[:3], QUESTION, answer) for answer in answers]
    torch.testing.assert_close(found, torch.stack(alone, dim=1), atol=1e-5, rtol=0)
    assert answers[0] == speaker.answer(IMAGES[0], QUESTION)
    assert 2 <= len(answers) <= 4 and len(set(answers)) == len(answers)
    assert found[0].tolist() == sorted(found[0].tolist(), reverse=True) and found.sum(dim=1).max() <= 1.001


def test_rivals_come_however_unlikely_they_are(speaker):
    _, chances = rivals_for(speaker)(IMAGES[KEPT[0]], ASKED[KEPT[0]].text)
    [first, *others] = chances(IMAGES[KEPT[:1]])[0].tolist()
    assert len(others) >= 2 and first > 0.99 and 0 < max(others) < 1e-3


def test_an_answer_that_reads_as_other_tokens_is_left_out(speaker, monkeypatch):
    """Spelled, the tokens of such an answer are a text of another likelihood."""
    answers, chances = rivals_for(speaker)(IMAGES[0], QUESTION)
    likely = chances(IMAGES[:1])[0].tolist()
    choices = [(answers[0], likely[0]), ("a text", 0.01), (answers[1], likely[1] * 1.01)]
    monkeypatch.setattr(occlusion, "look_and_answer", lambda *_, **options: {"choices": choices})
    assert rivals_for(speaker)(IMAGES[0], QUESTION)[0] == answers[:2]
    monkeypatch.setattr(occlusion, "look_and_answer", lambda *_, **options: {"choices": choices[1:2]})
    with pytest.raises(ValueError, match="reads as it was written"):
        rivals_for(speaker)(IMAGES[0], QUESTION)


def test_the_words_of_a_question_are_encoded_once_and_one_thread_answers(speaker, monkeypatch):
    encoded, threads = [], []
    encode, scores = speaker.encode, speaker.scores
    monkeypatch.setattr(speaker, "encode", lambda talks: encoded.append(talks) or encode(talks))
    monkeypatch.setattr(speaker, "scores", lambda *a: threads.append(torch.get_num_threads()) or scores(*a))
    _, chances = rivals_for(speaker)(IMAGES[0], QUESTION)
    known, before = len(encoded), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        chances(IMAGES[:2]), chances(IMAGES[2:3])
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert len(encoded) == known and threads[-2:] == [1, 1]
