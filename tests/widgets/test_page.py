"""What a page sends: only what fits is taken, the rest is refused and the widget goes on."""

import math

import numpy as np
import pytest
from matplotlib.text import Text

from tests.widgets.test_base import EVEN, RED, ROW, SAID, WIDGETS_BY_NAME
from vlmcourse.families.sights import see_page
from vlmcourse.widgets.attention import AttentionExplorer
from vlmcourse.widgets.browser import RowBrowser
from vlmcourse.widgets.clouds import FeatureClouds
from vlmcourse.widgets.gradients import GradientFlow
from vlmcourse.widgets.labels import LabelInspector
from vlmcourse.widgets.lens import TokenLens
from vlmcourse.widgets.occlusion import LiveOcclusion
from vlmcourse.widgets.pages import PageReader
from vlmcourse.widgets.playground import ScenePlayground
from vlmcourse.widgets.plot import LivePlot
from vlmcourse.widgets.quiz import Quiz
from vlmcourse.widgets.scenes import SceneBrowser
from vlmcourse.widgets.search import TextToImageSearch
from vlmcourse.widgets.shares import ShareMap
from vlmcourse.widgets.similarity import SimilarityMatrix
from vlmcourse.widgets.text_attention import TextAttention
from vlmcourse.world.pages import sample_pages
from vlmcourse.world.scenes import sample

LONG = "x" * 10_000
ODD = [None, True, "1", LONG, -1, 10**9, 0.5, math.nan, math.inf, [], [9, 9], [[9] * 5], {}, {"x": 1}]
TAKEN = {
    "quiz": {"chosen": [None]},
    "search": {"query": ["1", LONG]},
    "lens": {"right": [None]},
    "clouds": {"closed": [0.5], "lines": [True], "point": [None]},
    "similarity": {"temperature": [0.5]},
    "browser": {"by": [None], "down": [True], "text": ["1", LONG], "opened": [None]},
    "playground": {"question": ["1", LONG], "by": ["1", LONG], "turn": [-1, 10**9], "things": [[]]},
    "occlusion": {
        "question": ["1", LONG],
        "by": ["1", LONG],
        "turn": [-1, 10**9],
        "map": [True],
        "covered": [[]],
    },
    "pages": {"question": ["1", LONG], "by": ["1", LONG], "turn": [-1, 10**9], "point": [None, [9, 9]]},
}
"""What of ODD may be set, and where."""
GOOD = {
    "attention": {"view": {"image": 1, "step": 0, "layer": 0, "head": 1, "query": 4}},
    "scenes": {"chosen": 1},
    "quiz": {"chosen": 1},
    "plot": {},
    "similarity": {"view": {"temperature": 1, "mode": "row", "cell": [1, 0]}},
    "search": {"query": "b"},
    "text": {"view": {"layer": 0, "head": 1, "query": 0}},
    "clouds": {"view": {"closed": 1.5, "lines": False, "cloud": "text", "point": 1}},
    "playground": {
        "state": {
            "turn": 1,
            "by": "page",
            "number": 1,
            "question": "Is there a star?",
            "given": "grey",
            "model": 0,
            "things": [[0, 0, 0, 32, 32]],
        }
    },
    "labels": {"view": {"conversation": 0, "token": 1, "labels": 0}},
    "lens": {"view": {"cell": 0, "left": 0, "right": None}},
    "gradients": {"view": {"part": 0, "measure": "ratio"}},
    "occlusion": {"state": {"turn": 1, "by": "page", "question": "Why?", "covered": [0, 3], "map": True}},
    "shares": {"view": {"question": 1, "layer": 0, "token": 0, "head": 1}},
    "browser": {
        "view": {
            "by": None,
            "down": False,
            "cuts": [[0.2, None]],
            "tags": [1],
            "text": "b",
            "page": 0,
            "opened": 0,
        }
    },
    "pages": {
        "state": {
            "turn": 1,
            "by": "page",
            "number": 1,
            "way": "tiles",
            "budget": 64,
            "question": "Why?",
            "point": [20.5, 63],
        }
    },
}
"""What the page of each widget sends."""


