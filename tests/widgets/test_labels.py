from itertools import groupby

import numpy as np
import pytest

from tests.widgets import picture_of
from vlmcourse.widgets.labels import NOT_LEARNED, TURNS, LabelInspector, read_chats, roles_of

TOKENS = ["<user>", "<image>", "<image>", "<image>", "what", "?", "<assistant>", "red", "<end>", "<pad>"]
IDS = np.array([7, 4, 4, 4, 50, 51, 8, 60, 9, 0])
LABELS = np.where([False] * 7 + [True] * 2 + [False], IDS, NOT_LEARNED)


def inspector(**change):
    return LabelInspector(**{"tokens": TOKENS, "ids": IDS, "labels": LABELS, **change})


def test_every_token_belongs_to_the_turn_that_was_opened_last():
    assert roles_of(["a", "<system>", "b", "<user>", "user", "<assistant>", "c", "<end>", "d", "<pad>"]) == [
        "",
        "system",
        "system",
        "user",
        "user",
        "assistant",
        "assistant",
        "assistant",
        "",
        "padding",
    ]


def test_parts_add_up_to_all_tokens_and_padding_counts_for_nothing():
    totals = inspector(context=7).totals()
    assert totals == {"tokens": 9, "image": 3, "learned": 2, "text": 4, "padding": 1, "over": 2}
    assert inspector(context=9).totals()["over"] == inspector().totals()["over"] == 0


def test_images_and_padding_are_runs_that_end_where_the_labels_change():
    assert inspector().chats[0]["runs"] == [[0, 1], [1, 4], *[[n, n + 1] for n in range(4, 10)]]
    asked = np.where(np.arange(10) == 3, IDS, LABELS)
    both = inspector(labels={"right": LABELS, "asks for the image": asked})
    assert both.chats[0]["runs"][:3] == [[0, 1], [1, 3], [3, 4]]
    longer = inspector(
        tokens=[*TOKENS, "<pad>"], ids=np.append(IDS, 0), labels=np.append(LABELS, NOT_LEARNED)
    )
    assert longer.chats[0]["runs"][-1] == [9, 11]


def test_ids_and_labels_travel_as_they_are():
    widget = inspector(labels={"right": LABELS, "all": IDS})
    assert set(widget.blobs) == {"ids/0", "labels/0/0", "labels/1/0"}
    assert np.frombuffer(widget.blobs["ids/0"], "<i4").tolist() == IDS.tolist()
    assert np.frombuffer(widget.blobs["labels/0/0"], "<i4").tolist() == LABELS.tolist()


def shifted(labels):
    return np.append(labels[1:], NOT_LEARNED)


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        (shifted(LABELS), "2 × a label is not the id at its place; labels are not shifted"),
        (np.where(np.arange(10) == 3, IDS, LABELS), "1 × a placeholder of an image is learned"),
        (np.where(np.arange(10) == 9, IDS, LABELS), "1 × a token of padding is learned"),
        (np.where(np.arange(10) == 8, NOT_LEARNED, LABELS), "1 × an answer has no learned end"),
        (np.where(np.arange(10) == 0, IDS, LABELS), "the first token is learned"),
        (np.full(10, NOT_LEARNED), "nothing is learned here"),
    ],
)
def test_what_can_hardly_be_meant_is_said(labels, sentence):
    assert inspector().problems() == []
    assert any(problem.startswith(sentence) for problem in inspector(labels=labels).problems())


def test_the_picture_follows_the_view_and_tells_the_shares():
    two = inspector(
        tokens=[TOKENS, TOKENS[4:6]], ids=[IDS, IDS[4:6]], labels=[LABELS, LABELS[4:6]], context=7
    )
    first = two.static_figure()
    assert first.alt == (
        "Labels of conversation 0: 9 tokens of a context of 7, 3 image (33%) and 2 learned (22%); 2 too many"
    )
    two.view = {**two.view, "conversation": 1, "token": 0}
    assert two.static_figure().alt.startswith(
        "Labels of conversation 1: 2 tokens of a context of 7, 0 image (0%)"
    )
    assert two.static_figure().data != first.data
    compared = picture_of(inspector(labels={"right": LABELS, "all": IDS}), labels=1)
    assert compared.alt.endswith("0 image (0%) and 9 learned (100%); labels: all")


def test_tokens_of_any_kind_make_a_picture():
    odd = ["", " ", "\n", "$x$", "<b>", "a" * 200, *["x"] * 300]
    widget = LabelInspector(odd, range(306), [NOT_LEARNED] * 306)
    assert widget.static_figure().data.startswith(b"\x89PNG")


def test_packs_of_the_course_are_read():
    pytest.importorskip("torch")
    from vlmcourse.speak import course_words

    rows = course_words().encode([[("Is it red?", "No."), ("How many?", "2")]], image_tokens=4)
    widget = LabelInspector(**read_chats(rows))
    assert widget.problems() == [] and (widget.totals()["image"], widget.totals()["learned"]) == (4, 3 + 2)
    assert [role for role, _ in groupby(widget.chats[0]["roles"])] == ["user", "assistant", "", "assistant"]


def test_labels_and_roles_are_those_of_the_course():
    chat = pytest.importorskip("vlmcourse.data.chat")
    assert (NOT_LEARNED, TURNS) == (chat.IGNORED, chat.ROLES)


def test_chats_of_the_course_are_read():
    pytest.importorskip("torch")
    from vlmcourse.data.chat import encode

    chats = encode(
        [
            [("system", "Answer briefly."), ("user", "<image>What colour?"), ("assistant", "Red.")],
            [("user", "<image>Is it red?"), ("assistant", "No.")],
        ],
        image_tokens=16,
    )
    given = read_chats(chats)
    widget = LabelInspector(**given)
    assert (
        given["tokens"][1][:3] == ["<user>", "<image>", "<image>"]
        and widget.problems(0) == widget.problems(1) == []
    )
    assert [widget.totals(n)["image"] for n in range(2)] == [16, 16]
    for number in range(2):
        totals = widget.totals(number)
        assert totals["learned"] == int((chats.labels[number] != NOT_LEARNED).sum()) == 3
        assert totals["tokens"] == int(chats.mask[number].sum())
    assert widget.totals(1)["padding"] == int((~chats.mask[1]).sum()) > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ids": IDS[:8]}, r"ids \[\(8,\)\] must be as many as the tokens, \[10\]"),
        ({"labels": LABELS[None, :, None]}, r"labels \[\(10, 1\)\] must be as many"),
        ({"labels": {"right": LABELS, "wrong": LABELS[:3]}}, r"labels 'wrong' \[\(3,\)\] must be as many"),
        ({"labels": dict.fromkeys("abc", LABELS)}, "one set or two to compare, got 3: a, b, c"),
        ({"image": [True]}, r"image \[\(1,\)\] must be as many"),
        ({"tokens": []}, "0 conversations with 0 tokens"),
        (
            {"tokens": [TOKENS, []], "ids": [IDS, []], "labels": [LABELS, []]},
            "2 conversations with 10 tokens",
        ),
        ({"context": 0}, "context=0, expected at least 1"),
    ],
)
def test_bad_input_is_named_with_its_numbers(change, message):
    with pytest.raises(ValueError, match=message):
        inspector(**change)
