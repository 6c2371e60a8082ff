import numpy as np
import pytest

from vlmcourse.widgets.playground import MID_GREY, ScenePlayground, percent
from vlmcourse.world.scenes import COLOURS, Scenes, sample
from vlmcourse.world.truth import Thing

SCENES = sample("test", 6, objects=(2, 4))


def draw(batch: Scenes) -> np.ndarray:
    """Every object a plain box whose colour says what it is; a renderer that needs nothing but NumPy."""
    images = np.broadcast_to((240 - batch.light)[:, None, None, None], (len(batch), 64, 64, 3)).astype(
        np.uint8
    )
    for image, boxes, shapes, colours in zip(images, batch.boxes(), batch.shape, batch.colour, strict=True):
        for (left, top, right, bottom), shape, colour in zip(boxes, shapes, colours, strict=True):
            image[top:bottom, left:right] = 30 * colour, 40 * shape, 60
    return images


class Model:
    """Says how much of what it gets is not background; remembers what it was asked."""

    def __init__(self):
        self.asked, self.told = [], 0

    def answer(self, image, question):
        self.asked.append((image, question))
        if "fail" in question:
            raise RuntimeError("out of memory\nsecond line")
        ink = (image != image[0, 0]).any(axis=-1)
        return {
            "answer": COLOURS[2],
            "choices": [("red", 0.9), ("blue", 0.1)],
            "attention": ink.reshape(4, 16, 4, 16).sum((1, 3)) / 4096,
        }

    def caption(self, image):
        self.told += 1
        return f"{(image != image[0, 0]).any(axis=-1).sum()} pixels"


@pytest.fixture
def model():
    return Model()


@pytest.fixture
def playground(model):
    return ScenePlayground(model.answer, model.caption, SCENES, render=draw)


def seen(playground):
    return np.frombuffer(playground.model_input, np.uint8).reshape(64, 64, 3)


def test_the_model_gets_the_scene_as_it_is_rendered(playground, model):
    image, question = model.asked[-1]
    assert (
        np.array_equal(image, draw(SCENES)[0])
        and playground.pixels == playground.model_input == image.tobytes()
    )
    assert (
        question
        == playground.state["question"]
        == next(iter(playground.world["scenes"][0]["questions"].values()))
    )
    assert playground.answer["answer"] == "red" and playground.answer["caption"].endswith(" pixels")


def test_an_edit_brings_new_pixels_caption_and_attention(playground, model):
    playground.change(things=[Thing(0, 2, 2, 40, 24)])
    assert playground.answer["caption"] == f"{23 * 23} pixels"
    codes = np.frombuffer(playground.attention, np.uint8).reshape(4, 4)
    weights = codes * playground.answer["largest"] / 255
    assert playground.answer["grid"] == (4, 4) and np.abs(weights.sum() - 23 * 23 / 4096) < 0.002
    assert codes.argmax() == 6 and playground.answer["share"] == pytest.approx(23 * 23 / 4096)


def test_truth_follows_every_edit(playground):
    playground.change(question="what colour is the circle", things=[Thing(0, 2, 1, 40, 24)])
    assert (playground.answer["truth"], playground.answer["right"]) == ("red", True)
    assert [choice["right"] for choice in playground.answer["choices"]] == [True, False]
    playground.change(things=[Thing(0, 3, 1, 40, 24)])
    assert (playground.answer["truth"], playground.answer["right"]) == ("blue", False)
    assert [choice["right"] for choice in playground.answer["choices"]] == [False, True]
    playground.change(things=[])
    assert playground.answer["truth"] == "" and not playground.answer["right"]
    playground.change(question="Why?")
    assert playground.answer["truth"] is None and not playground.answer["right"]


def test_blind_and_swapped_models_are_asked_about_another_picture(playground, model):
    playground.change(given="grey")
    assert (seen(playground) == MID_GREY).all() and playground.pixels == draw(SCENES)[0].tobytes()
    playground.change(given="swapped")
    assert np.array_equal(seen(playground), draw(SCENES)[1])
    playground.change(number=5)
    assert (
        np.array_equal(seen(playground), draw(SCENES)[0]) and playground.pixels == draw(SCENES)[5].tobytes()
    )


def test_a_caption_is_written_once_for_a_picture(playground, model):
    playground.change(question="Is there a star?")
    playground.change(question="Is there a cross?")
    assert model.told == 1 and len(model.asked) == 3
    playground.change(number=1)
    assert model.told == 2


def test_an_error_is_one_line_and_the_last_answer_stays(playground):
    before = {**playground.answer}
    playground.change(question="please fail")
    assert playground.answer["error"] == "RuntimeError: out of memory"
    assert playground.answer["answer"] == before["answer"] == "red"
    playground.change(question="and now?")
    assert playground.answer["error"] == "" and playground.answer["question"] == "and now?"


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"choices": [("red", 90.0)], "attention": None}, r"probabilities \[90.0\]; expected 0 to 1"),
        ({"choices": [], "attention": np.zeros(16)}, r"attention of shape \(16,\); expected finite weights"),
        ({"choices": [], "attention": -np.ones((2, 2))}, "none negative"),
    ],
)
def test_answers_of_another_form_are_named(said, message):
    with pytest.raises(ValueError, match=message):
        ScenePlayground(lambda *_: {"answer": "red", **said}, lambda _: "", SCENES, render=draw)


