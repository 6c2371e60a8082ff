"""Label masks, nearest words and gradient flow in a real JupyterLab: they show the arrays they were given."""

import numpy as np
import pytest

from tests.browser.test_explorer import pick, slide
from tests.browser.test_looks import colours, pixels, text_of
from tests.browser.test_widgets import INK, luminance

pytestmark = pytest.mark.browser

WORLD = """
import numpy as np
from vlmcourse.widgets.labels import LabelInspector
from vlmcourse.widgets.lens import TokenLens
from vlmcourse.widgets.gradients import GradientFlow
random = np.random.default_rng(17)
tokens = ["<user>", *["<image>"] * 6, "is", "<b>it</b>", "?", "<assistant>", "yes", "<end>",
          "<user>", "why", "<assistant>", "red", "<end>", "<pad>", "<pad>"]
ids = np.array([7, *[4] * 6, 31, 32, 33, 8, 41, 9, 7, 51, 8, 61, 9, 0, 0])
right = np.where(np.isin(np.arange(20), [11, 12, 16, 17]), ids, -100)
wrong = np.where(np.isin(np.arange(20), [10, 11, 15, 16]), ids, -100)
short = (["<user>", "hm", "<assistant>", "no", "<end>"], [7, 71, 8, 81, 9], [-100, -100, -100, 81, 9])
image = random.integers(0, 256, (24, 48, 3), dtype=np.uint8)
def near(moment, cell):
    return [f"<i>{moment}</i>{cell}-{place}" for place in range(3)]
words = [[near(moment, cell) for cell in range(8)] for moment in range(3)]
scores = -np.sort(-random.uniform(-0.2, 0.9, (3, 8, 3)))
names = ["<u>eye</u>", "projector", "block 0", "head"]
numbers = [(1000, 0, 0, 70, 0), (200, 200, 0.05, 10, 0.02), (300, 0, 0, 20, 3), (50, 10, 0, 2, 0.4)]
report = [dict(name=name, parameters=p, trained=t, gradient=g, weight=w, ratio=g / w, through=h)
          for name, (p, t, g, w, h) in zip(names, numbers)]
"""
LABELS = """inspector = LabelInspector([tokens, short[0]], [ids, short[1]], {"right": [right, short[2]],
    "off by one": [wrong, short[2]]}, context=15)
inspector"""
LENS = (
    'lens = TokenLens(image, words, scores, grid=(2, 4), moments=["before", "<b>between</b>", "after"])\nlens'
)
FLOW = "flow = GradientFlow(report)\nflow"
world: dict = {}
exec(WORLD, world)


@pytest.fixture(scope="module")
def page(lab):
    page = lab.open(WORLD, LABELS, LENS, FLOW, name="vlm-looks")
    for widget in ("labels", "lens", "flow"):
        page.wait_for_selector(f".vlm-{widget}")
    yield page
    assert page.complaints == [] and page.outside == []
    lab.close(page)


# ---- labels


def pieces(page, kind="") -> list[str]:
    """What the pieces of a kind read."""
    return page.locator(f".vlm-piece{kind}").all_inner_texts()


def facts(page, widget) -> list[list[str]]:
    """The rows of the table of numbers, a name and its values each."""
    grid = page.locator(f".vlm-{widget} .vlm-facts")
    cells, names = grid.locator("> *").all_inner_texts(), grid.locator("> span").count()
    width = len(cells) // names
    return [cells[i : i + width] for i in range(0, len(cells), width)]


@pytest.fixture
def conversation(page):
    """The first conversation with the right labels, folded, at its first token."""
    pick(page, "Conversation", "0")
    pick(page, "Labels", "0")
    for fold in page.locator(".vlm-piece[aria-expanded=true]").all():
        fold.click()
    page.locator(".vlm-piece").first.click()
    page.mouse.move(0, 0)
    return page


