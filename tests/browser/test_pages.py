"""The page reader in a real JupyterLab: what a page costs, what the model says, and where it points."""

import ast

import numpy as np
import pytest
from read_book import barriers

from tests.browser.test_explorer import slide
from tests.browser.test_looks import pixels, text_of
from tests.browser.test_widgets import INK, luminance
from tests.widgets.test_pages import CIRCLE, PICTURES, STAR
from vlmcourse.families.sights import see_page

pytestmark = pytest.mark.browser

WORLD = """
from tests.widgets.test_pages import BATCH, Model
from vlmcourse.families.sights import see_page
from vlmcourse.widgets.pages import PageReader
model = Model("<b>1</b>")
"""
SHOW = "reader = PageReader(see_page, model, BATCH)\nreader"
ROOT, IDLE = ".vlm-reader", ".vlm-reader[aria-busy=false]"
PAGE, SEEN, SMALL = (
    f"{ROOT} {where} canvas" for where in (".vlm-read", ".vlm-sight", ".vlm-sight + .vlm-sight")
)
WHERE = "Where is the {}? Answer with a box."


@pytest.fixture(scope="module", params=["Light", "Dark"])
def page(lab, request):
    page = lab.open(WORLD, SHOW, name=f"pages-{request.param}", theme=request.param)
    page.theme = request.param
    page.wait_for_selector(IDLE)
    yield page
    assert page.complaints == [] and page.outside == []
    lab.close(page)


@pytest.fixture
def reader(page, lab):
    """The first page as it is, its first question."""
    lab.ask(page, "setattr(model, 'text', '<b>1</b>')")
    lab.ask(page, "reader.change(number=0, way='native', budget=256, question='How many circles are there?')")
    page.mouse.move(0, 0)
    page.evaluate("document.activeElement.blur()")
    settled(page, "page 1 of 3", "32 tokens, no pixel is lost")
    return page


def settled(page, number=None, cost=None):
    """Until the newest state was answered, and this page and this cost stand there."""
    page.wait_for_function(
        """([root, number, cost]) => { const it = document.querySelector(root);
        const says = (where, words) => words === null || it.querySelector(where).textContent === words;
        const idle = it.getAttribute('aria-busy') === 'false';
        return idle && says('.vlm-where', number) && says('.vlm-words', cost) }""",
        arg=[ROOT, number, cost],
    )


def use(page, name):
    page.locator(ROOT).get_by_role("button", name=name, exact=True).click()


def state(page, lab, field):
    settled(page)
    return ast.literal_eval(lab.ask(page, f"reader.state[{field!r}]"))


def shares(page, box, canvas) -> list[float]:
    """Left, top, right, bottom of a frame, as shares of the picture below it."""
    inner, outer = (page.locator(it).first.bounding_box() for it in (box, canvas))
    left, top = (inner["x"] - outer["x"]) / outer["width"], (inner["y"] - outer["y"]) / outer["height"]
    return [left, top, left + inner["width"] / outer["width"], top + inner["height"] / outer["height"]]


def framed(box, size=(64, 128), zoom=3) -> list[float]:
    """The shares of a box on a page, with the line of 3 pixels around it."""
    height, width = size
    left, top, right, bottom = box
    room = 3 / zoom
    return [(left - room) / width, (top - room) / height, (right + room) / width, (bottom + room) / height]


def test_the_page_and_what_the_model_sees_of_it_are_drawn_crisp(reader):
    page = reader
    for canvas in (PAGE, SEEN):
        assert np.array_equal(pixels(page, canvas)[..., :3], PICTURES[0])
        box = page.locator(canvas).first.bounding_box()
        assert (box["width"], box["height"]) == (3 * 128, 3 * 64)
        assert page.locator(canvas).first.evaluate("e => getComputedStyle(e).imageRendering") == "pixelated"
    assert not page.locator(SMALL).is_visible()
    assert text_of(page, f"{ROOT} .vlm-sight .vlm-axis") == "4 × 8 tokens"
    lattice = page.locator(f"{ROOT} .vlm-lattice").first
    assert lattice.evaluate("e => e.style.backgroundSize") == "12.5% 25%"
    page.locator(ROOT).get_by_label("Grid").uncheck()
    assert not lattice.is_visible()
    page.locator(ROOT).get_by_label("Grid").check()


