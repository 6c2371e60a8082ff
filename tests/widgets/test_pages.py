"""The page reader: what the model sees of a page and what it costs, its answers, and where it points."""

import time
from dataclasses import replace

import numpy as np
import pytest

from vlmcourse.families.sights import see_page
from vlmcourse.widgets.pages import PAGE_BUDGETS, PageReader
from vlmcourse.widgets.stills import ACCENT
from vlmcourse.world.pages import PageQuestion, sample_pages

CIRCLE, STAR = (10, 20, 20, 30), (100, 40, 110, 50)  # on a page of 64 × 128 pixels
MARKS = [
    PageQuestion("count", "How many circles are there?", "1", (CIRCLE,)),
    PageQuestion("where", "Where is the red circle? Answer with a box.", "[78, 312, 156, 468]", (CIRCLE,)),
    PageQuestion("shape", "What shape is the pink thing?", "star", (STAR,)),
    PageQuestion("where", "Where is the pink star? Answer with a box.", "[781, 625, 859, 781]", (STAR,)),
]
WORD = [PageQuestion("word", "What is written?", "bcd", ((4, 8, 22, 15),), "bcd")]
NAMELESS = [PageQuestion("count", "How many circles are there?", "2", (CIRCLE, STAR))]
PICTURES = [np.full((*size, 3), 240, np.uint8) for size in ((64, 128), (128, 64), (64, 64))]
PICTURES[0][20:30, 10:20], PICTURES[0][40:50, 100:110] = (200, 30, 40), (250, 140, 180)
BATCH = replace(
    sample_pages("test", 3),
    kinds=["marks", "words", "marks"],
    pictures=PICTURES,
    asked=[MARKS, WORD, NAMELESS],
)


class Model:
    """Says what it was told to, and remembers what it was asked."""

    def __init__(self, text="1", chance=0.25):
        self.text, self.chance, self.asked = text, chance, []

    def __call__(self, page, question, way, budget):
        self.asked.append((page.shape[:2], question, way, budget))
        if "fail" in question:
            raise RuntimeError("out of <b>memory</b>\nsecond line")
        return self.text, self.chance


@pytest.fixture
def model():
    return Model()


@pytest.fixture
def reader(model):
    return PageReader(see_page, model, BATCH)


def test_the_first_question_is_asked_about_the_first_page_as_it_is(reader, model):
    assert model.asked == [((64, 128), "How many circles are there?", "native", 256)]
    said = reader.answer
    assert (said["answer"], said["p"], said["truth"], said["right"]) == ("1", 0.25, "1", True)
    assert said["boxes"] == said["shown"] == [list(CIRCLE)] and said["told"] == [] and said["iou"] is None
    assert (said["size"], said["grid"], said["tokens"], said["left"]) == ([64, 128], [1, 1], 32, 1)
    assert reader.seen == PICTURES[0].tobytes() and reader.thumbnail == b""


@pytest.mark.parametrize(
    ("way", "budget", "size", "grid", "tokens", "left"),
    [
        ("native", 512, [64, 128], [1, 1], 4 * 8, 1),
        ("native", 16, [48, 80], [1, 1], 3 * 5, 48 * 80 / (64 * 128)),
        ("squash", 16, [64, 64], [1, 1], 16, 1 / 2),
        ("squash", 32, [80, 80], [1, 1], 25, 80 / 128),  # its height grows, which brings no pixels
        ("squash", 512, [352, 352], [1, 1], 484, 1),
        ("tiles", 16, [64, 64], [1, 1], 16, 1 / 2),
        ("tiles", 64, [64, 128], [1, 2], 3 * 16, 1),
    ],
)
def test_what_a_budget_buys(reader, way, budget, size, grid, tokens, left):
    reader.change(way=way, budget=budget)
    said = reader.answer
    assert (said["size"], said["grid"], said["tokens"]) == (size, grid, tokens) and tokens <= budget
    assert said["left"] == pytest.approx(left) and said["square"] == 16
    assert len(reader.seen) == 3 * said["frame"][0] * said["frame"][1]


def test_tiles_are_put_together_again_and_their_thumbnail_stands_apart(reader):
    reader.change(way="tiles", budget=64)
    assert reader.seen == PICTURES[0].tobytes()  # two tiles hold the whole page
    small = np.frombuffer(reader.thumbnail, np.uint8).reshape(64, 64, 3)
    assert np.array_equal(small, see_page(PICTURES[0], "squash", 16).pieces[0])
    assert reader.answer["frame"] == [64, 128] and reader.answer["small"] == [64, 64]
    reader.change(budget=16)
    assert reader.seen == small.tobytes() and reader.thumbnail == b""