def test_every_token_is_shown_in_its_turn_and_as_learned_or_read(conversation):
    page = conversation
    turns = page.locator(".vlm-role").all_inner_texts()
    assert turns == ["user", "assistant", "user", "assistant", "padding"]
    assert pieces(page) == [
        "<user>",
        "▸ <image> ×6",
        "is",
        "<b>it</b>",
        "?",
        "<assistant>",
        "yes",
        "<end>",
        "<user>",
        "why",
        "<assistant>",
        "red",
        "<end>",
        "▸ <pad> ×2",
    ]
    assert pieces(page, ".vlm-learned") == ["yes", "<end>", "red", "<end>"]
    assert pieces(page, ".vlm-of-image") == ["▸ <image> ×6"]
    hatched = page.locator(".vlm-piece.vlm-only-read").first.evaluate(
        "e => getComputedStyle(e).backgroundImage"
    )
    plain = page.locator(".vlm-piece.vlm-learned").first.evaluate("e => getComputedStyle(e).backgroundImage")
    assert "repeating-linear-gradient" in hatched and plain == "none"


def test_an_image_unfolds_and_folds_by_click_and_by_key(conversation):
    page = conversation
    page.get_by_role("button", name="tokens 1 to 6, 6 × <image>").click()
    assert pieces(page)[1:8] == ["▾ <image> ×6"] + ["<image>"] * 6
    page.keyboard.press("ArrowRight")
    assert text_of(page, ".vlm-labels .vlm-words") == "Token 1: <image>"
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    assert pieces(page)[1:3] == ["▸ <image> ×6", "is"]
    assert page.evaluate("document.activeElement.ariaExpanded") == "false"
    page.keyboard.press("Enter")
    assert len(pieces(page)) == 14 + 6


def test_a_token_tells_what_its_position_has_to_predict(conversation):
    page = conversation
    page.mouse.move(0, 0)
    page.locator(".vlm-piece").first.focus()
    for key, token in [("ArrowRight", 1), ("ArrowRight", 7), ("End", 18), ("ArrowLeft", 17), ("Home", 0)]:
        page.keyboard.press(key)
        start = text_of(page, ".vlm-labels .vlm-words").replace("Tokens", "Token").split(":")[0].split(" ")[1]
        assert int(start) == token
    page.locator(".vlm-piece").nth(5).click()
    page.mouse.move(0, 0)
    assert facts(page, "labels") == [
        ["labels", "right", "off by one"],
        ["id and role", "8, assistant", "8, assistant"],
        ["learned", "no, only read", "yes, at position 9, after “?”"],
        ["its position predicts", "token 11, “yes”, id 41", "token 11, “yes”, id 41"],
    ]
    assert pieces(page, ".vlm-predicted") == ["yes"]
    page.locator(".vlm-piece").nth(7).hover()
    assert facts(page, "labels")[2:] == [
        ["learned", "yes, at position 11, after “yes”", "no, only read"],
        ["its position predicts", "nothing", "nothing"],
    ]
    page.mouse.move(0, 0)
    assert text_of(page, ".vlm-labels .vlm-words") == "Token 10: <assistant>"


def test_tokens_that_differ_between_two_masks_are_marked(conversation):
    page = conversation
    differ = ["<assistant>", "<end>", "<assistant>", "<end>"]
    expected = {"1": ["<assistant>", "yes", "<assistant>", "red"], "0": ["yes", "<end>", "red", "<end>"]}
    for labels, learned in expected.items():
        pick(page, "Labels", labels)
        page.wait_for_timeout(400)  # the kernel hears of the choice, and the pieces are drawn once more
        assert pieces(page, ".vlm-differs") == differ and pieces(page, ".vlm-learned") == learned
        mark = page.locator(".vlm-differs").first.evaluate("e => getComputedStyle(e, '::before').content")
        assert "≠" in mark
        warned = page.locator(".vlm-labels .vlm-warning").all_inner_texts()
        assert ("⚠ 2 × an answer has no learned end; the model would not learn to stop" in warned) == (
            labels == "1"
        )
    assert "learned in one set only: 4" in text_of(page, ".vlm-labels .vlm-legend")