def test_the_budget_and_the_way_change_picture_cost_and_answer(reader, lab):
    page = reader
    lab.ask(page, "model.asked.clear()")
    slide(page, "Budget", 0)
    settled(page, None, "15 tokens, 47 % of the pixels are left")
    assert text_of(page, f"{ROOT} output") == "at most 16 tokens"
    assert page.locator(f"{ROOT} input[type=range]").evaluate("e => e.ariaValueText") == "at most 16 tokens"
    assert np.array_equal(pixels(page, SEEN)[..., :3], see_page(PICTURES[0], "native", 16).pieces[0])
    assert (
        text_of(page, f"{ROOT} .vlm-sights .vlm-reading")
        == "64 × 128 pixels become 48 × 80, at its own aspect."
    )
    use(page, "squash")
    settled(page, None, "16 tokens, 50 % of the pixels are left")
    assert pixels(page, SEEN).shape == (64, 64, 4)
    assert page.locator(f"{ROOT} [aria-pressed=true]").all_inner_texts() == ["squash"]
    asked = "('How many circles are there?', '{}', {})"
    assert lab.ask(page, "str([one[1:] for one in model.asked])") == repr(
        f"[{asked.format('native', 16)}, {asked.format('squash', 16)}]"
    )


def test_tiles_stand_together_with_thick_lines_and_the_thumbnail_apart(reader):
    page = reader
    slide(page, "Budget", 2)
    use(page, "tiles")
    settled(page, None, "48 tokens, no pixel is lost")
    assert np.array_equal(pixels(page, SEEN)[..., :3], PICTURES[0])
    assert np.array_equal(pixels(page, SMALL)[..., :3], see_page(PICTURES[0], "squash", 16).pieces[0])
    titles = page.locator(f"{ROOT} .vlm-sight .vlm-axis").all_inner_texts()
    assert titles == ["1 × 2 tiles of 4 × 4 tokens", "and a thumbnail of 4 × 4 tokens, which it reads first"]
    tiles = page.locator(f"{ROOT} .vlm-tile-lines")
    assert [tiles.nth(n).is_visible() for n in range(2)] == [True, False]
    assert tiles.first.evaluate("e => e.style.backgroundSize") == "50% 100%"


def test_an_answer_says_how_likely_it_is_and_whether_it_is_right(reader, lab):
    page = reader
    assert text_of(page, f"{ROOT} .vlm-answer") == "<b>1</b>"
    assert text_of(page, f"{ROOT} .vlm-mark") == "✗" and "right would be: 1" in text_of(page, ROOT)
    assert text_of(page, f"{ROOT} .vlm-sure") == "how likely 25 %"
    assert page.locator(f"{ROOT} .vlm-filled").evaluate("e => e.style.width") == "25%"
    for frame, canvas in (
        (f"{ROOT} .vlm-read .vlm-picture .vlm-frame", PAGE),
        (f"{ROOT} .vlm-sight .vlm-frame", SEEN),
    ):
        assert shares(page, frame, canvas) == pytest.approx(framed(CIRCLE), abs=0.01)
    page.locator(ROOT).get_by_label("Frame what one must see").uncheck()
    assert page.locator(f"{ROOT} .vlm-picture .vlm-frame").count() == 0
    page.locator(ROOT).get_by_label("Frame what one must see").check()
    lab.ask(page, "setattr(model, 'text', 'star')")
    page.locator(f"{ROOT} select").select_option("What shape is the pink thing?")
    page.wait_for_selector(f"{ROOT} .vlm-right:text-is('✓')")
    assert page.locator(f"{ROOT} input[type=search]").input_value() == "What shape is the pink thing?"