def test_a_model_that_is_broken_from_the_start_is_noticed(model):
    with pytest.raises(RuntimeError, match="out of memory"):
        ScenePlayground(lambda image, _: model.answer(image, "fail"), model.caption, SCENES, render=draw)
    with pytest.raises(ValueError, match=r"render returned \(35, 32, 32, 3\), expected \(35, 64, 64, 3\)"):
        ScenePlayground(model.answer, model.caption, SCENES[:1], render=lambda s: draw(s)[:, ::2, ::2])
    with pytest.raises(ValueError, match="no scenes to play with"):
        ScenePlayground(model.answer, model.caption, SCENES[:0], render=draw)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ({"number": 6}, r"number is 6, expected 0\.\.5"),
        ({"given": "blind"}, "given is 'blind', expected one of scene, swapped, grey"),
        ({"things": [(0, 0, 2, 10, 30)]}, r"leaves the frame at \(10, 30\)"),
        ({"colour": "red"}, "there is no colour; set number, things, question, given or model"),
    ],
)
def test_what_cannot_be_set_is_refused_with_the_rule(playground, what, message):
    before = playground.state
    with pytest.raises(ValueError, match=message):
        playground.change(**what)
    assert playground.state == before


def test_a_model_without_attention_or_without_a_question_is_shown_too(model):
    said = {"answer": "red", "choices": [], "attention": None}
    plain = ScenePlayground(lambda *_: said, model.caption, SCENES, render=draw)
    assert plain.answer["grid"] == (0, 0) and plain.attention == b"" and plain.static_figure()
    plain.change(question="  ")
    assert plain.answer["answer"] == "" and plain.answer["error"] == ""


def test_everything_the_browser_draws_with_comes_along(playground):
    lights = {f"sprites/{light}" for light in SCENES.light}
    assert set(playground.blobs) == lights | {f"paper/{n}" for n in range(6)}
    assert len(playground.blob(f"sprites/{SCENES.light[0]}")) == 3 * 35 * (13**2 + 17**2 + 23**2)
    assert sum(map(len, playground.blobs.values())) < 1_900_000
    many = ScenePlayground(Model().answer, Model().caption, sample("test", 200), render=draw)
    assert "paper/0" in many.blobs and sum(map(len, many.blobs.values())) < 1_900_000


def test_the_picture_tells_scene_answer_truth_and_caption(playground):
    playground.change(question="What colour is the circle?", things=[Thing(0, 3, 1, 40, 24)], given="grey")
    still = playground.static_figure()
    assert still.alt == (
        "A scene; what the model gets: grey; asked “What colour is the circle?” it says “red”, the "
        "truth is blue; its caption: 0 pixels"
    )
    playground.change(given="scene")
    drawn = playground.static_figure()
    assert drawn.data != still.data
    scene, looked, bars = drawn.figure.axes[:3]
    assert np.array_equal(scene.images[0].get_array(), seen(playground))
    assert [label.get_text() for label in bars.get_yticklabels()] == ["blue ✓", "red"]
    assert [bar.get_width() for bar in bars.patches] == [0.1, 0.9]
    assert [text.get_text() for text in bars.texts] == ["10 %", "90 %"]
    title, caption = drawn.figure._suptitle.get_text(), drawn.figure._supxlabel.get_text()
    assert title == "What colour is the circle?  red ✗ (blue)" and caption == playground.answer["caption"]
    assert (scene.get_title(), looked.get_title()) == ("the scene", "what the model gets")


def test_shares_read_well():
    assert [percent(p) for p in (1, 0.618, 0.0994, 0.0996, 0.0004)] == [
        "100 %",
        "62 %",
        "9.9 %",
        "10 %",
        "< 0.1 %",
    ]


class Other(Model):
    """Says something else, and shows no attention."""

    def answer(self, image, question):
        return {"answer": "blue", "choices": [("blue", 1.0)], "attention": None}

    def caption(self, image):
        return "something blue"


@pytest.fixture
def choir(model):
    other = Other()
    others = {"other": (other.answer, other.caption)}
    return ScenePlayground(model.answer, model.caption, SCENES, render=draw, name="first", others=others)


def test_several_models_answer_side_by_side_and_one_is_looked_at(choir):
    assert choir.world["models"] == ["first", "other"] and choir.state["model"] == 0
    assert [one["text"] for one in choir.answer["all"]] == ["red", "blue"] and choir.attention
    choir.change(model="other")
    assert choir.answer["answer"] == "blue" and choir.answer["caption"] == "something blue"
    assert choir.attention == b"" and choir.answer["choices"][0]["text"] == "blue"
    choir.change(model=0)
    assert choir.answer["answer"] == "red" and choir.answer["caption"].endswith("pixels")
    truth = choir.answer["truth"]
    assert [one["right"] for one in choir.answer["all"]] == [truth == "red", truth == "blue"]
    assert "first: " in str(choir.static_figure().figure._suptitle.get_text())


def test_a_model_that_is_not_there_is_named(choir, model):
    for wrong in ("third", 2, -1):
        with pytest.raises(ValueError, match=f"model is {wrong!r}, expected one of first, other"):
            choir.change(model=wrong)
    with pytest.raises(ValueError, match="two models are called one"):
        ScenePlayground(model.answer, model.caption, SCENES, render=draw, name="one",
                        others={"one": (model.answer, model.caption)})  # fmt: skip
