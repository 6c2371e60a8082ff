"""POPE's questions are balanced and as hard as they say; CHAIR counts what captions invent."""

from collections import Counter

import pytest

from vlmcourse.evaluation.hallucination import (
    NEGATIVES,
    OF_A_SCENE,
    chair,
    co_occurrence,
    mentioned,
    poll,
    pope_scores,
    ranked_absent,
    said_yes,
    scene_objects,
)
from vlmcourse.world import captions, scenes
from vlmcourse.world.grammar import true_answer
from vlmcourse.world.truth import list_things

KITCHEN = {
    "one": {"table", "cup", "spoon"},
    "two": ["table", "cup", "cup", "apple"],
    "three": ("table", "chair"),
    "four": {"apple"},
}


def test_company_is_counted_once_per_image():
    together = co_occurrence(KITCHEN.values())
    assert together["cup"] == {"table": 2, "spoon": 1, "apple": 1}
    assert together["apple"] == {"table": 1, "cup": 1}
    assert co_occurrence([["apple"]]) == {"apple": {}}


def test_absent_objects_are_ranked_and_ties_follow_the_alphabet():
    counts = {"dog": 2, "cup": 5, "bus": 2, "cat": 9}
    assert ranked_absent(counts, {"cat"}) == ["cup", "bus", "dog"]
    assert ranked_absent(counts, counts) == []


@pytest.mark.parametrize("negatives", NEGATIVES)
def test_half_of_the_questions_are_about_what_is_there_and_none_is_asked_twice(negatives):
    polls = poll(KITCHEN, negatives)
    for first, second in zip(polls[::2], polls[1::2], strict=True):
        assert first.image == second.image and (first.answer, second.answer) == ("yes", "no")
    for asked in polls:
        assert (asked.name in KITCHEN[asked.image]) == (asked.answer == "yes")
    assert len({(asked.image, asked.name) for asked in polls}) == len(polls)
    # 5 kinds of objects: the images have 3, 3, 2 and 1 of them
    assert Counter(asked.image for asked in polls) == {"one": 4, "two": 4, "three": 4, "four": 2}
    assert len(poll(KITCHEN, negatives, per_image=1)) == 8


def test_about_each_image_three_pairs_are_asked():
    present = {n: [f"{name} {n}" for name in "abcde"] for n in range(2)}
    assert len(poll(present, "random")) == 2 * 6


def test_the_question_bears_the_right_article():
    asked = poll({1: ["apple"], 2: ["cup"]}, "random")
    assert [each.question for each in asked[:2]] == [
        "Is there an apple in the image?",
        "Is there a cup in the image?",
    ]
    assert asked[0] == (1, "apple", "Is there an apple in the image?", "yes")
    assert poll({1: ["apple"], 2: ["cup"]}, "random", template="{}!")[1].question == "a cup!"


def test_popular_negatives_are_the_most_frequent_of_those_absent():
    polls = poll(KITCHEN, "popular")
    missing = {image: [p.name for p in polls if p.image == image and p.answer == "no"] for image in KITCHEN}
    # in images: table 3, apple 2, cup 2, chair 1, spoon 1
    assert missing == {
        "one": ["apple", "chair"],
        "two": ["chair", "spoon"],
        "three": ["apple", "cup"],
        "four": ["table"],
    }


def test_adversarial_negatives_are_the_usual_company_of_the_object_asked_before():
    present = {n: ["fork", "knife"] for n in range(5)} | {n: ["cat", "dog"] for n in range(5, 8)}
    present |= {8: ["fork", "cat"], 9: ["bus"]}
    polls = poll(present, "adversarial")
    pairs = [(yes.name, no.name) for yes, no in zip(polls[::2], polls[1::2], strict=True) if yes.image == 8]
    assert sorted(pairs) == [("cat", "dog"), ("fork", "knife")]
    alone = [no.name for yes, no in zip(polls[::2], polls[1::2], strict=True) if yes.image == 9]
    assert len(alone) == 1 and alone[0] in {"fork", "knife", "cat", "dog"}  # a bus has no company


def test_random_negatives_are_all_those_that_are_absent():
    present = {n: [f"own {n}"] for n in range(60)} | {"usual": ["much"], "again": ["much"]}
    missing = [asked.name for asked in poll(present, "random", per_image=1) if asked.answer == "no"]
    assert len(set(missing)) > 30 and missing.count("much") < 8
    assert [asked.name for asked in poll(present, "popular", per_image=1)][1:120:2] == ["much"] * 60


def test_questions_follow_the_seed_and_not_the_order():
    for negatives in NEGATIVES:
        polls = poll(KITCHEN, negatives, seed=3)
        turned = {image: sorted(names, reverse=True) for image, names in reversed(KITCHEN.items())}
        assert sorted(poll(turned, negatives, seed=3)) == sorted(polls)
    several = {tuple(poll(KITCHEN, "random", seed=seed)) for seed in range(20)}
    assert len(several) > 10