def test_what_one_must_see_is_where_it_is_in_what_the_model_sees():
    tall = replace(BATCH[:1], pictures=[np.full((64, 192, 3), 240, np.uint8)])
    wide = PageReader(see_page, Model(), tall, way="squash", budget=16)
    left, top, right, bottom = CIRCLE
    assert wide.answer["shown"] == [pytest.approx([left / 3, top, right / 3, bottom])]
    wide.change(way="tiles", budget=64)  # two tiles, of which the page fills 43 of 64 lines: 10 are above it
    assert wide.answer["size"] == [43, 128] and wide.answer["frame"] == [64, 128]
    down = 43 / 64
    placed = [left * 2 / 3, 10 + top * down, right * 2 / 3, 10 + bottom * down]
    assert wide.answer["shown"] == [pytest.approx(placed)]


def test_an_answer_is_right_wrong_or_nobody_knows(reader, model):
    model.text = " Star. "
    reader.change(question="What shape is the pink thing?")
    assert reader.answer["right"] is True and reader.answer["boxes"] == [list(STAR)]
    reader.change(question="How many circles are there?")
    assert reader.answer["right"] is False and reader.answer["truth"] == "1"
    reader.change(question="Why?")
    assert reader.answer["right"] is None and reader.answer["truth"] is None and reader.answer["boxes"] == []


def test_the_browser_knows_of_every_page_what_can_be_asked_and_pointed_at(reader):
    first, second, third = reader.shape["pages"]
    assert first == {
        "kind": "marks",
        "size": [64, 128],
        "questions": ["How many circles are there?", "What shape is the pink thing?"],
        "where": [
            "Where is the red circle? Answer with a box.",
            "Where is the pink star? Answer with a box.",
        ],
        "things": [{"name": "the red circle", "box": [*CIRCLE]}, {"name": "the pink star", "box": [*STAR]}],
    }
    assert second["where"] == ["Where is the word? Answer with a box."] and third["things"] == []
    assert set(reader.get_state()) >= {"seen", "thumbnail", "state", "answer", "shape", "blobs"}


def test_a_click_asks_where_the_nearest_thing_is(reader, model):
    for point, thing in (
        ((0, 0), "red circle"),
        ((64, 63), "pink star"),
        ((60, 0), "red circle"),
        ((15, 63), "red circle"),
        ((105, 0), "pink star"),
        ((60, 63), "pink star"),  # as far to the side, and nearer below
        ((20, 63), "red circle"),
    ):
        turn = reader.state["turn"]
        reader.point(*point)
        assert reader.state["turn"] == reader.answer["turn"] == turn + 1
        assert model.asked[-1][1] == reader.answer["question"] == f"Where is the {thing}? Answer with a box."
        assert reader.answer["name"] == f"the {thing}" and reader.state["point"] == [*point]
    reader.change(budget=16)  # the same is asked of it again
    assert model.asked[-1][1:] == ("Where is the red circle? Answer with a box.", "native", 16)
    reader.change(question="Why?")
    assert reader.state["point"] is None and model.asked[-1][1] == "Why?"


def test_a_click_lies_on_a_page():
    wide = PageReader(see_page, Model(), BATCH[:1])  # 64 × 128 pixels
    wide.point(128, 64)
    for point in ((129, 64), (64, 65)):
        with pytest.raises(ValueError, match="point"):
            wide.point(*point)


def test_what_has_several_boxes_is_pointed_at_by_its_first(model):
    word = WORD[0]._replace(boxes=((4, 8, 22, 15), (50, 90, 60, 99)))
    reader = PageReader(see_page, model, replace(BATCH[1:2], asked=[[word]]))
    assert reader.shape["pages"][0]["things"] == [{"name": "the word", "box": [4, 8, 22, 15]}]
    assert reader.answer["boxes"] == [[4, 8, 22, 15], [50, 90, 60, 99]]
    reader.point(55, 95)
    assert reader.answer["boxes"] == [[4, 8, 22, 15]]


