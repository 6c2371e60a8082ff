"""Live occlusion and share map in a real JupyterLab: they show what the model says of what they show it."""

import ast
import os

import numpy as np
import pytest

from tests.browser.test_explorer import pick
from tests.browser.test_looks import pixels, text_of
from tests.browser.test_widgets import INK, luminance

pytestmark = pytest.mark.browser

WORLD = """
import time
import numpy as np
from vlmcourse.widgets.occlusion import LiveOcclusion
from vlmcourse.widgets.shares import ShareMap

image = np.full((32, 48, 3), 230, np.uint8)
image[8:24, 8:16] = 200, 30, 40                               # in patches 7 and 13 of 4 × 6
asked = []
def rivals(image, question):
    if "fail" in question:
        raise RuntimeError("out of <b>memory</b>\\nsecond line")
    def chances(images):
        time.sleep(0.05)
        asked.append(len(images))
        ink = (images != 230).any(-1).mean((1, 2)) * 12
        return np.stack([0.9 * ink, 0.05 + 0.8 * (1 - ink)], axis=1)
    return ["<b>red</b>", "no"], chances

random = np.random.default_rng(5)
weights = [random.random((2, 2, tokens, 24)) / 40 for tokens in (5, 3)]   # (layer, head, token, patch)
shares = [w.sum(-1).mean(1) for w in weights]
tokens = [["<user>", "what", "<i>hue</i>", "?", "<assistant>"], ["<user>", "why", "?"]]
"""
BOARD = """board = LiveOcclusion(rivals, image, ["What colour?", "Is there?"], boxes=[[(8, 8, 16, 24)], []],
                      right=["<b>red</b>", "no"])
board"""
SHARES = """sharing = ShareMap(np.stack([image, 255 - image]), shares, tokens, ["What <i>hue</i>?", "Why?"],
                   weights=weights, grid=(4, 6))
sharing"""
UPDATE = """ShareMap(image[None], shares[:1], tokens[:1], ["What?"], kind="update")"""
world: dict = {}
exec(WORLD, world)
IDLE, ROOT = ".vlm-occlusion[aria-busy=false]", ".vlm-occlusion"
PICTURE = ".vlm-occlusion .vlm-picture canvas"
LOOKED = ".vlm-shares .vlm-side .vlm-picture canvas"


@pytest.fixture(scope="module", params=["Light", "Dark"])
def page(lab, request):
    page = lab.open(WORLD, BOARD, SHARES, UPDATE, name=f"occlusion-{request.param}", theme=request.param)
    page.theme = request.param
    page.wait_for_selector(IDLE)
    page.wait_for_selector(".vlm-shares")
    yield page
    assert page.complaints == [] and page.outside == []
    lab.close(page)


@pytest.fixture
def board(page, lab):
    """Nothing covered, the first question."""
    lab.ask(page, "board.change(covered=[], map=False, question='What colour?')")
    page.mouse.move(0, 0)
    settled(page, "0 of 24 patches covered")
    return page


def settled(page, status):
    page.wait_for_function(
        "([root, words]) => document.querySelector(root).getAttribute('aria-busy') === 'false' && "
        "document.querySelector(`${root} .vlm-words`).textContent === words",
        arg=[ROOT, status],
    )


def covered(page, lab) -> list[int]:
    page.wait_for_selector(IDLE)
    return ast.literal_eval(lab.ask(page, "board.state['covered']"))


def spot(page, cell, selector=PICTURE) -> tuple[float, float]:
    picture = page.locator(selector)
    picture.scroll_into_view_if_needed()
    box = picture.bounding_box()
    row, column = divmod(cell, 6)
    return box["x"] + (column + 0.5) * box["width"] / 6, box["y"] + (row + 0.5) * box["height"] / 4


def rows(page) -> list[str]:
    return [" ".join(text.split()) for text in page.locator(f"{ROOT} .vlm-chance").all_inner_texts()]


def widths(page) -> list[float]:
    return page.locator(f"{ROOT} .vlm-filled").evaluate_all("all => all.map(e => parseFloat(e.style.width))")


def use(page, name):
    page.locator(ROOT).get_by_role("button", name=name, exact=True).click()


