import re
import subprocess
import sys

import numpy as np
import pytest

from vlmcourse.families.sights import see_page
from vlmcourse.widgets import base, stills
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

RED = np.full((2, 8, 8, 3), (200, 0, 0), np.uint8)
EVEN = np.full((2, 1, 2, 5, 5), 0.2)
SAID = {"answer": "red", "choices": [("red", 0.9)], "attention": EVEN[0, 0, 0]}
ROW = {
    "name": "eye",
    "parameters": 9,
    "trained": 9,
    "gradient": 0.1,
    "weight": 1,
    "ratio": 0.1,
    "through": 0.2,
}
WIDGETS = {
    "AttentionExplorer(2 images, 2×2 patches, 1 layers, 2 heads)": lambda: AttentionExplorer(
        RED, EVEN, grid=(2, 2)
    ),
    "SceneBrowser(2 scenes, 0 questions)": lambda: SceneBrowser(RED, ["a", "b"]),
    "Is it red?\n  a) yes\n  b) no": lambda: Quiz(
        "Is it red?", [("yes", True, "it is"), ("no", False, "look")]
    ),
    "LivePlot('digits', loss)": lambda: LivePlot("digits"),
    "SimilarityMatrix(2 pairs)": lambda: SimilarityMatrix(np.eye(2), RED, ["a", "b"]),
    "TextToImageSearch(2 pictures)": lambda: TextToImageSearch(
        lambda text: [0.5, 0.1], RED, ["a", "b"], suggestions=["a"]
    ),
    "TextAttention(5 tokens, 1 layers, 2 heads)": lambda: TextAttention(list("abcde"), EVEN[0], causal=False),
    "FeatureClouds(2 images, 2 texts, paired)": lambda: FeatureClouds(np.eye(2), -np.eye(2)),
    "ScenePlayground(2 scenes)": lambda: ScenePlayground(
        lambda image, question: SAID,
        lambda image: "a text",
        sample("test", 2),
        render=lambda batch: np.zeros((len(batch), 64, 64, 3), np.uint8),
    ),
    "LabelInspector(1 conversations, 2 tokens, 1 learned)": lambda: LabelInspector(
        ["a", "b"], [1, 2], [-100, 2]
    ),
    "TokenLens(1×2 image tokens, 1 words, 1 moments)": lambda: TokenLens(
        RED[0], [["a"], ["b"]], [[1], [0]], grid=(1, 2)
    ),
    "GradientFlow(1 parts, 1 trained)": lambda: GradientFlow([ROW]),
    "LiveOcclusion(1 questions, 2×2 patches)": lambda: LiveOcclusion(
        lambda image, question: (["red"], lambda images: np.full((len(images), 1), 0.9)),
        RED[0],
        ["What?"],
        side=4,
    ),
    "ShareMap(2 questions, 1 layers, attention)": lambda: ShareMap(
        RED,
        [np.full((1, 2), 0.8)] * 2,
        [["a", "b"]] * 2,
        ["What?", "Why?"],
        weights=[np.full((1, 2, 2, 4), 0.2)] * 2,
        grid=(2, 2),
    ),
    "RowBrowser(2 rows, 1 scores)": lambda: RowBrowser(
        RED, {"name": ["a", "b"]}, {"fit": [0.1, 0.5]}, {"kind": ["x", "y"]}
    ),
    "PageReader(2 pages)": lambda: PageReader(
        see_page, lambda *asked: ("[9, 9, 99, 99]", 0.9), sample_pages("test", 2, kind="tables")
    ),
}
NAMES = [
    "attention",
    "scenes",
    "quiz",
    "plot",
    "similarity",
    "search",
    "text",
    "clouds",
    "playground",
    "labels",
    "lens",
    "gradients",
    "occlusion",
    "shares",
    "browser",
    "pages",
]
WIDGETS_BY_NAME = dict(zip(NAMES, WIDGETS.values(), strict=True))


@pytest.fixture
def shown(monkeypatch):
    """What a widget would display, as a list of MIME bundles."""
    outputs = []

    def display(thing, raw=False, metadata=None):
        outputs.append(thing if raw else thing._repr_mimebundle_()[0])

    monkeypatch.setattr(base, "display", display)
    return outputs


@pytest.mark.parametrize("text", WIDGETS)
def test_repr_is_fixed(text):
    assert repr(WIDGETS[text]()) == repr(WIDGETS[text]()) == text