def test_a_click_asks_where_the_nearest_thing_is_and_draws_the_told_box(reader, lab):
    page = reader
    lab.ask(page, "setattr(model, 'text', '[781, 625, 820, 781]')")  # the left half of the star
    box = page.locator(PAGE).bounding_box()
    page.mouse.click(box["x"] + 0.7 * box["width"], box["y"] + 0.9 * box["height"])
    page.wait_for_selector(f"{ROOT} .vlm-read .vlm-picture .vlm-box:not(.vlm-sample)")
    settled(page)
    point = state(page, lab, "point")
    assert point == pytest.approx([0.7 * 128, 0.9 * 64], abs=0.5)
    assert lab.ask(page, "model.asked[-1][1]") == repr(WHERE.format("pink star"))
    assert page.locator(f"{ROOT} input[type=search]").input_value() == WHERE.format("pink star")
    assert page.locator(f"{ROOT} select").input_value() == WHERE.format("pink star")
    told = [100.032, 40.032, 105.024, 50.016]
    assert shares(page, f"{ROOT} .vlm-read .vlm-picture .vlm-box", PAGE) == pytest.approx(
        framed(told), abs=0.01
    )
    assert shares(page, f"{ROOT} .vlm-read .vlm-picture .vlm-frame", PAGE) == pytest.approx(
        framed(STAR), abs=0.01
    )
    assert "IoU 0.50 with the true box; missed, 0.5 is needed" in text_of(page, ROOT)
    slide(page, "Budget", 0)  # the same is asked of less
    settled(page, None, "15 tokens, 47 % of the pixels are left")
    assert lab.ask(page, "model.asked[-1][1:]") == repr((WHERE.format("pink star"), "native", 16))


def test_the_keyboard_points_as_well(reader, lab):
    page = reader
    page.locator(f"{ROOT} .vlm-read .vlm-picture").focus()
    marker = page.locator(f"{ROOT} .vlm-pointer")
    walked = f"{ROOT} .vlm-read .vlm-reading"
    page.keyboard.press("Home")
    assert marker.is_visible() and text_of(page, walked) == "the red circle, 1 of 2: Enter asks where it is"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    assert text_of(page, walked) == "the pink star, 2 of 2: Enter asks where it is"
    assert shares(page, f"{ROOT} .vlm-pointer", PAGE) == pytest.approx(framed(STAR), abs=0.01)
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelector('.vlm-reader select').value.includes('pink star')")
    assert state(page, lab, "point") == [105, 45]
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Space")
    page.wait_for_function("document.querySelector('.vlm-reader select').value.includes('red circle')")
    page.keyboard.press("Tab")
    assert not marker.is_visible() and "Click a thing" in text_of(page, walked)


def test_pages_are_turned_in_a_ring_and_asked_the_same_if_they_can_be(reader, lab):
    page = reader
    use(page, "Previous page")
    settled(page, "page 3 of 3", "16 tokens, no pixel is lost")
    assert state(page, lab, "question") == "How many circles are there?"
    assert np.array_equal(pixels(page, PAGE)[..., :3], PICTURES[2])
    assert text_of(page, f"{ROOT} .vlm-read .vlm-reading") == "Nothing on this page has a name to point at."
    box = page.locator(PAGE).bounding_box()
    page.mouse.click(box["x"] + 9, box["y"] + 9)
    problem = page.locator(f"{ROOT} .vlm-warning")
    problem.wait_for(state="visible")
    assert "nothing on this page has a name to point at; ask in words" in problem.inner_text()
    use(page, "Previous page")
    settled(page, "page 2 of 3", "32 tokens, no pixel is lost")
    assert state(page, lab, "question") == "What is written?" and state(page, lab, "point") is None
    options = page.locator(f"{ROOT} select option").all_inner_texts()
    assert options == ["in your own words", "What is written?", WHERE.format("word")]
    assert not problem.is_visible() and page.locator(PAGE).bounding_box()["height"] == 3 * 128
    use(page, "Next page")
    use(page, "Next page")
    settled(page, "page 1 of 3")