def test_a_told_box_is_read_and_measured_against_the_true_one(reader, model):
    model.text = "[78, 312, 156, 468]"  # the middles of thousandths: 10.05, 20, 20.03, 29.98
    reader.point(12, 22)
    said = reader.answer
    assert said["told"] == [pytest.approx([10.048, 20, 20.032, 29.984], abs=1e-3)]
    assert said["iou"] == pytest.approx(9.952 * 9.984 / (100 + 9.984 * 9.984 - 9.952 * 9.984), abs=1e-3)
    assert said["right"] is True and said["boxes"] == [list(CIRCLE)]
    model.text = "it is [78, 312, 117, 468] or [0, 0, 999, 999]"  # half of it first
    reader.point(13, 22)
    assert reader.answer["iou"] == pytest.approx(0.5, abs=0.01) and len(reader.answer["told"]) == 2
    assert reader.shape["found"] == 0.5
    model.text = "[78, 312, 152, 390]"  # a little less than half of it
    reader.point(12, 22)
    assert 0.45 < reader.answer["iou"] < 0.5 and reader.answer["right"] is False
    model.text = "[78, 312, 100, 468]"
    reader.point(13, 22)
    assert 0.25 < reader.answer["iou"] < 0.35 and reader.answer["right"] is False
    model.text = "on the left"
    reader.point(13, 22)
    assert (reader.answer["iou"], reader.answer["right"], reader.answer["told"]) == (0, False, [])


def test_a_box_is_drawn_whatever_was_asked(reader, model):
    model.text = "red, at [500, 500, 749, 999]"
    reader.change(question="What is there?")
    assert reader.answer["told"] == [pytest.approx([64.064, 32.032, 95.936, 63.968])]
    assert reader.answer["iou"] is None and reader.answer["right"] is None


def test_words_cells_and_bars_are_pointed_at_too(model):
    pages = {kind: sample_pages("test", 1, kind=kind) for kind in ("words", "tables", "charts")}
    names = {
        kind: [one["name"] for one in PageReader(see_page, model, some).shape["pages"][0]["things"]]
        for kind, some in pages.items()
    }
    assert names["words"] == ["the word"] and len(names["tables"]) == 9 and len(names["charts"]) >= 3
    assert names["tables"][4] == "the number in row b, column y" and all(
        name.endswith(" bar") for name in names["charts"]
    )


def test_where_nothing_has_a_name_a_click_says_so(reader):
    reader.change(number=2)
    assert reader.shape["pages"][2]["things"] == []
    before = reader.state
    with pytest.raises(ValueError, match="nothing on this page has a name to point at; ask in words"):
        reader.point(1, 1)
    assert reader.state == before
    reader.state = {**before, "turn": before["turn"] + 1, "by": "page", "point": [1, 1]}
    assert (
        reader.answer["error"].startswith("ValueError: nothing on this page") and reader.answer["number"] == 2
    )


def test_another_page_is_asked_the_same_if_it_can_be(reader, model):
    reader.point(12, 22)
    reader.change(number=1)
    assert model.asked[-1][:2] == ((128, 64), "What is written?") and reader.state["point"] is None
    reader.change(number=0)
    reader.change(number=2)
    assert model.asked[-1][:2] == ((64, 64), "How many circles are there?")
    asked = [NAMELESS[0]._replace(text="What is red?"), NAMELESS[0]]
    other = PageReader(see_page, model, replace(BATCH, asked=[MARKS, WORD, asked]))
    other.change(number=2)
    assert model.asked[-1][:2] == ((64, 64), "How many circles are there?")  # its second
    reader.change(number=1, question="How many circles are there?")
    assert model.asked[-1][1] == "How many circles are there?" and reader.answer["right"] is None