def expected(page, patches) -> np.ndarray:
    image = world["image"].copy()
    for patch in patches:
        row, column = divmod(patch, 6)
        image[8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = 230
    return image


# ---- what is covered is what is asked about


def test_a_click_covers_a_patch_and_the_bars_move_and_another_takes_it_back(board, lab):
    page = board
    assert rows(page) == ["<b>red</b> ✓ 90 %", "no 5.0 %", "anything else 5.0 %"]
    page.mouse.click(*spot(page, 13))
    settled(page, "1 of 24 patches covered")
    assert covered(page, lab) == [13]
    assert rows(page) == ["<b>red</b> ✓ 45 %", "no 45 %", "anything else 10 %"]
    assert widths(page) == pytest.approx([45, 45, 10])
    before = page.locator(f"{ROOT} .vlm-before").evaluate_all("all => all.map(e => parseFloat(e.style.left))")
    assert before == pytest.approx([90, 5, 5])
    assert np.array_equal(pixels(page, PICTURE)[..., :3], expected(page, [13]))
    hatched = page.locator(f"{ROOT} .vlm-covered")
    assert hatched.count() == 1
    assert "repeating-linear-gradient" in hatched.evaluate("e => getComputedStyle(e).backgroundImage")
    page.mouse.click(*spot(page, 13))
    settled(page, "0 of 24 patches covered")
    assert covered(page, lab) == [] and rows(page)[0] == "<b>red</b> ✓ 90 %"


def test_a_sweep_covers_all_on_its_way_and_another_uncovers_them(board, lab):
    page = board
    for after in ([6, 7, 8, 9], []):
        page.mouse.move(*spot(page, 6))
        page.mouse.down()
        page.mouse.move(*spot(page, 9), steps=12)
        page.mouse.up()
        settled(page, f"{len(after)} of 24 patches covered")
        assert covered(page, lab) == after


def test_the_keyboard_does_what_the_pointer_does(board, lab):
    page = board
    area = page.locator(f"{ROOT} .vlm-picture")
    area.focus()
    marker = page.locator(f"{ROOT} .vlm-box")
    assert marker.is_visible()
    for key in ("Home", "ArrowUp", "ArrowLeft", "ArrowLeft", *["ArrowUp"] * 4, *["ArrowLeft"] * 6):
        page.keyboard.press(key)
    for key in ("ArrowRight", "ArrowDown", "Space", "ArrowDown", "Enter"):
        page.keyboard.press(key)
    settled(page, "2 of 24 patches covered")
    assert covered(page, lab) == [7, 13]
    assert text_of(page, f"{ROOT} .vlm-reading") == "row 2, column 1: covered"
    page.keyboard.press("Space")
    settled(page, "1 of 24 patches covered")
    assert covered(page, lab) == [7]
    page.keyboard.press("Tab")
    assert not marker.is_visible()


def test_buttons_cover_the_evidence_and_all_but_it_and_nothing(board, lab):
    page = board
    changed = page.locator(f"{ROOT} .vlm-side .vlm-reading").first
    use(page, "Cover the evidence")
    settled(page, "2 of 24 patches covered")
    assert covered(page, lab) == [7, 13]
    assert rows(page) == ["<b>red</b> ✓ < 0.1 %", "no 85 %", "anything else 15 %"]
    assert text_of(page, f"{ROOT} .vlm-answer") == "no 85 %"
    assert "It changed its mind: with nothing covered, <b>red</b> is likeliest." in changed.inner_text()
    use(page, "Cover all but the evidence")
    settled(page, "22 of 24 patches covered")
    assert covered(page, lab) == [n for n in range(24) if n not in (7, 13)]
    assert rows(page)[0] == "<b>red</b> ✓ 90 %"
    assert changed.inner_text() == "The likeliest answer is the same as with nothing covered."
    use(page, "Uncover all")
    settled(page, "0 of 24 patches covered")


def test_another_question_is_chosen_or_typed_and_what_is_covered_stays(board, lab):
    page = board
    page.mouse.click(*spot(page, 7))
    settled(page, "1 of 24 patches covered")
    use(page, "Is there?")
    page.wait_for_selector(IDLE)
    assert ast.literal_eval(lab.ask(page, "[board.state['question'], board.state['covered']]")) == [
        "Is there?",
        [7],
    ]
    only = page.locator(ROOT).get_by_role("button", name="Cover the evidence", exact=True)
    assert only.is_disabled() and "not known" in only.get_attribute("title")
    page.locator(f"{ROOT} input[type=search]").fill("Where is it?")
    page.wait_for_function("document.querySelector('.vlm-occlusion').getAttribute('aria-busy') === 'true'")
    page.wait_for_selector(IDLE)
    assert lab.ask(page, "board.answer['question']") == "'Where is it?'"
    assert rows(page)[0] == "<b>red</b> 45 %"  # nobody knows what is right


def test_an_error_is_one_line_inside_the_widget_and_nothing_is_lost(board, lab):
    page = board
    page.mouse.click(*spot(page, 7))
    settled(page, "1 of 24 patches covered")
    shown = rows(page)
    page.locator(f"{ROOT} input[type=search]").fill("fail now")
    problem = page.locator(f"{ROOT} .vlm-warning")
    problem.wait_for(state="visible")
    assert problem.inner_text() == "⚠ RuntimeError: out of <b>memory</b>"
    assert rows(page) == shown and covered(page, lab) == [7]
    use(page, "What colour?")
    problem.wait_for(state="hidden")
    page.mouse.click(*spot(page, 13))
    settled(page, "2 of 24 patches covered")
    assert covered(page, lab) == [7, 13]


def test_the_map_of_single_patches_is_laid_over_and_read(board, lab):
    page = board
    plain = pixels(page, PICTURE)
    page.locator(ROOT).get_by_label("Occlusion map").check()
    page.wait_for_selector(IDLE)
    assert not np.array_equal(pixels(page, PICTURE), plain)
    page.mouse.move(*spot(page, 7))
    assert (
        text_of(page, f"{ROOT} .vlm-reading")
        == "row 1, column 1: shown; covered alone, <b>red</b> falls by 0.450"
    )
    page.mouse.move(*spot(page, 0))
    assert (
        text_of(page, f"{ROOT} .vlm-reading")
        == "row 0, column 0: shown; covered alone, <b>red</b> falls by 0"
    )
    assert page.locator(f"{ROOT} .vlm-scale").is_visible()
    page.locator(ROOT).get_by_label("Occlusion map").uncheck()
    page.wait_for_selector(IDLE)
    assert (
        np.array_equal(pixels(page, PICTURE), plain) and not page.locator(f"{ROOT} .vlm-scale").is_visible()
    )


def test_the_evidence_is_framed_on_demand(board):
    page, frame = board, ".vlm-occlusion .vlm-frame"
    assert page.locator(frame).count() == 0
    page.locator(ROOT).get_by_label("Frame the evidence").check()
    box, picture = (page.locator(it).bounding_box() for it in (frame, PICTURE))
    parts = [(box["x"] - picture["x"]) / picture["width"], (box["y"] - picture["y"]) / picture["height"]]
    parts += [box["width"] / picture["width"], box["height"] / picture["height"]]
    assert parts == pytest.approx([8 / 48, 8 / 32, 8 / 48, 16 / 32], abs=0.01)
    page.locator(ROOT).get_by_label("Frame the evidence").uncheck()


def test_of_many_clicks_the_latest_state_wins_and_none_queue(board, lab):
    page = board
    before = int(lab.ask(page, "len(asked)"))
    places = [spot(page, cell) for cell in range(24)]
    for place in places:
        page.mouse.click(*place)
    settled(page, "24 of 24 patches covered")
    assert covered(page, lab) == list(range(24))
    assert 1 < int(lab.ask(page, "len(asked)")) - before < 24
    assert rows(page)[1] == "no 85 %"


def test_python_sets_and_the_page_follows(board, lab):
    page = board
    lab.ask(page, "board.change(covered=[0, 23], question='Is there?')")
    settled(page, "2 of 24 patches covered")
    assert page.locator(f"{ROOT} input[type=search]").input_value() == "Is there?"
    assert np.array_equal(pixels(page, PICTURE)[..., :3], expected(page, [0, 23]))


VLM = """
from vlmcourse.diagnostics.checkup import scene_exam
from vlmcourse.diagnostics.occlusion import rivals_for
from vlmcourse.families.making import load_speaker
from vlmcourse.widgets.occlusion import LiveOcclusion
speaker, exam = load_speaker("nano-vlm")[0], scene_exam(8)
one = exam.asked[2]
board = LiveOcclusion(rivals_for(speaker), exam.images[2], [one.text], boxes=[one.boxes], right=[one.answer])
board
"""
TIMED = """async ([root, x, y]) => {
    const area = document.querySelector(`${root} .vlm-picture`);
    const widget = document.querySelector(root);
    const at = { clientX: x, clientY: y, bubbles: true, pointerId: 1, button: 0 };
    area.setPointerCapture = () => {};
    const start = performance.now();
    area.dispatchEvent(new PointerEvent('pointerdown', at));
    area.dispatchEvent(new PointerEvent('pointerup', at));
    while (widget.getAttribute('aria-busy') !== 'false') await new Promise(requestAnimationFrame);
    return performance.now() - start }"""


@pytest.mark.skipif("VLM_LAB_PYTHON" in os.environ, reason="that Python has no torch")
def test_from_click_to_bars_the_nano_vlm_takes_half_a_second(lab):
    page = lab.open(VLM, name="occlusion-vlm")
    page.wait_for_selector(IDLE)
    box = page.locator(PICTURE).bounding_box()
    times = []
    for cell in range(60):
        row, column = divmod(cell, 8)
        place = [box["x"] + (column + 0.5) * box["width"] / 8, box["y"] + (row + 0.5) * box["height"] / 8]
        times.append(page.evaluate(TIMED, [ROOT, *place]))
    assert int(lab.ask(page, "len(board.state['covered'])")) == 60
    print(f"\nnano-vlm: median {np.median(times):.0f} ms, p95 {np.percentile(times, 95):.0f} ms")
    assert np.percentile(times, 95) <= 500
    lab.close(page)


# ---- the share map


def sentence(page) -> str:
    return text_of(page, ".vlm-shares .vlm-words")


@pytest.fixture
def sharing(page, lab):
    lab.ask(page, "setattr(sharing, 'view', {'question': 0, 'layer': 1, 'token': 4, 'head': 'mean'})")
    page.mouse.move(0, 0)
    page.evaluate("document.activeElement.blur()")
    page.wait_for_function(
        "document.querySelector('.vlm-shares .vlm-words').textContent.startsWith('Layer 1, token 4 ')"
    )
    return page


def told(layer, token, number=0) -> str:
    share, name = world["shares"][number][layer, token], world["tokens"][number][token]
    return f"Layer {layer}, token {token} “{name}”: {100 * share:.0f} % of its attention goes to the image"


def cell_of_map(page, layer, token, tokens=5) -> tuple[float, float]:
    canvas = page.locator(".vlm-shares").first.locator(".vlm-cells .vlm-picture canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    return box["x"] + (token + 0.5) * box["width"] / tokens, box["y"] + (layer + 0.5) * box["height"] / 2


def test_a_cell_that_is_pointed_at_says_its_share_and_shows_where_it_looks(sharing):
    page = sharing
    assert sentence(page) == told(1, 4) + "."
    before = pixels(page, LOOKED)
    page.mouse.move(*cell_of_map(page, 0, 2))
    assert sentence(page) == told(0, 2) + "."
    assert not np.array_equal(pixels(page, LOOKED), before)
    mean = world["weights"][0][0, :, 2].mean(0)
    row, column = divmod(int(mean.argmax()), 6)
    assert (
        text_of(page, ".vlm-shares .vlm-reading") == f"most at row {row}, column {column}: {mean.max():.3g}"
    )
    page.mouse.move(0, 0)
    assert sentence(page) == told(1, 4) + "."
    assert np.array_equal(pixels(page, LOOKED), before)


def test_cells_and_patches_are_read_by_key(sharing, lab):
    page = sharing
    page.locator(".vlm-shares .vlm-cells .vlm-picture").first.focus()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowLeft")
    assert sentence(page) == told(0, 3) + "."
    page.wait_for_timeout(200)
    assert ast.literal_eval(lab.ask(page, "[sharing.view['layer'], sharing.view['token']]")) == [0, 3]
    page.locator(".vlm-shares .vlm-side .vlm-picture").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    weight = world["weights"][0][0, :, 3].mean(0)[6]
    words = text_of(page, ".vlm-shares .vlm-side .vlm-reading")
    assert words.startswith("row 1, column 0: ")
    assert float(words.split(": ")[1]) == pytest.approx(weight, abs=world["weights"][0].max() / 255)


def test_a_head_shows_its_own_weights_and_share(sharing):
    page = sharing
    pick(page, "Head", "1")
    own = world["weights"][0][1, 1, 4]
    assert sentence(page) == f"{told(1, 4)}; in head 1 {100 * own.sum():.0f} %."
    row, column = divmod(int(own.argmax()), 6)
    assert text_of(page, ".vlm-shares .vlm-reading").startswith(f"most at row {row}, column {column}: ")
    pick(page, "Head", "mean")


def test_another_question_has_its_own_tokens_and_picture(sharing):
    page = sharing
    before = pixels(page, LOOKED)
    page.locator(".vlm-shares select").first.select_option("1")
    assert sentence(page) == told(1, 2, 1) + "."
    names = page.locator(".vlm-shares").first.locator(".vlm-columns .vlm-axis").all_inner_texts()
    assert names == world["tokens"][1]
    assert not np.array_equal(pixels(page, LOOKED), before)
    page.mouse.move(*cell_of_map(page, 0, 0, tokens=3))
    assert sentence(page) == told(0, 0, 1) + "."


def test_where_no_weights_lie_over_patches_it_says_so(page):
    widget = page.locator(".vlm-shares").nth(1)
    assert "there are no weights of words over patches to show" in widget.inner_text()
    assert "of what is added comes from the image." in widget.locator(".vlm-words").inner_text()
    assert widget.get_by_label("Head").count() == 0
    shown = pixels(page, ".vlm-shares:not(:has(.vlm-side select)) .vlm-side canvas")[..., :3]
    assert np.array_equal(shown, world["image"])


# ---- looks


@pytest.mark.parametrize("name", ["occlusion", "shares"])
def test_every_text_stays_text_and_reads_on_the_theme(page, name):
    assert (
        page.locator(f".vlm-{name} i:has(*), .vlm-{name} span > b, .vlm-{name} .vlm-warning b").count() == 0
    )
    ink, paper = page.locator(f".vlm-{name}").first.evaluate(INK)
    assert (luminance(ink) < luminance(paper)) == (page.theme == "Light")


@pytest.mark.parametrize("name", ["occlusion", "shares"])
def test_every_control_has_a_name_and_shows_its_focus(page, name):
    widget = page.locator(f".vlm-{name}").first
    widget.locator("[tabindex='0'], button, select, input").first.focus()
    controls = "[tabindex='0'], button, select, input"
    names = widget.locator(controls).evaluate_all(
        "all => all.map(it => it.ariaLabel || (it.closest('label') ?? it).textContent)"
    )
    assert len(names) >= 4 and all(names)
    page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


@pytest.mark.parametrize("name", ["occlusion", "shares"])
def test_nothing_sticks_out_of_a_narrow_or_a_low_window(page, name):
    size = page.viewport_size
    try:
        for width, height in ((390, 844), (1366, 768)):
            page.set_viewport_size({"width": width, "height": height})
            page.wait_for_timeout(100)
            out = page.locator(f".vlm-{name}").first.evaluate("""root => {
                const right = root.getBoundingClientRect().right + 1;
                return [...root.querySelectorAll('*')].filter(it => !it.closest('.vlm-scroll')
                    && it.getBoundingClientRect().right > right).map(it => it.className) }""")
            assert out == []
    finally:
        page.set_viewport_size(size)


def test_the_picture_beside_the_live_view_is_there_but_hidden(page):
    stills = page.locator("img.jp-mod-unconfined")
    assert stills.count() == 3
    assert not any(stills.nth(n).is_visible() for n in range(3))


def test_without_a_kernel_covering_goes_on_and_the_last_answer_stays(lab):
    page = lab.open(WORLD, BOARD, name="occlusion-gone")
    page.wait_for_selector(IDLE)
    page.evaluate("window.jupyterapp.serviceManager.sessions.shutdownAll()")
    page.wait_for_timeout(500)
    shown = rows(page)
    page.mouse.click(*spot(page, 7))
    assert text_of(page, f"{ROOT} .vlm-words") == "1 of 24 patches covered"
    assert np.array_equal(pixels(page, PICTURE)[..., :3], expected(page, [7])) and rows(page) == shown
    page.wait_for_function(
        "/kernel is gone|if nothing comes/.test(document.querySelector('.vlm-occlusion').innerText)",
        timeout=8000,
    )
    page.context.close()
