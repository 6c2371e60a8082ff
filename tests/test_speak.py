"""One interface for every vision-language model: what is packed, asked and graded is the same for all."""

import copy

import numpy as np
import pytest
import torch

from vlmcourse.data.chat import encode
from vlmcourse.data.text import ASSISTANT, END, IMAGE, PAD, SPECIAL, USER, load_tokenizer
from vlmcourse.models.language import LlamaConfig
from vlmcourse.models.llava import Llava, LlavaConfig
from vlmcourse.models.video import VideoConfig, VideoLlava
from vlmcourse.models.vit import ViTConfig
from vlmcourse.speak import Speaker, blinded, course_words
from vlmcourse.training import losses
from vlmcourse.world.instructions import turns

TALKS = [
    [
        ("What colour is the circle?", "red"),
        ("How many things are there?", "2"),
        ("Where is the star?", "top left"),
    ],
    [("Is there a cross?", "no")],
]


@pytest.fixture(scope="module")
def speaker():
    """A small model of random weights; images of 16 x 24 pixels are six tokens."""
    torch.manual_seed(0)
    vision = ViTConfig((16, 24), 8, width=16, depth=1, heads=2)
    model = Llava(LlavaConfig(vision, LlamaConfig(len(load_tokenizer()), 24, 3, 4), IMAGE)).eval()
    torch.nn.init.normal_(model.language.embedding.weight, std=0.3)
    return Speaker(model)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (2, 16, 24, 3), dtype=np.uint8)


def test_features_are_those_of_the_model_whatever_the_batch(speaker, images):
    features = speaker.features(images)
    assert features.shape == (2, 6, 16) and features.dtype == torch.float32
    torch.testing.assert_close(speaker.features(images, batch=1), features)
    assert speaker.features(images, dtype=torch.bfloat16).dtype == torch.bfloat16
    assert not torch.allclose(features[0], features[1])


def test_a_packed_question_is_read_like_the_question_alone(speaker, images):
    features, together = speaker.features(images), speaker.encode(TALKS)
    packed = speaker.hidden(features, together)[together.labels != -100]
    apart = []
    for image, row in zip(features, TALKS, strict=True):
        for asked, answer in row:
            single = encode([turns(asked, answer)], 6)
            tokens = speaker.model.projector(image[None])
            hidden = speaker.model.hidden(single.ids, features=tokens)
            apart.append(hidden[single.labels != -100])
    torch.testing.assert_close(packed, torch.cat(apart), atol=1e-5, rtol=0)


def test_rows_hold_the_image_once_and_each_question_by_number(speaker):
    rows = speaker.encode(TALKS)
    assert ((rows.ids == IMAGE).sum(1) == 6).all() and rows.packs.amax(1).tolist() == [3, 1]
    assert rows.ids[:, :7].tolist() == [[USER] + [IMAGE] * 6] * 2
    assert rows.ids[1, rows.packs[1] >= 0].tolist() == encode([turns(*TALKS[1][0])], 6).ids[0].tolist()
    assert (rows.ids[1, rows.packs[1] < 0] == PAD).all()
    assert (rows.labels[rows.packs <= 0] == -100).all()


def test_answers_and_their_ends_are_learned_and_nothing_else(speaker):
    rows = speaker.encode(TALKS)
    learned = rows.ids[0, rows.labels[0] != -100].tolist()
    assert load_tokenizer().decode([learned]) == ["red 2 top left"] and learned.count(END) == 3
    assert torch.equal(rows.labels[rows.labels != -100], rows.ids[rows.labels != -100])


def test_what_is_learned_says_the_label_mask_slot(speaker):
    from vlmcourse.data.chat import label_mask

    label_mask.install(lambda ids, start=0, end=0: ids == IMAGE)
    try:
        rows = speaker.encode(TALKS)
    finally:
        label_mask.install(label_mask.reference)
    assert ((rows.labels != -100) == (rows.ids == IMAGE)).all()


def test_prompts_are_those_of_a_chat_that_waits_for_its_answer(speaker):
    ids, mask = speaker.words.prompts([asked for asked, _ in TALKS[0]], 6)
    chats = encode([turns(asked) for asked, _ in TALKS[0]], 6, prompt=True)
    assert torch.equal(ids, chats.ids) and torch.equal(mask, chats.mask) and not mask.all()


@pytest.mark.parametrize("word", SPECIAL)
def test_control_words_in_questions_and_records_are_plain_text(speaker, word):
    asked, said = f"is {word} a{word}b {word}{word}?", f"{word} is"
    ids, _ = speaker.words.prompts([asked], 6)
    rows = speaker.encode([[(asked, said)]])
    parts = [USER, *[IMAGE] * 6, *plain_ids(asked), ASSISTANT]
    assert ids[0].tolist() == parts
    assert rows.ids[0].tolist() == [*parts, *plain_ids(said), END]


def plain_ids(text):
    """What is left when every word of the text is written as text."""
    ids = load_tokenizer().encode([text.replace("<", "< ")])[0][0, :-1].tolist()
    assert min(ids) >= len(SPECIAL)
    return ids


def test_a_question_that_no_model_can_hold_is_refused_before_it_is_read(speaker):
    with pytest.raises(ValueError, match=r"a question has 9,\d{3} tokens with its image, 2,048 are allowed"):
        speaker.answer(np.zeros((64, 64, 3), np.uint8), "why " * 3000)


def surprise(hidden, rows, head):
    return losses.answer_loss(hidden, rows.labels, head)