def test_an_error_is_one_line_and_the_last_answer_stays(reader):
    reader.change(question="fail")
    assert reader.answer["error"] == "RuntimeError: out of <b>memory</b>"
    assert reader.answer["answer"] == "1" and reader.answer["turn"] == 1
    reader.change(question=" ")
    assert reader.answer["error"].startswith("ValueError: the question is empty")
    reader.change(question="Why?")
    assert reader.answer["error"] == "" and reader.answer["question"] == "Why?"


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ({"number": 3}, r"state has number=3, expected 0\.\.2"),
        ({"way": "peek"}, "state has way='peek', expected squash or tiles or native"),
        ({"budget": 15}, "state has budget=15, expected 16 or 32 or 64 or 128 or 256 or 512"),
        ({"question": 7}, "state has question=7, expected str"),
        ({"colour": 1}, "there is no colour; set number, way, budget or question"),
    ],
)
def test_what_cannot_be_set_is_refused_with_what_can(reader, what, message):
    before = reader.state
    with pytest.raises(ValueError, match=message):
        reader.change(**what)
    assert reader.state == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"way": "peek"}, "way='peek'"),
        ({"budget": 100}, "budget=100"),
        ({"pages": BATCH[:0]}, "there are no pages to read"),
        ({"answer": Model(chance=40)}, "answer returned 40 beside a text; expected a probability"),
        ({"answer": Model(chance=float("nan"))}, "answer returned nan"),
        ({"answer": Model(chance=1.01)}, "answer returned 1.01 beside"),
        ({"answer": Model(chance=10**200)}, "answer returned 10{79} beside"),
        ({"question": ""}, "the question is empty"),
        ({"see": lambda *_: (PICTURES[0][None], see_page(PICTURES[0], "tiles", 64).plan, 16)},
         r"see returned pieces \(1, 64, 128, 3\) for a grid of 1 × 2; expected 3"),
        ({"see": lambda *_: see_page(PICTURES[0])._replace(square=24)}, "whole squares of 24 pixels"),
        ({"see": lambda *_: see_page(PICTURES[0])._replace(pieces=PICTURES[0] / 255)}, "must be uint8"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(options, message):
    arguments = {"see": see_page, "answer": Model(), "pages": BATCH} | options
    with pytest.raises(ValueError, match=message):
        PageReader(arguments.pop("see"), arguments.pop("answer"), arguments.pop("pages"), **arguments)


def test_what_is_impossible_to_the_model_is_shown_and_how_long_it_took():
    class Slow(Model):
        def __call__(self, *asked):
            time.sleep(0.02)
            return super().__call__(*asked)

    said = PageReader(see_page, Slow(chance=0.0), BATCH).answer
    assert said["p"] == 0 and 20 <= said["milliseconds"] < 10_000


def test_picture_and_answer_are_sent_together(reader):
    held = []
    reader.observe(lambda change: held.append((change.name, reader._holding_sync)), ["seen", "answer"])
    reader.change(way="squash", budget=16)
    assert held == [("seen", True), ("answer", True)]


def test_a_model_that_is_broken_from_the_start_is_noticed():
    with pytest.raises(RuntimeError, match="out of"):
        PageReader(see_page, Model(), BATCH, question="fail")


def test_all_that_is_sent_stays_below_two_megabytes():
    large = sample_pages("test", 6, sizes=[(512, 512)])
    reader = PageReader(see_page, Model(), large, way="tiles", budget=512)
    sent = [*reader.blobs.values(), reader.seen, reader.thumbnail]
    assert len(reader.seen) > 300_000 and sum(map(len, sent)) <= 1_900_000 and "page/0" in reader.blobs
    assert reader.blob("page/5") == large.pictures[5].tobytes() and "page/5" not in reader.blobs


def test_the_still_tells_page_cost_question_and_verdict(reader, model):
    reader.change(way="tiles", budget=64, question="What shape is the pink thing?")
    still = reader.static_figure()
    assert still.alt == (
        "A page of marks, 64 × 128 pixels, seen as a thumbnail and tiles for 48 tokens, 100 % of the pixels; "
        "asked “What shape is the pink thing?” the model says “1” ✗ (star)"
    )
    whole, seen = still.figure.axes
    assert whole.get_title() == "the page: 64 × 128 pixels"
    assert np.array_equal(whole.images[0].get_array(), PICTURES[0])
    assert np.array_equal(seen.images[0].get_array(), PICTURES[0])
    [box] = whole.patches
    assert (box.get_xy(), box.get_width(), box.get_linestyle()) == ((99, 39), 12, "--")
    assert not box.get_fill() and still.figure._suptitle.get_color() == ACCENT
    lines = [(line.get_linewidth(), *line.get_xydata().flatten().tolist()) for line in seen.lines]
    tokens = [(0.6, x, 0, x, 64) for x in range(0, 129, 16)] + [(0.6, 0, y, 128, y) for y in range(0, 65, 16)]
    tiles = [(2.5, x, 0, x, 64) for x in (0, 64, 128)] + [(2.5, 0, y, 128, y) for y in (0, 64)]
    assert lines == tokens + tiles
    model.text = "[78, 312, 156, 468]"
    reader.point(12, 22)
    still = reader.static_figure()
    assert still.figure._suptitle.get_color() == "black"
    assert still.alt.endswith("the model says “[78, 312, 156, 468]” ✓ IoU 0.99")
    assert [patch.get_linestyle() for patch in still.figure.axes[0].patches] == ["-", "--"]
    model.text = ""
    reader.change(question="Why is there so much? " * 8)
    title = reader.static_figure().figure._suptitle
    lines = title.get_text().splitlines()
    assert title.get_color() == "black" and "– (25 %)" in " ".join(lines)  # nobody knows what is right
    assert len(lines) > 1 and max(map(len, lines)) <= 90


def test_budgets_are_powers_of_two_of_which_all_hold_a_page(model):
    assert PAGE_BUDGETS == (16, 32, 64, 128, 256, 512)
    reader = PageReader(see_page, model, sample_pages("test", 12))
    for number in range(12):
        for way in ("squash", "tiles", "native"):
            for budget in PAGE_BUDGETS[:3]:
                reader.change(number=number, way=way, budget=budget)
                assert not reader.answer["error"] and reader.answer["tokens"] <= budget