def sends(widget, state) -> None:
    """The page sets traits, by the message that ipywidgets' front end sends."""
    message = {"method": "update", "state": state, "buffer_paths": []}
    widget._handle_msg({"content": {"data": message}, "buffers": []})


def odd_states(name, widget):
    """Values that no trait can take: of every trait, and of every field of what the page sets."""
    may = TAKEN.get(name, {})
    for key in widget.keys:
        yield from ({key: odd} for odd in ODD if odd not in may.get(key, []))
    for key, good in GOOD[name].items():
        for field in good if isinstance(good, dict) else ():
            yield {key: {other: value for other, value in good.items() if other != field}}
            yield from ({key: {**good, field: odd}} for odd in ODD if odd not in may.get(field, []))
        if isinstance(good, dict):
            yield {key: {**good, "more": 0}}


@pytest.mark.parametrize("name", WIDGETS_BY_NAME)
def test_what_does_not_fit_is_refused_and_the_widget_goes_on(name, monkeypatch):
    widget, told = WIDGETS_BY_NAME[name](), []
    monkeypatch.setattr(type(widget), "send_state", lambda _, key=None: told.append(key))
    before = widget.trait_values()
    for state in odd_states(name, widget):
        sends(widget, state)
        assert widget.trait_values() == before, state
        assert told.pop() == set(state) and not told  # the page learns what holds
    sends(widget, None)
    sends(widget, GOOD[name])
    assert {key: getattr(widget, key) for key in GOOD[name]} == GOOD[name]
    assert widget.static_figure() is None or widget.static_figure().data


def test_what_fits_is_taken_though_something_beside_it_does_not():
    widget = WIDGETS_BY_NAME["attention"]()
    sends(widget, GOOD["attention"] | {"shape": {}, "no trait": 1})
    assert widget.view == GOOD["attention"]["view"] and widget.shape


def test_an_object_outside_the_frame_is_refused():
    widget = WIDGETS_BY_NAME["playground"]()
    before = widget.state
    sends(widget, {"state": GOOD["playground"]["state"] | {"things": [[0, 0, 0, 0, 0]]}})
    assert widget.state == before


def test_a_token_beyond_its_conversation_is_refused():
    widget = LabelInspector([["a", "b"], ["c"]], [[1, 2], [3]], [[1, 2], [3]])
    sends(widget, {"view": {"conversation": 1, "token": 1, "labels": 0}})
    assert widget.view["conversation"] == 0


NONE = np.zeros((0, 8, 8, 3), np.uint8)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AttentionExplorer(NONE, np.zeros((0, 1, 1, 5, 5)), grid=(2, 2)), "images is empty"),
        (lambda: AttentionExplorer(RED[0], np.zeros((0, 2, 5, 5)), grid=(2, 2)), "attention is empty"),
        (lambda: AttentionExplorer(RED[0], np.ones((1, 1, 1, 1)), grid=(0, 0)), r"grid is \(0, 0\)"),
        (
            lambda: AttentionExplorer(RED[0], np.zeros((0, 1, 1, 5, 5)), grid=(2, 2), steps=[]),
            "attention is empty",
        ),
        (lambda: SceneBrowser(NONE, []), "images is empty"),
        (lambda: Quiz("Is it?", []), "got 0"),
        (lambda: LivePlot("digits", series=()), r"series must be different names, got \(\)"),
        (lambda: SimilarityMatrix(np.zeros((0, 0)), NONE, []), "images is empty"),
        (lambda: TextToImageSearch(lambda query: [], NONE, []), "images is empty"),
        (lambda: TextAttention([], np.zeros((1, 1, 0, 0))), "attention is empty"),
        (lambda: TextAttention(["a"], np.zeros((0, 1, 1, 1))), "attention is empty"),
        (lambda: FeatureClouds(np.zeros((0, 4)), np.zeros((0, 4))), "0 images and 0 texts"),
        (lambda: ScenePlayground(None, None, sample("test", 1)[:0]), "there are no scenes"),
        (lambda: LabelInspector([], [], []), "0 conversations"),
        (lambda: LabelInspector(["a"], [1], {}), "labels must be one set or two"),
        (lambda: TokenLens(RED[0], [], np.zeros((0, 1)), grid=(0, 0)), "scores is empty"),
        (lambda: TokenLens(RED[0], [[]], np.zeros((1, 0))), "scores is empty"),
        (lambda: TokenLens(NONE, [["a"]], [[1]]), "images is empty"),
        (lambda: GradientFlow([]), "0 parts"),
        (lambda: LiveOcclusion(None, RED[0], [], side=4), "questions is empty"),
        (lambda: ShareMap(NONE, [], [], []), "images is empty"),
        (lambda: ShareMap(RED[:1], [np.zeros((0, 1))], [["a"]], ["?"]), r"shares\[0\] is \(0, 1\)"),
        (lambda: RowBrowser(NONE, {"name": []}), "images is empty"),
        (lambda: RowBrowser([], {"name": []}), "there are no rows"),
        (lambda: PageReader(see_page, None, sample_pages("test", 0)), "there are no pages"),
    ],
)
def test_what_is_empty_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


