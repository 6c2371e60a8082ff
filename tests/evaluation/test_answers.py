"""Answers about scenes are graded kind by kind, with the picture, without it, and beside habit."""

import numpy as np
import pytest
import torch

from vlmcourse.evaluation import answers
from vlmcourse.world import captions, questions, scenes, truth, twins
from vlmcourse.world.render import render


class Reader:
    """A speaker that is right about what it has seen drawn, and notes what it was shown."""

    def __init__(self, right=lambda image, asked: True):
        self.right, self.shown = right, []

    def encode(self, talks):
        return talks

    def features(self, images):
        self.shown.append(images)
        return images

    def grade(self, features, rows):
        return torch.tensor([self.right(image, row[0]) for image, row in zip(features, rows, strict=True)])


def test_scenes_that_allow_no_question_are_left_out():
    batch, asked = answers.asked_of(scenes.sample("test", 40), "relation")
    assert len(batch) == len(asked) < 40 and all(question.kind == "relation" for question in asked)


def test_of_a_scene_and_its_twin_the_same_is_asked_and_the_answers_differ():
    batch = scenes.sample("test", 40)
    both, asked = answers.asked_of_twins(batch, "comparison", seed=2)
    some, first = answers.asked_of(batch, "comparison", seed=2)
    half = len(first)
    assert len(both) == len(asked) == 2 * half and asked[:half] == first
    assert both.key[:half].tolist() == some.key.tolist()
    for number, (one, other) in enumerate(zip(asked[:half], asked[half:], strict=True)):
        assert one.text == other.text and one.answer != other.answer
        for place, question in ((number, one), (half + number, other)):
            things = truth.list_things(both, place)
            assert truth.pose("comparison", question.asked, things).answer == question.answer


def test_the_seed_chooses_questions_and_twins():
    batch = scenes.sample("test", 12)
    for options in (dict(), dict(seed=2)):
        both, asked = answers.asked_of_twins(batch, "colour", **options)
        some, first = answers.asked_of(batch, "colour", options.get("seed", 0))
        other, changed = twins.twins(some, first, options.get("seed", 0))
        assert asked == [*first, *changed] and (render(both[len(first) :]) == render(other)).all()


def contrast_of(one, drawn):
    """The first of the questions drawn that has the form of this one and another answer."""
    same = [other for other in drawn if other and type(other.asked) is type(one.asked)]
    return next((other for other in same if other.answer != one.answer), None)


@pytest.mark.parametrize("kind", ["comparison", "relation", "count"])
def test_a_contrast_is_one_form_about_one_picture_with_two_answers(kind):
    batch = scenes.sample("test", 60, objects=(1, 4))
    shown, first, other = answers.asked_of_contrasts(batch, kind, seed=2)
    assert 20 < len(shown) == len(first) == len(other)
    both, asked = answers.asked_of_twins(batch, kind, seed=2)
    pairs = [(image.tobytes(), one.text) for image, one in zip(render(both), asked, strict=True)]
    more = [questions.ask(both, kind, seed=2 + again) for again in range(1, 7)]
    fitting = [contrast_of(one, [drawn[number] for drawn in more]) for number, one in enumerate(asked)]
    assert len(shown) == sum(other is not None for other in fitting)
    for number, (picture, one, second) in enumerate(zip(render(shown), first, other, strict=True)):
        assert (picture.tobytes(), one.text) in pairs
        assert type(one.asked) is type(second.asked) and one.answer != second.answer
        assert second == fitting[pairs.index((picture.tobytes(), one.text))]
        things = truth.list_things(shown, number)
        for question in (one, second):
            assert truth.pose(kind, question.asked, things) == question


def test_contrasts_of_one_colour_need_three_things():
    shown, first, _ = answers.asked_of_contrasts(scenes.sample("test", 80), "comparison")
    colour = np.array(["same colour" in one.text for one in first])
    assert colour.sum() > 5 and set(shown.count[colour].tolist()) == {3, 4}
    assert 2 in shown.count[~colour]  # "is the circle larger than the star?", and the other way round


def test_contrasts_go_by_the_seed_and_there_may_be_none():
    batch = scenes.sample("test", 20)
    texts = [[one.text for one in answers.asked_of_contrasts(batch, "count", seed)[2]] for seed in (0, 0, 1)]
    assert texts[0] == texts[1] != texts[2]
    lonely = scenes.sample("test", 20, objects=(1, 1))
    assert [len(part) for part in answers.asked_of_contrasts(lonely, "relation")] == [0, 0, 0]


def test_accuracy_asks_about_the_picture_or_what_is_shown_instead():
    reader = Reader(lambda image, asked: asked[1] == "red")
    batch = scenes.sample("test", 20)
    shares = answers.accuracy(reader, batch)
    some, asked = answers.asked_of(batch, "colour")
    assert list(shares) == list(questions.KINDS) and len(reader.shown) == len(shares)
    assert shares["colour"] == pytest.approx(np.mean([question.answer == "red" for question in asked]))
    assert (reader.shown[list(shares).index("colour")] == render(some)).all()
    empty = Reader()
    assert set(answers.accuracy(empty, batch, lambda some: render(some) * 0).values()) == {1.0}
    assert not any(images.any() for images in empty.shown)