def test_the_budget_has_the_right_widths_and_marks_what_is_too_much(conversation):
    page = conversation
    whole = page.locator(".vlm-budget").evaluate("e => e.clientWidth")
    width = {
        name: page.locator(f".vlm-budget .vlm-{name}").bounding_box()["width"] / whole * 18
        for name in ("of-image", "only-read", "learned", "over")
    }
    assert width == pytest.approx({"of-image": 6, "only-read": 8, "learned": 4, "over": 3}, abs=0.1)
    assert page.locator(".vlm-budget").get_attribute("aria-label") == (
        "18 tokens: 6 image (33 %), 8 only read (44 %), 4 learned (22 %) · 3 too many for a context of 15 · "
        "and 2 of padding"
    )
    pick(page, "Conversation", "1")
    assert page.locator(".vlm-over").count() == 0
    assert page.locator(".vlm-budget + div").inner_text().endswith("2 learned (40 %) · 10 free of 15")


def test_python_knows_the_chosen_token_and_can_set_it(conversation, lab):
    page = conversation
    page.locator(".vlm-piece").nth(6).click()
    page.wait_for_timeout(300)
    assert eval(lab.ask(page, "inspector.view")) == {"conversation": 0, "token": 11, "labels": 0}
    page.mouse.move(5, 5)  # what lies under the pointer is read instead of what is chosen
    lab.ask(page, "setattr(inspector, 'view', {'conversation': 1, 'token': 3, 'labels': 1})")
    page.wait_for_selector(".vlm-labels .vlm-words:text-is('Token 3: no')")
    assert page.locator(".vlm-labels select").first.input_value() == "1"


# ---- lens


