"""What nano-native is asked about pages, and what its card is measured on."""

import pytest

from vlmcourse.families import native, resolving
from vlmcourse.speak import Speaker
from vlmcourse.world import pages, scenes


@pytest.fixture(scope="module")
def speaker():
    return Speaker(native.new_native())


def test_the_card_is_measured_on_pages_and_scenes_of_its_seed(speaker, monkeypatch):
    """With few of them; all that is measured are thirds."""
    drawn, given = [], {}
    sample, sample_scenes = pages.sample_pages, scenes.sample

    def few(split, count, *, kind=None, seed=0):
        drawn.append((split, count, kind, seed))
        return sample(split, min(count, 3), kind=kind, seed=seed)

    def few_scenes(split, count, seed=0):
        given["scenes"] = (split, count, seed)
        return sample_scenes(split, min(count, 3), seed=seed)

    def third(name, *asked):
        given.setdefault(name, []).append(asked)
        return {"share": 1 / 3}

    monkeypatch.setattr(resolving.pages, "sample_pages", few)
    monkeypatch.setattr(resolving.scenes, "sample", few_scenes)
    for name in ("page_controls", "reading_errors", "page_boxes", "budget_scores", "accuracy"):
        monkeypatch.setattr(resolving, name, lambda _, *asked, name=name: third(name, *asked))
    metrics = resolving.measure_native(speaker, 7, seed=5)
    kinds = [None, *pages.PAGE_KINDS]
    assert drawn[:2] == [("test", 7, None, 5), ("test", 7, "words", 5)]
    assert drawn[2:] == [(split, 7, kind, 5) for kind in kinds for split in ("test", "train")]
    assert given["scenes"] == ("test", 3, 5)
    exam = resolving.about_pages(sample("test", 3, seed=5), 5)
    assert [asked[0].questions for asked in given["page_controls"]] == [exam.questions]
    assert [asked[0].questions for asked in given["budget_scores"]] == [exam.questions]
    assert [(asked.split, known.split) for asked, known in given["page_boxes"]] == [("test", "train")] * 5
    boxes = [f"boxes, {kind or 'all'}: share" for kind in kinds]
    assert metrics == dict.fromkeys(
        ["pages: share", "letters wrong: share", *boxes, "share", "scenes, as nano-vlm"], 0.3333
    )
    resolving.measure_native(speaker, 1)
    assert given["scenes"] == ("test", 1, 0)
    resolving.measure_native(speaker)
    assert drawn[-1] == ("train", 400, [*pages.PAGE_KINDS][-1], 0) and given["scenes"] == ("test", 200, 0)


class Listener:
    """Notes what it is asked, and answers as it is told."""

    def __init__(self, said=""):
        self.said, self.heard = said, []

    def answer(self, images, questions, steps, batch):
        self.heard.append((images, questions, steps))
        return [self.said] * len(images)


def test_words_are_read_as_they_are_squashed_and_from_empty_pages():
    batch, listener = pages.sample_pages("test", 8, kind=["words", "marks"]), Listener()
    resolving.reading_errors(listener, batch)
    words = [number for number, kind in enumerate(batch.kinds) if kind == "words"]
    asked = [batch.asked[number][0].text for number in words]
    native, squashed, blank = (images for images, *_ in listener.heard)
    assert [questions for _, questions, _ in listener.heard] == [asked] * 3 and 0 < len(words) < 8
    assert [page.tobytes() for page in native] == [batch.pictures[number].tobytes() for number in words]
    assert all(page.shape[0] * page.shape[1] <= 16 * 16**2 and page.dtype == "uint8" for page in squashed)
    assert [page.shape for page in blank] == [page.shape for page in native]
    assert all(page.std() > 0 for page in squashed) and not any(page.std() for page in blank)


def test_what_is_said_is_as_long_as_any_right_answer(speaker):
    """With the token that ends it."""

    def longest(texts):
        return max(map(len, speaker.words.number(texts))) + 1

    batch = pages.sample_pages("test", 60)
    plain = [one.answer for row in batch.asked for one in row if one.kind != "where"]
    assert longest(plain) <= resolving.ANSWER_TOKENS
    assert longest(["[888, 888, 999, 999]", "[111, 234, 567, 890]"]) <= resolving.BOX_TOKENS
    tokens = [height * width // 16**2 for height, width in pages.PAGE_SIZES]
    assert max(tokens) <= resolving.ENOUGH_TOKENS
    listener = Listener("[1, 2, 3, 4]")
    assert resolving.told_boxes(listener, resolving.things_to_point_at(batch[:9])).shape[1] == 4
    assert listener.heard[0][2] == resolving.BOX_TOKENS
