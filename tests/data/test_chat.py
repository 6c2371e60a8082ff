"""What a conversation becomes before a model reads it."""

import pytest
import torch

from vlmcourse.data.chat import collate, encode, few_shot, label_mask, render_chat
from vlmcourse.data.text import ASSISTANT, END, IMAGE, PAD, USER, load_tokenizer

ASKED = [("user", "<image>what colour is the circle?"), ("assistant", "red")]


def test_a_conversation_is_one_text():
    more = [("system", "be brief."), *ASKED, ("user", "and the star?")]
    expected = (
        "<system>be brief.<user><image>what colour is the circle?<assistant>red<end><user>and the star?"
    )
    assert render_chat(more) == expected
    assert render_chat(more, prompt=True) == expected + "<assistant>"


def test_only_answers_and_their_ends_are_learned():
    chats = encode([[*ASKED, ("user", "where is it?"), ("assistant", "top left")], ASKED], image_tokens=3)
    tokenizer = load_tokenizer()
    for row, said in enumerate((["red", "<end>", "top", "left", "<end>"], ["red", "<end>"])):
        assert tokenizer.tokens(chats.labels[row][chats.labels[row] >= 0]) == said
    assert (chats.labels[chats.labels >= 0] == chats.ids[chats.labels >= 0]).all()
    assert (chats.ids == IMAGE).sum(1).tolist() == [3, 3] and not (chats.labels == IMAGE).any()
    assert not (chats.labels == PAD).any() and chats.mask.sum(1).tolist() == [
        (row != PAD).sum() for row in chats.ids
    ]


def test_an_answer_that_was_not_closed_is_learned_to_its_end():
    ids = torch.tensor([[USER, 300, ASSISTANT, 301, END, USER, 302, ASSISTANT, 303, 304]])
    assert label_mask(ids).tolist() == [[False] * 3 + [True] * 2 + [False] * 3 + [True] * 2]


def test_an_end_outside_an_answer_closes_nothing():
    ids = torch.tensor([[END, USER, END, 302, ASSISTANT, 303, END, END, ASSISTANT, 304]])
    assert label_mask(ids).tolist() == [[False] * 5 + [True] * 2 + [False] * 2 + [True]]


def test_prompts_end_together_with_the_role_that_answers():
    chats = encode([ASKED[:1], [("user", "hello")]], prompt=True)
    assert (chats.ids[:, -1] == ASSISTANT).all() and not chats.mask[1, 0] and (chats.labels == -100).all()


def test_padding_goes_to_either_side():
    ids, mask = collate([[5, 6, 7], [8]])
    assert ids.tolist() == [[5, 6, 7], [8, PAD, PAD]] and mask.tolist() == [[True] * 3, [True, False, False]]
    ids, mask = collate([[5, 6, 7], [8]], pad=9, left=True)
    assert ids.tolist() == [[5, 6, 7], [9, 9, 8]] and mask.tolist() == [[True] * 3, [False, False, True]]


def test_nothing_is_cut_off():
    with pytest.raises(
        ValueError, match=r"conversation 1 has 74 tokens, 64 of them for images; 70 are allowed"
    ):
        encode([[("user", "hi")], ASKED], 64, length=70)
    with pytest.raises(
        ValueError, match="conversation 0 has a turn of 'bot'; roles are system, user, assistant"
    ):
        encode([[("bot", "hello")]])


def test_control_words_that_someone_said_are_plain_text():
    said = "a <image>, <end> and <user>"
    chats = encode([[("user", f"<image>what <assistant> {said[9:]}?"), ("assistant", said)]], image_tokens=3)
    (ids,) = chats.ids.tolist()
    assert ids.count(IMAGE) == 3 and ids.count(END) == ids.count(USER) == ids.count(ASSISTANT) == 1
    assert ids[0] == USER and ids[-1] == END
    assert (chats.labels != -100)[0].tolist() == [n > ids.index(ASSISTANT) for n in range(len(ids))]
    assert load_tokenizer().decode([ids[ids.index(ASSISTANT) + 1 :]]) == ["a < image>, < end> and < user>"]


def test_bytes_that_are_no_text_are_refused():
    with pytest.raises(ValueError, match=r"'a\\udcff' is no text in UTF-8"):
        encode([[("user", "a\udcff")]])


def test_every_instruction_of_a_prompt_with_examples_has_its_image():
    text = render_chat(few_shot([("dax?", "red")], "dax?"), prompt=True)
    assert text == "<user><image>dax?<assistant>red<end><user><image>dax?<assistant>"
