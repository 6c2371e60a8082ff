"""The chat asks about scenes and uploaded files; a bad file is named and nothing is lost."""

import contextlib
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


def stored(picture: Image.Image, form: str = "png", **options) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, form, **options)
    return stream.getvalue()


def deep() -> Image.Image:
    return Image.fromarray(np.full((40, 40), 180 << 8, np.uint16))


ODD = {  # a file of a browser's upload, and the middle pixel that the model sees
    "clear.png": (stored(Image.new("RGBA", (40, 40), (9, 9, 9, 0))), (255, 255, 255)),
    "half.png": (stored(Image.new("LA", (40, 60), (0, 128))), (127, 127, 127)),
    "deep.png": (stored(deep()), (180, 180, 180)),
    "print.jpg": (stored(Image.new("CMYK", (64, 64), (0, 0, 0, 255)), "jpeg"), (0, 0, 0)),
    "palette.gif": (stored(Image.new("P", (50, 30), 0), "gif"), (0, 0, 0)),
    "moving.gif": (stored(Image.new("RGB", (30, 30), "red"), "gif", save_all=True,
                          append_images=[Image.new("RGB", (30, 30), "blue")]), (255, 0, 0)),
    "grey.webp": (stored(Image.new("L", (64, 64), 77), "webp", lossless=True), (77, 77, 77)),
    "bits.tiff": (stored(Image.new("1", (20, 20), 1), "tiff"), (255, 255, 255)),
    "one.bmp": (stored(Image.new("RGB", (1, 1), (1, 2, 3)), "bmp"), (1, 2, 3)),
    "line.png": (stored(Image.new("RGB", (3000, 2), (4, 5, 6))), (4, 5, 6)),
    "an é & <b>.png": (stored(Image.new("RGB", (64, 64), (7, 8, 9))), (7, 8, 9)),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_an_odd_picture_is_seen_as_it_is_meant(chat, name):
    data, pixel = ODD[name]
    chat._answer(chat, {"upload": name}, [data])
    assert chat.answer["error"] == "" and chat.answer["picture"] == name
    seen = np.frombuffer(chat.pixels, np.uint8).reshape(64, 64, 3)[32, 32]
    assert np.abs(seen.astype(int) - pixel).max() <= 1


REFUSED = {
    "text.png": (b"not a picture at all\n" * 40, "is no picture that can be read; save it as PNG or JPEG"),
    "empty.png": (b"", "is no picture that can be read"),
    "page.svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is no picture that can be read"),
    "cut.jpg": (stored(Image.effect_noise((300, 300), 90), "jpeg")[:900], "is damaged or cut off"),
    "bomb.png": (stored(Image.new("1", (60_000, 1_000))), "more than 50,000,000; scale it down first"),
    "paper.pdf": (b"%PDF-1.7\n", "is no picture that can be read"),
    "deep.tiff": (stored(Image.new("F", (9, 9), 0.5), "tiff"), "has 32-bit numbers for colours"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_is_none_is_named_and_the_picture_the_answer_and_the_talk_stay(chat, name):
    chat._answer(chat, {"upload": "mine.png"}, [png(180)])
    before, talk = chat.pixels, chat.answer["log"]
    chat._answer(chat, {"upload": name}, [REFUSED[name][0]])
    assert chat.answer["error"].startswith(name) and REFUSED[name][1] in chat.answer["error"]
    assert (chat.pixels, chat.answer["log"], chat.answer["picture"]) == (before, talk, "mine.png")
    assert chat.ask("How many?") == "180" and chat.answer["error"] == ""


@pytest.mark.parametrize("content", [None, {"upload": 3}, {"upload": "a.png"}, {}, {"upload": ["a"]}])
def test_what_is_no_upload_changes_nothing(chat, content):
    before = chat.answer
    with contextlib.suppress(ValueError, TypeError, AttributeError):
        chat._answer(chat, content, [])
    assert chat.answer["picture"] == before["picture"] and chat.answer["log"] == before["log"]


def test_a_long_name_is_cut(chat):
    chat._answer(chat, {"upload": "x" * 500 + ".png"}, [png(9)])
    assert chat.answer["picture"] == "x" * 120


def test_each_turn_is_counted_and_says_who_took_it(chat):
    assert (chat.state["turn"], chat.state["by"], chat.answer["turn"]) == (0, "python", 0)
    chat.ask("How many?")
    chat.ask("What?")
    assert (chat.state["turn"], chat.state["by"], chat.answer["turn"], chat.answer["by"]) == (2, "python") * 2


def test_what_the_page_is_told_of_the_model():
    told = PictureChat(answer, IMAGES)
    assert told.texts == dict(name="model", questions=["Describe the image."], side=64, count=2, best=5,
                              largest=20_000_000)  # fmt: skip
    assert {"texts", "pixels", "attention"} <= set(told.keys)  # which are sent to it


def test_the_five_likeliest_answers_are_kept():
    shares = [(f"{number}", 1 / 8) for number in range(8)]
    chat = PictureChat(lambda *_: {"answer": "0", "choices": shares, "attention": None}, IMAGES)
    assert [choice["text"] for choice in chat.answer["choices"]] == ["0", "1", "2", "3", "4"]


def test_a_picture_is_brought_to_the_side_of_the_first_ones(tmp_path):
    chat = PictureChat(answer, IMAGES[:, :32, :32])
    (tmp_path / "mine.png").write_bytes(png(180))
    assert chat.look_at(tmp_path / "mine.png") == "180" and len(chat.pixels) == 32 * 32 * 3


def test_a_file_of_just_the_largest_size_is_read(chat):
    chat._answer(chat, {"upload": "mine.png"}, [png(180) + bytes(LARGEST - len(png(180)))])
    assert chat.answer["answer"] == "180" and chat.answer["error"] == ""
