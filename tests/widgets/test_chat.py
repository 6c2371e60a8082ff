"""The chat asks about scenes and uploaded files; a bad file is named and nothing is lost."""

import io

import numpy as np
import pytest
from PIL import Image

from vlmcourse.data.photos import PictureError
from vlmcourse.widgets.chat import KEPT, LARGEST, PictureChat

IMAGES = np.stack([np.full((64, 64, 3), value, np.uint8) for value in (10, 200)])


def answer(image, question):
    if "fail" in question:
        raise RuntimeError("out of memory")
    p = float(image.mean()) / 255
    weights = np.arange(16.0).reshape(4, 4) / 240
    return {
        "answer": f"{image.mean():.0f}",
        "choices": [("<b>yes</b>", 1 - p), ("no", p)],
        "attention": weights,
    }


def foreign(images):
    return images.mean(axis=(1, 2, 3)) > 150


@pytest.fixture
def chat():
    return PictureChat(answer, IMAGES, foreign=foreign, questions=["What?", "How many?"], name="toy")


def png(value: int, shape=(30, 50)) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((*shape, 3), value, np.uint8)).save(stream, "png")
    return stream.getvalue()


def test_it_begins_with_the_first_question_about_the_first_picture(chat):
    assert (
        chat.answer["answer"] == "10" and chat.answer["picture"] == "picture 1" and not chat.answer["foreign"]
    )
    assert chat.answer["grid"] == (4, 4) and chat.answer["share"] == pytest.approx(0.5)
    assert len(chat.attention) == 16 and np.frombuffer(chat.pixels, np.uint8).tolist() == [10] * (64 * 64 * 3)


def test_an_uploaded_file_is_resized_asked_about_and_named(chat):
    chat._answer(chat, {"upload": "mine.png"}, [memoryview(png(180))])
    assert chat.answer["picture"] == "mine.png" and chat.answer["answer"] == "180" and chat.answer["foreign"]
    assert len(chat.pixels) == 64 * 64 * 3 and chat.state["number"] == -1
    assert chat.ask("How many?") == "180" and chat.answer["log"][-1][:3] == ["mine.png", "How many?", "180"]
    chat.state = {**chat.state, "number": 1, "turn": 99}
    assert chat.answer["picture"] == "picture 2"


@pytest.mark.parametrize(("data", "words"), [
    (b"hello", "notes.txt is no picture that can be read"),
    (png(9)[:60], "notes.txt is damaged or cut off"),
    (bytes(LARGEST + 1), "more than 20,000,000; scale it down first"),
])  # fmt: skip
def test_a_file_that_is_no_picture_is_refused_by_its_name_and_the_last_one_stays(chat, data, words):
    before = chat.pixels
    chat._answer(chat, {"upload": "notes.txt"}, [data])
    assert words in chat.answer["error"] and "/tmp" not in chat.answer["error"]
    assert chat.pixels == before and chat.answer["answer"] == "10"


def test_a_model_that_fails_says_so_and_the_last_answer_stays(chat):
    chat.ask("fail")
    assert chat.answer["error"] == "RuntimeError: out of memory" and chat.answer["answer"] == "10"
    assert chat.ask("What?") == "10" and chat.answer["error"] == ""


def test_before_an_upload_there_is_none_to_ask_about(chat):
    chat.state = {**chat.state, "number": -1, "turn": 5}
    assert "no picture was uploaded" in chat.answer["error"]
    with pytest.raises(ValueError, match="number"):
        chat.state = {**chat.state, "number": 2}


def test_the_conversation_keeps_its_last_lines(chat):
    for number in range(KEPT + 3):
        chat.ask(f"question {number}")
    assert [line[1] for line in chat.answer["log"]] == [f"question {n}" for n in range(3, KEPT + 3)]


def test_from_python_a_file_is_looked_at(chat, tmp_path):
    (tmp_path / "a.png").write_bytes(png(77))
    assert chat.look_at(tmp_path / "a.png") == "77"
    (tmp_path / "b.png").write_bytes(b"no")
    with pytest.raises(PictureError, match=r"b\.png"):
        chat.look_at(tmp_path / "b.png")


def test_its_picture_says_what_was_asked_and_answered(chat):
    still = chat.static_figure()
    assert "toy, asked “What?” about picture 1, says “10”" in still.alt and "unlike" not in still.alt
    chat.state = {**chat.state, "number": 1, "turn": 7}
    assert "unlike what it learned from" in chat.static_figure().alt
    assert repr(chat) == "PictureChat(toy, 2 pictures)"


def test_a_model_without_maps_and_an_empty_question(chat):
    plain = PictureChat(
        lambda image, text: {"answer": "x", "choices": [("x", 1.0)], "attention": None}, IMAGES
    )
    assert plain.attention == b"" and plain.answer["grid"] == (0, 0) and plain.static_figure()
    assert chat.ask("  ") == "" and chat.answer["choices"] == []
    with pytest.raises(ValueError, match="no question to begin with"):
        PictureChat(answer, IMAGES, questions=[])
    with pytest.raises(ValueError, match="square"):
        PictureChat(answer, IMAGES[:, :30])
