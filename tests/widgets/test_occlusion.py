"""Live occlusion: what is covered is what the model gets, and it is asked no oftener than needed."""

import numpy as np
import pytest

from vlmcourse.widgets.occlusion import ELSE, KEPT, LiveOcclusion

PAPER = (200, 200, 200)
IMAGE = np.full((8, 12, 3), PAPER, np.uint8)
IMAGE[2:6, 1:5] = (10, 20, 30)  # evidence in patches 0, 1, 3 and 4 of 2 × 3
BOX = (1, 2, 5, 6)


class Model:
    """Finds an answer by how much of the ink is still there, and counts what it is asked."""

    def __init__(self):
        self.asked, self.seen = [], []

    def __call__(self, image, question):
        self.asked.append(question)
        if "fail" in question:
            raise RuntimeError("out of memory\nsecond line")

        def chances(images):
            self.seen.append(images)
            ink = (images != PAPER).any(-1).mean((1, 2)) * 6  # 16 of 96 pixels are ink: 1
            return np.stack([0.9 * ink, 0.9 * (1 - ink)], axis=1)

        return ["red", "no"], chances


@pytest.fixture
def model():
    return Model()


def board(model, **more):
    options = {"boxes": [[BOX], []], "right": ["red", "no"], "side": 4} | more
    return LiveOcclusion(model, IMAGE, ["What colour?", "Is there?"], **options)


def test_bars_hold_each_answer_now_and_uncovered_and_what_is_left_for_all_others(model):
    widget = board(model)
    widget.change(covered=[4, 0, 0])
    assert widget.state["covered"] == [0, 4]
    rows = widget.answer["rows"]
    assert [row["text"] for row in rows] == ["red", "no", ELSE]
    covered = 6 + 2  # of 16 pixels of ink: in patch 0 three columns of two rows, in patch 4 one column
    assert [row["p"] for row in rows] == pytest.approx([0.9 * (1 - covered / 16), 0.9 * covered / 16, 0.1])
    assert [row["before"] for row in rows] == pytest.approx([0.9, 0, 0.1])
    assert [row["right"] for row in rows] == [True, False, False]


def test_the_model_gets_the_picture_with_the_patches_in_paper(model):
    widget = board(model)
    widget.change(covered=[5, 0])
    by_hand = IMAGE.copy()
    by_hand[:4, :4] = by_hand[4:, 8:] = PAPER
    assert np.array_equal(model.seen[-1], by_hand[None])
    assert np.array_equal(IMAGE[2, 1], (10, 20, 30))  # the picture itself is left as it is


def test_a_question_is_asked_once_and_an_uncovered_picture_not_again(model):
    widget = board(model)
    widget.change(covered=[0])
    widget.change(question="Is there?")
    widget.change(question="What colour?")
    assert model.asked == ["What colour?", "Is there?"]
    calls = len(model.seen)
    widget.change(covered=[])
    assert len(model.seen) == calls


def test_only_so_many_questions_are_remembered(model):
    widget = board(model)
    for number in range(KEPT):
        widget.change(question=f"{number}?")
    widget.change(question="0?")
    assert model.asked.count("0?") == 1
    widget.change(question="What colour?")
    assert model.asked.count("What colour?") == 2 and len(widget._known) == KEPT


def test_evidence_are_the_patches_that_its_boxes_touch(model):
    first, second = board(model).shape["questions"]
    assert first == {"text": "What colour?", "boxes": [list(BOX)], "evidence": [0, 1, 3, 4]}
    assert second["evidence"] == [] and board(model, boxes=None).shape["questions"][0]["evidence"] == []


def test_the_map_is_made_when_it_is_asked_for_in_one_batch_and_once(model):
    widget = board(model)
    assert widget.fall == b""
    calls = len(model.seen)
    widget.change(map=True)
    assert len(model.seen) == calls + 1 and model.seen[-1].shape == (6, 8, 12, 3)
    falls = np.frombuffer(widget.fall, "<f4")
    assert falls.tolist() == pytest.approx([0.9 * n / 16 for n in (6, 2, 0, 6, 2, 0)], abs=1e-6)
    widget.change(covered=[2])
    assert len(model.seen) == calls + 2 and np.frombuffer(widget.fall, "<f4").tolist() == falls.tolist()
    widget.change(map=False)
    assert widget.fall == b""


@pytest.mark.parametrize(
    "question, error", [("fail", "RuntimeError: out of memory"), (" ", "ValueError: the question is empty")]
)
def test_an_error_is_one_line_and_the_last_answer_stays(model, question, error):
    widget = board(model)
    widget.change(covered=[0])
    rows = widget.answer["rows"]
    widget.change(question=question)
    assert widget.answer["error"].startswith(error) and "\n" not in widget.answer["error"]
    assert widget.answer["rows"] == rows and widget.answer["turn"] == 2
    widget.change(question="Is there?")
    assert widget.answer["error"] == "" and widget.answer["rows"][1]["right"]


def test_the_still_shows_three_states(model):
    still = board(model).static_figure()
    titles = [axes.get_title() for axes in still.figure.axes[:3]]
    assert titles == ["nothing covered", "the evidence covered", "all but the evidence"]
    assert (
        "nothing covered: red 90 %; the evidence covered: no 90 %; all but the evidence: red 90 %"
        in still.alt
    )
    widget = board(model, boxes=None)
    widget.change(covered=[3])
    still = widget.static_figure()
    assert "1 patches covered: red 56 %; all covered: no 90 %" in still.alt
    shown = [axes.images[0].get_array() for axes in still.figure.axes[:3]]
    assert (shown[0] == IMAGE).all() and (shown[1][4:, :4] == PAPER).all() and (shown[2] == PAPER).all()


@pytest.mark.parametrize(
    "more, message",
    [
        ({"side": 5}, "patches of 5 pixels do not tile a picture of 8 × 12"),
        ({"side": 0}, "patches of 0 pixels"),
        ({"boxes": [[BOX]]}, "1 times list of boxes for 2 questions"),
        ({"right": ["red"]}, "1 times right answer for 2 questions"),
        ({"boxes": [[(1, 2, 13, 6)], []]}, r"box \(1, 2, 13, 6\) is no .* in 12 × 8 pixels"),
        ({"boxes": [[(5, 2, 5, 6)], []]}, "box"),
    ],
)
def test_what_does_not_fit_is_named(model, more, message):
    with pytest.raises(ValueError, match=message):
        board(model, **more)


@pytest.mark.parametrize("found", [[[0.9]], [[0.9, 0.2]], [[-0.1, 0.2]], [[np.nan, 0.1]], [0.5, 0.4]])
def test_what_is_no_probability_is_refused(found):
    with pytest.raises(ValueError, match=r"chances returned .* expected \(1, 2\) probabilities"):
        LiveOcclusion(lambda *_: (["a", "b"], lambda images: np.array(found)), IMAGE, ["?"], side=4)


def test_several_pictures_are_refused(model):
    with pytest.raises(ValueError, match=r"got 2; pass image\[0\]"):
        LiveOcclusion(model, np.stack([IMAGE, IMAGE]), ["?"])


def test_python_is_told_what_it_cannot_set(model):
    widget = board(model)
    with pytest.raises(ValueError, match="there is no colour; set question, covered or map"):
        widget.change(colour=1)
    with pytest.raises(ValueError, match="covered"):
        widget.change(covered=[6])