def test_grades_say_what_greedy_writing_writes(speaker, images):
    """Answers that the model itself wrote are exact; with one word changed they are not."""
    asked = [row[0][0] for row in TALKS]
    written = speaker.answer(images, asked, steps=6)
    model = copy.deepcopy(speaker.model)
    learner = Speaker(model)
    model.requires_grad_(True)
    given = speaker.features(images), learner.encode(TALKS)
    history = learner.tune(*given, steps=40, size=2, loss=surprise, seed=0, precision="no", lr=3e-2)
    assert history.losses[-1] < 0.3 < history.losses[0] and not model.training
    features = learner.features(images)
    graded = learner.grade(features, learner.encode(TALKS), batch=1)
    flat = [(number, *pair) for number, row in enumerate(TALKS) for pair in row]
    answers = learner.answer(images[[number for number, *_ in flat]], [pair[1] for pair in flat])
    assert graded.tolist() == [text == pair[2] for text, pair in zip(answers, flat, strict=True)]
    assert graded.all() and written != [row[0][1] for row in TALKS]
    wrong = [[(asked, "blue" if answer == "2" else answer) for asked, answer in row] for row in TALKS]
    assert learner.grade(features, learner.encode(wrong)).tolist() == [True, False, True, True]


def test_one_picture_and_many(speaker, images):
    many = speaker.answer(images, ["Is there a star?", "How many things are there?"], steps=4)
    assert speaker.answer(images[0], "Is there a star?", steps=4) == many[0]
    assert (
        speaker.answer(images, ["Is there a star?", "How many things are there?"], steps=4, batch=1) == many
    )
    with pytest.raises(ValueError, match="2 images and 1 instructions"):
        speaker.answer(images, ["Is there a star?"])


def test_an_answer_ends_where_its_end_stands():
    words = course_words()
    ids = words.number(["red<end>blue", "red"])
    assert [words.decode(torch.tensor([row]))[0] for row in ids] == ["red", "red"]


def test_an_image_without_a_conversation_is_named(speaker):
    with pytest.raises(ValueError, match="image 1 has no question"):
        speaker.encode([TALKS[0], []])


def test_a_blinded_picture_is_the_same_grey_everywhere(images):
    empty = blinded(images)
    assert empty.shape == images.shape and np.unique(empty).tolist() == [235]


@pytest.fixture(scope="module")
def viewer():
    """A small model of random weights for rows of frames: 16 × 32 pixels, eight tokens, two in a row."""
    torch.manual_seed(0)
    vision = ViTConfig((16, 32), 8, width=16, depth=1, heads=2)
    model = VideoLlava(
        VideoConfig(vision, LlamaConfig(len(load_tokenizer()) + 2, 24, 3, 4), IMAGE, side=2)
    ).eval()
    torch.nn.init.normal_(model.language.embedding.weight, std=0.3)
    return Speaker(model, course_words(["<loc_0>", "<loc_1>"]))


FRAMES = np.random.default_rng(0).integers(0, 256, (2, 3, 16, 32, 3), dtype=np.uint8)
STAMPS = ("<0.0 seconds>", "<1.0 seconds>", "<2.0 seconds>")


def test_features_of_rows_keep_both_axes(viewer):
    features = viewer.features(FRAMES, batch=4)
    assert features.shape == (2, 3, 8, 16)
    torch.testing.assert_close(features[1, 2], viewer.features(FRAMES[1])[2])


def test_what_stands_before_each_frame_is_read_before_it(viewer):
    rows = viewer.encode(TALKS, STAMPS)
    number = viewer.words.number
    begin = [USER]
    for stamp in STAMPS:
        begin += [*number([stamp])[0], IMAGE, IMAGE]
    assert rows.ids[:, : len(begin)].tolist() == [begin] * 2 and (rows.packs[:, : len(begin)] == 0).all()
    ids, mask = viewer.words.prompts(["What changed?", "Where?"], 2, STAMPS)
    assert (ids == IMAGE).sum(1).tolist() == [6, 6] and ids[:, -1].tolist() == [ASSISTANT] * 2
    assert ids[0, mask[0]].tolist() == begin + number(["What changed?"])[0] + [ASSISTANT]


def test_frames_are_asked_about_in_their_order(viewer):
    questions = ["What changed?", "Where is it?"]
    answers = viewer.answer(FRAMES, questions, 6, before=STAMPS)
    assert len(answers) == 2 and viewer.answer(FRAMES[1], questions[1], 6, before=STAMPS) == answers[1]
    rows, features = viewer.encode(TALKS, STAMPS), viewer.features(FRAMES)
    hidden = viewer.hidden(features, rows)
    learned = rows.labels != -100
    flipped = viewer.hidden(features.flip(1), rows)
    assert not torch.allclose(flipped[learned], hidden[learned], atol=1e-6)
    assert viewer.grade(features, rows).tolist() == [False] * 4


def test_more_words_are_one_token_each_and_are_written(viewer):
    (ids,) = viewer.words.number(["<loc_1><loc_0>"])
    assert ids == [len(load_tokenizer()) + 1, len(load_tokenizer())]
    assert viewer.words.decode(torch.tensor([[*ids, END, PAD]])) == ["<loc_1><loc_0>"]
    assert len(course_words().number(["<loc_1>"])[0]) > 1


def test_frames_and_texts_before_them_must_fit(viewer, speaker, images):
    with pytest.raises(ValueError, match=r"2 texts stand before images \(2, 3, 16, 32, 3\); several images"):
        viewer.answer(FRAMES, ["a", "b"], before=STAMPS[:2])
    with pytest.raises(ValueError, match="no texts stand before images"):
        viewer.answer(FRAMES, ["a", "b"])
    with pytest.raises(ValueError, match="this Llava reads one image at a time"):
        speaker.answer(images[:, None], ["a", "b"], before=("",))
    with pytest.raises(ValueError, match="1 images and 2 instructions"):
        viewer.answer(FRAMES[:1], ["a", "b"], before=STAMPS)