@pytest.mark.parametrize("make", WIDGETS.values(), ids=NAMES)
def test_under_ci_a_widget_opens_no_channel_and_shows_text_and_picture(make, shown, monkeypatch):
    monkeypatch.setenv("CI", "true")
    widget = make()
    widget._ipython_display_()
    assert widget.comm is None
    assert shown[0] == {"text/plain": repr(widget)}
    assert all(set(output) == {"image/png", "text/plain"} for output in shown[1:])


def test_a_widget_shows_itself_and_its_picture_as_two_outputs(shown, monkeypatch):
    monkeypatch.delenv("CI", raising=False)
    explorer = AttentionExplorer(RED, EVEN, grid=(2, 2))
    explorer._ipython_display_()
    live, still = shown
    assert (
        live["application/vnd.jupyter.widget-view+json"]["model_id"] == explorer.model_id
        and "image/png" not in live
    )
    assert (
        "image/png" in still
        and "Attention of layer 0, mean of heads, query class token" in still["text/plain"]
    )


@pytest.mark.parametrize("make", WIDGETS.values(), ids=NAMES)
def test_the_script_is_plain_esm_without_imports_or_html(make):
    source = make()._esm
    assert source.count("export default") == 1
    for forbidden in (
        "import ",
        "import(",
        "require",
        "define(",
        "fetch(",
        "http",
        "innerHTML",
        "insertAdjacentHTML",
    ):
        assert forbidden not in source


def test_no_trait_hides_one_of_ipywidgets():
    for make in WIDGETS.values():
        assert not set(type(make()).class_own_traits()) & {
            "style",
            "layout",
            "tooltip",
            "tabbable",
            "comm",
            "keys",
        }


def test_pictures_of_another_kind_are_refused_with_the_way_out():
    with pytest.raises(ValueError, match="channel comes last"):
        base.as_images(np.zeros((2, 3, 8, 8), np.uint8))
    with pytest.raises(ValueError, match=r"images \* 255"):
        base.as_images(np.zeros((2, 8, 8, 3), np.float32))


RULES = {"layer": range(3), "head": (range(4), "mean")}


@pytest.mark.parametrize(
    "view", [{"layer": 0, "head": 0}, {"layer": 2, "head": "mean"}, {"layer": np.int64(1), "head": 3}]
)
def test_a_place_that_is_there_may_be_opened(view):
    base.check_value("view", view, RULES)


@pytest.mark.parametrize(
    ("view", "message"),
    [
        ({"layer": 3, "head": 0}, r"view has layer=3, expected 0\.\.2$"),
        ({"layer": -1, "head": 0}, r"view has layer=-1, expected 0\.\.2$"),
        ({"layer": 1.0, "head": 0}, r"view has layer=1\.0, expected 0\.\.2$"),
        ({"layer": "mean", "head": 0}, r"view has layer='mean', expected 0\.\.2$"),
        ({"layer": None, "head": 0}, r"view has layer=None, expected 0\.\.2$"),
        ({"layer": 0, "head": 4}, r"view has head=4, expected 0\.\.3 or mean$"),
        ({"layer": True, "head": 0}, r"view has layer=True, expected 0\.\.2$"),
        ({"layer": 0}, r"view is {'layer': 0}, expected a dict with the fields layer, head$"),
        ({"layer": 0, "head": 0, "more": 1}, "expected a dict with the fields layer, head$"),
        ([0, 0], r"view is \[0, 0\], expected a dict with the fields layer, head$"),
    ],
)
def test_a_place_that_is_not_there_is_named_with_what_could_be(view, message):
    with pytest.raises(ValueError, match=message):
        base.check_value("view", view, RULES)


@pytest.mark.parametrize(
    ("rule", "good", "bad", "words"),
    [
        (
            base.Between(0.5, 2),
            [0.5, 1, np.float32(2)],
            [0.4, 2.1, float("nan"), True, "1", None],
            "0.5 to 2",
        ),
        ([range(2), bool], [[1, True], (0, False)], [[1], [True, 1], 1, None, {}], "(0..1, bool)"),
        (base.UpTo(2, range(3)), [[], [2, 0]], [[3], [0, 0, 0], 0, {}, "0"], "at most 2 of 0..2"),
        ((None, str), [None, ""], [0, [], False], "None or str"),
    ],
)
def test_a_rule_allows_what_it_says(rule, good, bad, words):
    assert all(base.fits(value, rule) for value in good) and not any(base.fits(value, rule) for value in bad)
    with pytest.raises(ValueError, match=re.escape(f"zoom is {bad[0]!r}, expected {words}")):
        base.check_value("zoom", bad[0], rule)