MONEY = r"$\frac$ or $x^2$"
SAYS = SAID | {"answer": MONEY, "choices": [(MONEY, 0.9)]}
DOLLARS = [
    AttentionExplorer(RED, EVEN, grid=(2, 2), labels=[MONEY] * 2, names={"cls": MONEY}),
    SceneBrowser(RED, [MONEY] * 2),
    LivePlot(MONEY, series=(MONEY,)),
    TextToImageSearch(lambda text: [1, 0], RED, [MONEY] * 2, suggestions=[MONEY], attribution=MONEY),
    TextAttention([MONEY] * 5, EVEN[0], causal=False),
    ScenePlayground(lambda *_: SAYS, lambda _: MONEY, sample("test", 1)),
    LabelInspector([MONEY] * 2, [1, 2], {MONEY: [-100, 2], "other": [1, 2]}),
    TokenLens(RED[0], [[MONEY], [MONEY]], [[1], [0]], grid=(1, 2), moments=[MONEY], measure=MONEY),
    GradientFlow([ROW | {"name": MONEY}]),
    LiveOcclusion(lambda *_: ([MONEY], lambda images: [[0.9]] * len(images)), RED[0], [MONEY]),
    ShareMap(RED[:1], [[[0.5, 0.5]]], [[MONEY, "b"]], [MONEY], kind="update"),
    RowBrowser(RED, {MONEY: [MONEY] * 2}, {MONEY: [1, 2]}, summary=lambda rows: MONEY, title=MONEY),
    PageReader(see_page, lambda *_: (MONEY, 0.9), sample_pages("test", 1), question=MONEY),
]
"""Every widget whose picture holds texts of others."""


@pytest.mark.parametrize("widget", DOLLARS, ids=lambda widget: type(widget).__name__)
def test_dollars_in_a_text_are_no_formula(widget):
    if isinstance(widget, LivePlot):
        widget.add(0, **{MONEY: 1.0})
    still = widget.static_figure()  # as a formula it would not be drawn
    texts = [text for text in still.figure.findobj(Text) if r"\frac" in text.get_text()]
    assert still.data and texts and not any(text.get_parse_math() for text in texts)


def test_powers_of_ten_of_an_axis_stay_formulas():
    figure = WIDGETS_BY_NAME["gradients"]().static_figure().figure
    ticks = [label for label in figure.axes[0].get_yticklabels() if label.get_text()]
    assert ticks and all("^" in tick.get_text() and tick.get_parse_math() for tick in ticks)


@pytest.mark.parametrize("name", WIDGETS_BY_NAME)
def test_every_text_of_a_picture_has_nine_points_but_words_laid_over_cells(name):
    widget = WIDGETS_BY_NAME[name]()
    if isinstance(widget, TextToImageSearch):
        widget.query = "b"
    still = widget.static_figure()
    texts = [] if still is None else still.figure.findobj(Text)
    cells = widget._words.ravel().tolist() if isinstance(widget, TokenLens) else []
    small = {text.get_text() for text in texts if text.get_text() and text.get_fontsize() < 9}
    assert small <= set(cells)