def test_a_question_is_typed_and_an_error_is_one_line_and_nothing_is_lost(reader):
    page = reader
    line, problem = page.locator(f"{ROOT} input[type=search]"), page.locator(f"{ROOT} .vlm-warning")
    line.fill("Why so?")
    page.wait_for_function("/nobody knows/.test(document.querySelector('.vlm-reader').innerText)")
    assert page.locator(f"{ROOT} select").input_value() == "" and text_of(page, f"{ROOT} .vlm-mark") == ""
    line.fill("fail now")
    problem.wait_for(state="visible")
    assert problem.inner_text() == "⚠ RuntimeError: out of <b>memory</b>"
    assert text_of(page, f"{ROOT} .vlm-answer") == "<b>1</b>"
    line.fill("How many circles are there?")
    problem.wait_for(state="hidden")


def test_of_many_moves_of_the_slider_the_last_one_wins(reader, lab):
    page = reader
    for place in (0, 1, 2, 3, 4, 5, 1, 0):
        slide(page, "Budget", place)
    settled(page, None, "15 tokens, 47 % of the pixels are left")
    assert state(page, lab, "budget") == 16


# ---- looks


def test_text_reads_on_the_theme_and_stays_text(page):
    assert page.locator(f"{ROOT} .vlm-answer *, {ROOT} .vlm-warning *").count() == 0
    ink, paper = page.locator(ROOT).evaluate(INK)
    assert (luminance(ink) < luminance(paper)) == (page.theme == "Light")


@pytest.mark.parametrize("width", [1200, 390])
@pytest.mark.parametrize("view", [("native", 0, 256), ("tiles", 0, 64), ("squash", 1, 512)])
def test_nothing_sticks_out_and_no_barrier_is_serious(reader, lab, width, view):
    page, (way, number, budget) = reader, view
    size = page.viewport_size
    lab.ask(page, f"reader.change(way={way!r}, number={number}, budget={budget})")
    settled(page, f"page {number + 1} of 3")
    try:
        page.set_viewport_size({"width": width, "height": 844})
        page.wait_for_timeout(100)
        out = page.locator(ROOT).evaluate("""root => {
            const right = root.getBoundingClientRect().right + 1;
            return [...root.querySelectorAll('*')].filter(it => it.getBoundingClientRect().right > right)
                .map(it => it.className) }""")
        assert out == [] and barriers(page, ROOT) == []
    finally:
        page.set_viewport_size(size)


def test_every_control_has_a_name_and_shows_its_focus(reader):
    controls = "[tabindex='0'], button, select, input"
    widget = reader.locator(ROOT)
    names = widget.locator(controls).evaluate_all(
        "all => all.map(it => it.ariaLabel || (it.closest('label') ?? it).textContent)"
    )
    assert len(names) == 11 and all(names)
    widget.locator("button").first.focus()
    for _ in range(4):
        reader.keyboard.press("Tab")
        assert reader.evaluate("getComputedStyle(document.activeElement).outlineStyle") in ("solid", "auto")


def test_without_a_kernel_the_last_answer_stays(lab):
    page = lab.open(WORLD, SHOW, name="pages-gone")
    page.wait_for_selector(IDLE)
    assert not page.locator("img.jp-mod-unconfined").is_visible()
    page.evaluate("window.jupyterapp.serviceManager.sessions.shutdownAll()")
    page.wait_for_timeout(500)
    use(page, "Next page")
    page.wait_for_function(
        "/kernel is gone|if nothing comes/.test(document.querySelector('.vlm-reader').innerText)",
        timeout=8000,
    )
    assert np.array_equal(pixels(page, PAGE)[..., :3], PICTURES[1])
    assert text_of(page, f"{ROOT} .vlm-answer") == "<b>1</b>"
    assert page.locator(f"{ROOT} .vlm-read .vlm-picture .vlm-frame").count() == 0  # it is about another page
    page.context.close()