def test_a_rule_may_follow_from_the_fields_before_it():
    rules = {"row": range(3), "column": lambda cell: range(cell["row"] + 1)}
    base.check_value("cell", {"row": 2, "column": 2}, rules)
    with pytest.raises(ValueError, match=r"cell has column=2, expected 0\.\.1$"):
        base.check_value("cell", {"row": 1, "column": 2}, rules)


def test_things_are_named_by_number_or_each_by_its_name():
    assert base.one_name_each(None, "image", 2) == ["image 0", "image 1"]
    assert base.one_name_each(["cat", 7], "image", 2) == ["cat", "7"]
    for names in (["cat"], ["cat", "dog", "bird"], []):
        with pytest.raises(ValueError, match=f"{len(names)} labels for 2 images; pass one label per image"):
            base.one_name_each(names, "image", 2, called="label")


@pytest.mark.parametrize(
    ("text", "other", "same"),
    [
        ("Red  Circle", " red circle.", True),
        ("red circle", "red circles", False),
        ("a b", "b a", False),
        ("", ".", True),
    ],
)
def test_texts_are_the_same_but_for_case_spaces_and_a_full_stop(text, other, same):
    assert base.same_words(text, other) == same


def test_a_picture_is_shrunk_to_its_longer_side_and_never_enlarged():
    image = np.zeros((40, 100, 3), np.uint8)
    image[:, 50:] = 200
    assert np.array_equal(base.shrink(image, 100), image)
    small = base.shrink(image, 10)
    assert small.shape == (4, 10, 3) and small[:, :5].max() == 0 and small[:, 5:].min() == 200


def test_blobs_are_sent_in_order_while_they_fit():
    class Blobs(base.Widget):
        _esm = ""

        def blob(self, name):
            return bytes(int(name.split("/")[1]))

    widget, half = Blobs(), base.PRELOAD // 2
    widget.preload([f"a/{half}", f"b/{base.PRELOAD - half}", "c/1"])
    assert [len(data) for data in widget.blobs.values()] == [half, base.PRELOAD - half]
    widget.preload([f"a/{half}", f"b/{half + 2}", "c/1"])
    assert [len(data) for data in widget.blobs.values()] == [half]  # what comes after waits, too


WANTS = [None, -1, float("nan"), [], "x", "page/9", "a/b/c"]
BAD = [None, 3, "want", [], {}, *({"want": bad} for bad in WANTS)]


@pytest.mark.parametrize("make", WIDGETS.values(), ids=NAMES)
def test_a_message_that_asks_for_nothing_there_is_passed_over(make, monkeypatch):
    widget, sent = make(), []
    monkeypatch.setattr(type(widget), "send", lambda _, content, buffers: sent.append(content))
    for bad in BAD:
        widget._answer(widget, bad, [])
    assert not sent


def test_python_cannot_go_where_nothing_is():
    explorer, browser = WIDGETS_BY_NAME["attention"](), WIDGETS_BY_NAME["scenes"]()
    with pytest.raises(ValueError, match=r"view has layer=-1, expected 0\.\.0$"):
        explorer.view = {**explorer.view, "layer": -1}
    with pytest.raises(ValueError, match=r"chosen is 2, expected 0\.\.1$"):
        browser.chosen = 2
    assert explorer.view["layer"] == browser.chosen == 0


def test_tokens_are_shown_by_signs():
    assert [base.visible(token) for token in ("", " ", " \n", "a b", "a\tb")] == [
        "∅",
        "␣",
        "␣⏎",
        "a b",
        "a�b",
    ]


def test_the_browser_has_the_same_colours_as_python():
    source = (base.SOURCE / "base.js").read_text("utf-8")
    line = next(line for line in source.splitlines() if line.startswith("const [IMAGE"))
    assert re.findall("#[0-9A-Fa-f]{6}", line)[:4] == [stills.IMAGE, stills.TEXT, stills.ACCENT, stills.INK]
    style = base.Widget._css
    for name in ("IMAGE", "TEXT", "MASKED", "ACCENT", "GOOD"):
        assert f"--{name.lower()}: {getattr(stills, name)};" in style


def test_widgets_that_take_arrays_do_not_wait_for_torch():
    """A kernel that only shows arrays opens a widget in half the time."""
    names = ["text_attention" if name == "text" else name for name in NAMES if name != "playground"]
    code = f"import sys\nfrom vlmcourse.widgets import {', '.join(names)}\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