def test_what_cannot_be_polled_is_refused():
    with pytest.raises(
        ValueError, match="unknown choice of negatives 'hard'; use one of random, popular, adv"
    ):
        poll(KITCHEN, "hard")
    for nothing in ({}, {1: ["cup"], 2: ["cup"]}, {1: [], 2: []}):
        with pytest.raises(ValueError, match="no question can be asked"):
            poll(nothing, "random")


def test_scenes_can_be_polled_in_the_words_of_the_course():
    batch = scenes.sample("test", 200)
    present = dict(enumerate(scene_objects(batch)))
    for negatives in NEGATIVES:
        for asked in poll(present, negatives, template=OF_A_SCENE):
            assert true_answer(asked.question, list_things(batch, asked.image)) == asked.answer


@pytest.mark.parametrize("answer, yes", [
    ("Yes, there is.", True), ("yes", True), ("No", False), ("no, there is none", False), ("No.", False),
    ("There is not", False), ("There is no dog. Yes", False), ("Yes. There is no cat", True), ("NO", True),
    ("no!", True), ("", True), ("I cannot tell", True), ("nothing", True), ("Well,no", True),
    ("Not here", True),
])  # fmt: skip
def test_whatever_does_not_deny_is_a_yes(answer, yes):
    assert said_yes(answer) is yes


def test_pope_by_hand():
    yes, right = [True, True, True, False, True, False], [True, True, False, False, False, True]
    scores = pope_scores(yes, right)
    assert scores == pytest.approx(dict(accuracy=0.5, precision=0.5, recall=2 / 3, f1=4 / 7, yes=4 / 6))
    assert list(scores) == ["accuracy", "precision", "recall", "f1", "yes"]


def test_who_always_says_yes_is_right_half_of_the_time_and_has_a_good_f1():
    always = pope_scores([True] * 6, [True, False] * 3)
    assert always == pytest.approx(dict(accuracy=0.5, precision=0.5, recall=1, f1=2 / 3, yes=1))
    never = pope_scores([False] * 6, [True, False] * 3)
    assert never == dict(accuracy=0.5, precision=0, recall=0, f1=0, yes=0)
    assert pope_scores([True], [False])["f1"] == pope_scores([False], [False])["recall"] == 0


def test_answers_and_questions_are_equally_many():
    with pytest.raises(ValueError, match="2 answers to 1 questions"):
        pope_scores([True, False], [True])
    with pytest.raises(ValueError, match="0 answers"):
        pope_scores([], [])


ALIASES = {
    "dog": ["puppy"],
    "hot dog": ["frankfurter"],
    "bus": [],
    "man": ["men", "guy"],
    "traffic light": [],
}


@pytest.mark.parametrize("text, names", [
    ("A dog, two Puppies and a puppy.", ["dog", "dog"]), ("two dogs", ["dog"]), ("hot dogs", ["hot dog"]),
    ("a dog eats a hot dog", ["dog", "hot dog"]), ("buses, a bus", ["bus", "bus"]),
    ("men and a guy", ["man"] * 2),
    ("traffic lights light", ["traffic light"]), ("traffic", []), ("", []), ("doghouse", []), ("a hot", []),
    ("hot hot dog dog", ["hot dog", "dog"]),
])  # fmt: skip
def test_the_longest_name_counts_and_is_used_up(text, names):
    assert mentioned(text, ALIASES) == names


def test_without_names_nothing_is_mentioned():
    assert mentioned("a dog", {}) == []


def test_chair_by_hand():
    mentions = [["cup", "cup", "dog"], ["table"], [], ["dog", "cat"]]
    present = [{"cup"}, ["table", "cup"], {"dog"}, set()]
    assert chair(mentions, present) == (3 / 6, 2 / 4)
    assert chair([["cup", "cup"]], [set()]) == (1, 1)  # each mention counts
    with pytest.raises(ValueError, match="1 captions and objects of 2 images"):
        chair([["cup"]], [{"cup"}, set()])
    with pytest.raises(ValueError, match="no caption names any object"):
        chair([[], []], [{"cup"}, set()])


def test_objects_of_scenes_are_what_their_captions_name():
    batch = scenes.sample("test", 100)
    present = scene_objects(batch)
    assert [len(names) for names in present] == batch.count.tolist()
    aliases = {name: [] for names in present for name in names}
    texts = captions.captions(batch, "full")
    mentions = [mentioned(text, aliases) for text in texts]
    assert [sorted(names) for names in mentions] == [sorted(names) for names in present]
    assert chair(mentions, present) == (0, 0)
    instances, sentences = chair(mentions[1:] + mentions[:1], present)
    assert 0.5 < instances < sentences <= 1