def cell_at(page, side, cell):
    """Middle of a cell of the left (0) or right (1) picture on the screen."""
    canvas = page.locator(".vlm-lens .vlm-picture canvas").nth(side)
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    return box["x"] + (cell % 4 + 0.5) * box["width"] / 4, box["y"] + (cell // 4 + 0.5) * box["height"] / 2


def listed(page, side) -> list[str]:
    """Word and number of each row; the text of its parts, since the space between them is layout alone."""
    rows = page.locator(".vlm-near").nth(side).locator("> *")
    parts = "row => [...row.childNodes].map(part => part.textContent.trim()).filter(Boolean).join(' ')"
    return rows.evaluate_all(f"rows => rows.map({parts})")


def should_list(moment, cell) -> list[str]:
    return [f"<i>{moment}</i>{cell}-{place} {world['scores'][moment, cell, place]:.3f}" for place in range(3)]


def choose(page, left, right):
    pick(page, "Left", left)
    pick(page, "Right", right)
    page.mouse.move(0, 0)


def test_every_cell_shows_its_best_word_and_the_colour_of_its_score(page):
    choose(page, "1", "2")
    best = world["scores"][..., 0].astype(np.float32).astype(float)
    low = min(0.0, best.min())
    for side, moment in enumerate([1, 2]):
        names = page.locator(".vlm-names").nth(side).locator("> *").all_inner_texts()
        assert names == [f"<i>{moment}</i>{cell}-0" for cell in range(8)]
        grey = world["image"].astype(float) @ [0.299, 0.587, 0.114]
        under = world["image"] + 0.8 * (grey[..., None] - world["image"])  # where the slider opens
        over = colours((best[moment] - low) / (best.max() - low)).reshape(2, 4, 3).repeat(12, 0).repeat(12, 1)
        shown = pixels(page, f".vlm-pane:nth-child({side + 1}) .vlm-picture canvas")[..., :3]
        assert np.abs(shown - (under + 0.8 * 0.55 * (over - under))).max() <= 2


def test_the_list_is_that_of_the_chosen_cell_in_both_pictures(page):
    choose(page, "0", "2")
    page.mouse.click(*cell_at(page, 1, 6))
    page.mouse.move(0, 0)
    assert listed(page, 0) == should_list(0, 6) and listed(page, 1) == should_list(2, 6)
    page.locator(".vlm-lens .vlm-picture").first.focus()
    for key, cell in [("Up", 2), ("Up", 2), ("Right", 3), ("Right", 3), ("Down", 7), ("Left", 6)]:
        page.keyboard.press(f"Arrow{key}")
        assert listed(page, 1) == should_list(2, cell)
        place = f"Image token {cell}: row {cell // 4}, column {cell % 4}"
        assert text_of(page, ".vlm-lens .vlm-side .vlm-words") == place
    page.mouse.move(*cell_at(page, 0, 1))
    assert listed(page, 0) == should_list(0, 1) and listed(page, 1) == should_list(2, 1)
    page.mouse.move(0, 0)
    assert listed(page, 0) == should_list(0, 6)


def test_bars_are_as_long_as_the_scores(page):
    choose(page, "0", "2")
    scores = world["scores"][0, 6]
    high, low = world["scores"][..., 0].max(), min(0, world["scores"][..., 0].min())
    bars = page.locator(".vlm-near").first.locator(".vlm-filled")
    for place, score in enumerate(scores):
        share = bars.nth(place).evaluate("e => e.getBoundingClientRect().width / e.parentNode.clientWidth")
        assert share == pytest.approx(max(0, (score - low) / (high - low)), abs=0.02)


def test_one_picture_alone_and_the_overlay(page):
    choose(page, "0", "")
    assert page.locator(".vlm-lens .vlm-picture:visible").count() == 1
    slide(page, "Overlay", 0)
    assert np.array_equal(pixels(page, ".vlm-lens .vlm-picture canvas")[..., :3], world["image"])
    assert page.locator(".vlm-named:visible").count() == 0
    slide(page, "Overlay", 80)
    choose(page, "0", "2")
    assert page.locator(".vlm-lens .vlm-picture:visible").count() == 2


# ---- gradient flow


def parts(page):
    page.mouse.move(0, 0)
    return page.locator(".vlm-column")


def level(page, column, selector):
    """Where the upper end of a bar, or the line, stands on the scale, 0 to 1; None if there is none."""
    mark = column.locator(selector)
    if not mark.is_visible():
        return None
    return mark.evaluate("""e => {
        const [mine, all] = [e, e.parentNode].map(it => it.getBoundingClientRect());
        const y = e.className === 'vlm-reach' ? (mine.top + mine.bottom) / 2 : mine.top;
        return (all.bottom - y) / all.height }""")


def test_bars_and_lines_stand_on_one_logarithmic_scale(page):
    pick(page, "Bars", "gradient")
    columns = parts(page)
    bars = [level(page, columns.nth(i), ".vlm-height") for i in range(4)]
    lines = [level(page, columns.nth(i), ".vlm-reach") for i in range(4)]
    assert [bar is None for bar in bars] == [True, False, True, True]
    assert bars[1] == pytest.approx((np.log10(0.05) + 2) / 3, abs=0.01)  # from 0.01 to 10
    assert lines[0] is None
    assert lines[1:] == pytest.approx([(np.log10(value) + 2) / 3 for value in (0.02, 3, 0.4)], abs=0.01)
    assert page.locator(".vlm-ticks").inner_text().split() == ["10⁻²", "10⁻¹", "10⁰", "10¹"]


def test_frozen_parts_are_hatched_and_those_that_pass_on_say_so(page):
    pick(page, "Bars", "gradient")
    columns = parts(page)
    looks = [columns.nth(i).evaluate("e => getComputedStyle(e).backgroundImage") for i in range(4)]
    assert ["repeating-linear-gradient" in look for look in looks] == [True, False, True, False]
    for i, words in enumerate(
        [
            "<u>eye</u>: frozen",
            "projector: trained",
            "block 0: frozen, passes the gradient on",
            "head: 10 parameters trained",
        ]
    ):
        columns.nth(i).hover()
        assert text_of(page, ".vlm-flow .vlm-side .vlm-words") == words
    assert text_of(page, ".vlm-flow .vlm-warning") == "⚠ head: to be trained, but no gradient reaches it"


def test_parts_are_walked_by_keyboard_and_tell_their_numbers(page):
    columns = parts(page)
    columns.first.click()
    page.mouse.move(0, 0)
    for key, place in [
        ("ArrowRight", 1),
        ("ArrowRight", 2),
        ("End", 3),
        ("ArrowLeft", 2),
        ("Home", 0),
        ("ArrowLeft", 0),
        ("ArrowRight", 1),
    ]:
        page.keyboard.press(key)
        assert page.evaluate("document.activeElement.ariaLabel").startswith(world["names"][place])
    assert facts(page, "flow") == [
        ["parameters", "200"],
        ["gradient norm", "0.05"],
        ["weight norm", "10"],
        ["gradient / weight", "0.005"],
        ["gradient that reaches its output", "0.02"],
    ]


def test_other_measures_have_bars_for_frozen_parts_too(page):
    columns = parts(page)
    pick(page, "Bars", "weight")
    heights = [level(page, columns.nth(i), ".vlm-height") for i in range(4)]
    assert heights == pytest.approx([np.log10(value) / 2 for value in (70, 10, 20, 2)], abs=0.01)
    assert page.locator(".vlm-reach:visible").count() == 0
    pick(page, "Bars", "gradient")


def test_python_knows_the_part_and_can_set_it(page, lab):
    parts(page).nth(3).click()
    page.mouse.move(0, 0)
    page.wait_for_timeout(300)
    assert eval(lab.ask(page, "flow.view")) == {"part": 3, "measure": "gradient"}
    lab.ask(page, "setattr(flow, 'view', {'part': 2, 'measure': 'ratio'})")
    page.wait_for_selector(
        ".vlm-flow .vlm-side .vlm-words:text-is('block 0: frozen, passes the gradient on')"
    )
    assert page.locator(".vlm-flow select").input_value() == "ratio"
    pick(page, "Bars", "gradient")


# ---- all three


def test_every_label_stays_text(page):
    pick(page, "Conversation", "0")
    assert (
        page.locator(".vlm :is(i, u, s, b) :is(i, u, s, b), .vlm-piece *, .vlm-named *, .vlm-foot u").count()
        == 0
    )
    assert page.locator(".vlm-foot .vlm-axis").first.inner_text() == "<u>eye</u>"
    assert page.locator("option", has_text="<b>between</b>").count() == 2


@pytest.mark.parametrize(
    ("widget", "names"),
    [
        ("labels", ["Conversation", "Labels", "token 0, <user>"]),
        ("lens", ["Left", "Right", "Image, left", "Image, right", "Overlay"]),
        ("flow", ["Bars", ""]),
    ],
)
def test_every_control_is_reached_by_tab_and_has_a_name(page, widget, names):
    pick(page, "Conversation", "0")
    page.locator(".vlm-piece").first.click()
    page.mouse.move(0, 0)
    page.locator(f".vlm-{widget} select").first.focus()
    for name in names:
        reached = page.evaluate("""() => { const it = document.activeElement;
            return it.closest('.vlm') && (it.ariaLabel || (it.closest('label') ?? it).textContent) }""")
        assert reached.startswith(name)
        page.keyboard.press("Tab")


@pytest.mark.parametrize("theme", ["Light", "Dark"])
def test_text_reads_on_the_theme(page, theme):
    page.evaluate(
        f"window.jupyterapp.commands.execute('apputils:change-theme', {{theme: 'JupyterLab {theme}'}})"
    )
    page.wait_for_selector(f"body[data-jp-theme-name='JupyterLab {theme}']", state="attached")
    for part in (
        "piece.vlm-only-read",
        "piece.vlm-learned",
        "role",
        "labels .vlm-facts b",
        "labels .vlm-legend",
        "near-word b",
        "lens .vlm-guess",
        "foot .vlm-axis",
        "ticks > span",
        "flow .vlm-facts b",
    ):
        ink, paper = page.locator(f".vlm-{part}").first.evaluate(INK)
        light, dark = sorted((luminance(ink), luminance(paper)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (part, ink, paper)
    ink, paper = page.locator(".vlm-piece.vlm-of-image").first.evaluate(
        "e => [getComputedStyle(e).color, getComputedStyle(e).backgroundColor]"
    )
    light, dark = sorted((luminance(ink), luminance(paper)), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 4.5


def test_the_pictures_beside_live_views_are_there_but_hidden(page):
    stills = page.locator("img.jp-mod-unconfined")
    assert stills.count() == 3 and not any(stills.nth(i).is_visible() for i in range(3))