def test_both_answers_to_twins_must_be_right():
    assert answers.twins_right(Reader(), 10) == 1.0
    first = {}
    for kind in questions.KINDS:
        batch, asked = answers.asked_of(scenes.sample("test", 10, start=5000), kind)
        first[kind] = {image.tobytes() for image in render(batch)}
        assert len(twins.twins(batch, asked)[1]) == len(asked)
    known = set().union(*first.values())
    assert answers.twins_right(Reader(lambda image, asked: image.tobytes() in known), 10) == 0.0
    assert answers.twins_right(Reader(lambda image, asked: image.tobytes() not in known), 10) == 0.0


def test_every_kind_counts_alike_among_twins():
    """Who is right about one of eight kinds is right about an eighth."""
    reader = Reader(lambda image, asked: asked[0].startswith("How many"))
    assert len(questions.KINDS) == 8 and answers.twins_right(reader, 6) == pytest.approx(1 / 8)


def test_the_prior_is_the_score_of_habit():
    assert 0.25 < answers.prior_accuracy(200) < 0.5


def test_faultless_is_a_scene_with_every_answer_and_its_caption_right():
    batch = scenes.sample("test", 30)
    reader = Reader()
    reader.answer = lambda images, asked: captions.captions(batch, "full")
    assert answers.faultless(reader, batch).all()
    reader.answer = lambda images, asked: [*captions.captions(batch, "full")[1:], "a small red star"]
    assert not answers.faultless(reader, batch).any()
    reader = Reader(lambda image, asked: not asked[0].startswith("How many"))
    reader.answer = lambda images, asked: captions.captions(batch, "full")
    counted = [question is not None for question in questions.ask(batch, "count")]
    assert (answers.faultless(reader, batch) == ~np.array(counted)).all() and any(counted)


@pytest.mark.parametrize(
    ("kind", "reply", "right"),
    [
        ("colour", "red", True),
        ("colour", "Red.", True),
        ("colour", "The circle is red.", True),
        ("colour", "It is a red circle", True),
        ("colour", "red or blue", False),
        ("colour", "The red circle is blue.", False),
        ("colour", "blue", False),
        ("colour", "", False),
        ("existence", "yes", True),
        ("existence", "Yes, there is.", True),
        ("existence", "no", False),
        ("existence", "There is a red circle, yes", False),
        ("count", "one", True),
        ("count", "There is 1 red thing.", True),
        ("count", "2", False),
        ("position", "top left", True),
        ("position", "It is at the top left.", True),
        ("position", "top", False),
    ],
)
def test_replies_in_words_and_sentences(kind, reply, right):
    things = [truth.Thing(0, 2, 1, 20, 20)]
    posed = {
        "colour": truth.Attribute(truth.Who(shape=0), "colour"),
        "existence": truth.Existence(truth.Who(shape=0, colour=2)),
        "count": truth.Count(truth.Who(colour=2)),
        "position": truth.Attribute(truth.Who(shape=0), "position"),
    }
    question = truth.pose(kind, posed[kind], things)
    assert answers.agrees(reply, question) == right


def test_a_stranger_sees_columns_from_right_to_left():
    class Shows:
        model = None

        def answer(self, images, instructions, steps):
            return images.tolist(), instructions, steps

    images = np.arange(24, dtype=np.uint8).reshape(1, 2, 4, 3)
    shown, asked, steps = answers.Stranger(Shows()).answer(images, ["?"], 5)
    assert shown == images[:, :, [3, 2, 1, 0]].tolist() and (asked, steps) == (["?"], 5)
    assert answers.Stranger(Shows()).answer(images[0], "?")[0] == shown[0]


class Lexicon:
    """A speaker of three tokens whose scores are fixed: answers are 1, 2, or both, then the end 0."""

    def encode(self, talks):
        return [[int(letter) for letter in answer] + [0] for ((_, answer),) in talks]

    def features(self, images):
        return images

    def scores(self, features, rows):
        for number, row in enumerate(rows):
            # each token's chance is its own number of eighths: 1/8, 3/8, 4/8
            chances = torch.tensor([[1.0, 3.0, 4.0]]).repeat(len(row), 1)
            yield (chances * 7).log(), torch.tensor(row), torch.full((len(row),), number)


def test_an_answer_is_as_likely_as_all_its_tokens_and_the_end_together():
    images, asked = np.zeros((3, 8, 8, 3), np.uint8), ["a", "b", "c"]
    likely = answers.answer_probabilities(Lexicon(), images, asked, ["1", "2", "12"])
    assert likely.tolist() == pytest.approx([3 / 64, 4 / 64, 12 / 512])
    with pytest.raises(ValueError, match="3 images, 3 instructions and 2 answers"):
        answers.answer_probabilities(Lexicon(), images, asked, ["1", "2"])
