"""Similarity matrix, search, text attention and clouds in a real JupyterLab: they show what NumPy says."""

import base64
import io
import re

import numpy as np
import pytest

from tests.browser.test_explorer import pick, slide
from tests.browser.test_widgets import INK, luminance
from vlmcourse.widgets.clouds import recall_while_closing
from vlmcourse.widgets.similarity import hits, log_probabilities, loss_at
from vlmcourse.widgets.stills import cividis

pytestmark = pytest.mark.browser

WORLD = """
import numpy as np
from vlmcourse.widgets.similarity import SimilarityMatrix
from vlmcourse.widgets.search import TextToImageSearch
from vlmcourse.widgets.text_attention import TextAttention
from vlmcourse.widgets.clouds import FeatureClouds
random = np.random.default_rng(11)
cosines = random.uniform(-0.5, 0.8, (8, 8)).astype(np.float32) + 0.1 * np.eye(8, dtype=np.float32)
images = random.integers(0, 256, (40, 16, 24, 3), dtype=np.uint8)
texts = [f"<b>text</b> {i}" for i in range(8)]
labels = [f"<i>picture</i> {i}" for i in range(40)]
asked = []
def score(text):
    asked.append(text)
    return -abs(np.arange(40) - float(text.split()[-1]))      # fails for what does not end in a number
tokens = ["<s>", "<u>a</u>", "red", "circle", "is", "small", "\\n"]
attention = np.tril(random.random((2, 3, 7, 7)) ** 3 + 0.01)
attention[1, 2, 3, 5] = 0.5                                   # one weight in the future
attention /= attention.sum(-1, keepdims=True)
features = random.normal(size=(30, 6))
moved = features + random.normal(size=(30, 6)) + np.array([4.0, 1, 0, 0, 0, 0])
"""
SIMILARITY = "similarity = SimilarityMatrix(cosines, images[:8], texts)\nsimilarity"
SEARCH = """search = TextToImageSearch(score, images, labels, suggestions=["about 20", "<i>picture</i> 5"],
                           attribution="made of <b>noise</b>")
search"""
TEXT = 'reader = TextAttention(tokens, attention, view={"layer": 0, "head": 1, "query": 4})\nreader'
CLOUDS = "clouds = FeatureClouds(features, moved, labels[:30], images[:30])\nclouds"
world: dict = {}
exec(WORLD, world)


@pytest.fixture(scope="module")
def page(lab):
    page = lab.open(WORLD, SIMILARITY, SEARCH, TEXT, CLOUDS, name="looks")
    for widget in ("similarity", "search", "text-attention", "clouds"):
        page.wait_for_selector(f".vlm-{widget}")
    yield page
    assert page.complaints == [] and page.outside == []
    lab.close(page)


def pixels(page, selector) -> np.ndarray:
    from PIL import Image

    png = page.evaluate("selector => document.querySelector(selector).toDataURL()", selector).split(",")[1]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(png))).convert("RGBA"))


def colours(fractions) -> np.ndarray:
    return cividis()[np.floor(np.asarray(fractions, float) * 255 + 0.5).astype(int)]


def text_of(page, selector) -> str:
    return " ".join(page.locator(selector).first.inner_text().split())


def over(page, selector, row, column, size):
    """Points at a cell of a square map."""
    canvas = page.locator(f"{selector} .vlm-cells .vlm-picture > canvas").first
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    page.mouse.move(
        box["x"] + (column + 0.5) * box["width"] / size, box["y"] + (row + 0.5) * box["height"] / size
    )


# ---- similarity


def test_the_matrix_shows_cosines_and_both_softmaxes(page):
    cosines = world["cosines"].astype(float)
    for position, mode in [(100, "cosine"), (100, "row"), (150, "column"), (0, "row"), (200, "column")]:
        slide(page, "Temperature", position)
        pick(page, "Colours", mode)
        temperature = 10 ** (2 * (position / 200 - 1))
        want = (
            (cosines - cosines.min()) / np.ptp(cosines)
            if mode == "cosine"
            else np.exp(log_probabilities(cosines, temperature, 1 if mode == "row" else 0))
        )
        shown = pixels(page, ".vlm-similarity .vlm-picture > canvas")
        assert np.array_equal(shown[..., :3], colours(want)), (mode, temperature)
        assert text_of(page, ".vlm-similarity .vlm-number") == f"{loss_at(cosines, temperature):.3f}"
    assert text_of(page, ".vlm-guess") == f"guessing: ln 8 = {np.log(8):.3f}"


def test_recall_is_told_and_every_mistake_is_marked_by_shape(page):
    right = {axis: hits(world["cosines"], axis) for axis in (1, 0)}
    told = text_of(page, ".vlm-similarity .vlm-side")
    for name, axis in (("image → text", 1), ("text → image", 0)):
        assert re.search(rf"R@1 {name} \d+ % \({right[axis].sum()} of 8\)", told)
    assert 0 < right[1].sum() < 8
    pick(page, "Colours", "row")
    marks = pixels(page, ".vlm-marks")[..., 3] > 0
    cells = marks.reshape(8, len(marks) // 8, 8, len(marks) // 8)
    middle = cells.shape[1] // 2
    for pair in range(8):
        rivals = np.where(np.eye(8)[pair], -9, world["cosines"][pair])
        assert cells[pair, middle, pair, middle] == (not right[1][pair])  # a cross covers its middle
        ring = cells[pair, :, rivals.argmax()]
        assert ring.any() == (not right[1][pair]) and not ring[middle, middle]  # a ring does not


def test_a_cell_tells_its_picture_text_and_numbers(page):
    slide(page, "Temperature", 100)
    area = page.locator(".vlm-similarity .vlm-picture")
    area.focus()
    for key in ["ArrowDown", "ArrowRight", "ArrowRight", "ArrowUp", "ArrowUp", "ArrowDown"]:
        page.keyboard.press(key)
    page.mouse.move(0, 0)
    row, column = 1, 2
    for _ in range(2):  # first the chosen cell, then the one under the pointer
        assert text_of(page, ".vlm-similarity .vlm-caption") == f"<b>text</b> {column}"
        facts = text_of(page, ".vlm-facts")
        assert f"cosine {world['cosines'][row, column]:.3f}" in facts
        for name, axis in (("p(text | image)", 1), ("p(image | text)", 0)):
            found = float(re.search(re.escape(name) + r" (\S+)", facts)[1])
            want = np.exp(log_probabilities(world["cosines"], 0.1, axis))[row, column]
            assert found == pytest.approx(want, rel=0.01)
        assert np.array_equal(pixels(page, ".vlm-similarity .vlm-card canvas")[..., :3], world["images"][row])
        row, column = 6, 6
        over(page, ".vlm-similarity", row, column, 8)
    assert "a pair" in text_of(page, ".vlm-similarity .vlm-card")


def test_python_knows_the_temperature_and_can_set_it(page, lab):
    slide(page, "Temperature", 50)
    page.wait_for_timeout(400)
    assert float(lab.ask(page, "similarity.view['temperature']")) == pytest.approx(10**-1.5)
    lab.ask(page, "setattr(similarity, 'view', similarity.view | {'temperature': 0.5})")
    page.wait_for_selector(f".vlm-similarity .vlm-number:text-is('{loss_at(world['cosines'], 0.5):.3f}')")


# ---- search


def found(page) -> list[str]:
    """Names of the tiles once the query is answered."""
    page.wait_for_selector(".vlm-tiles[aria-busy=false]")
    tiles = page.locator(".vlm-tile:visible")
    return [tiles.nth(i).get_attribute("aria-label") for i in range(tiles.count())]


def test_typing_finds_pictures_and_asks_only_when_it_rests(page, lab):
    box = page.locator(".vlm-search-box")
    box.fill("")
    page.wait_for_selector(".vlm-words:text-is('40 pictures; type what you look for')")
    before = int(lab.ask(page, "len(asked)"))
    box.press_sequentially("the best is near 12", delay=15)
    page.wait_for_selector(".vlm-search .vlm-words:text-is('Best 12 of 40')")
    assert [name.split(": ")[0] for name in found(page)[:3]] == [
        f"{i}. <i>picture</i> {n}" for i, n in [(1, 12), (2, 11), (3, 13)]
    ]
    assert lab.ask(page, f"asked[{before}:]") == "['the best is near 12']"
    for place, index in enumerate([12, 11, 13]):
        shown = pixels(page, f".vlm-tile:nth-child({place + 1}) canvas")
        assert np.array_equal(shown[..., :3], world["images"][index])


def test_a_suggestion_is_searched_and_the_right_answer_marked(page):
    page.get_by_role("button", name="<i>picture</i> 5").click()
    page.wait_for_selector(".vlm-tile.vlm-right")
    assert found(page)[0] == "1. <i>picture</i> 5: -0.000, as asked" or found(page)[0].endswith(
        "0.000, as asked"
    )
    assert (
        page.locator(".vlm-tile.vlm-right").count() == 1
        and "✓" in page.locator(".vlm-tile.vlm-right").inner_text()
    )
    assert text_of(page, ".vlm-search .vlm-words").endswith("the picture of that name stands at rank 1")


def test_results_are_walked_by_keyboard_and_tell_their_label(page):
    names = found(page)
    reading = page.locator(".vlm-search .vlm-reading")
    page.mouse.move(0, 0)  # nothing is pointed at when the page scrolls
    page.locator(".vlm-tile").first.focus()
    for key, place in [("ArrowRight", 1), ("ArrowDown", 7), ("ArrowLeft", 6), ("ArrowUp", 0)]:
        page.keyboard.press(key)
        assert reading.inner_text() == names[place]
    page.locator(".vlm-tile").nth(4).hover()
    assert reading.inner_text() == names[4]
    page.mouse.move(0, 0)
    assert reading.inner_text() == names[0]  # the one that still has the focus
    page.locator(".vlm-search-box").focus()
    assert reading.inner_text() == "made of <b>noise</b>"


def test_an_error_in_the_encoder_is_one_line_and_the_search_lives(page):
    box, before = page.locator(".vlm-search-box"), found(page)
    box.fill("no number")
    page.wait_for_selector(".vlm-search .vlm-warning:visible")
    assert (
        text_of(page, ".vlm-search .vlm-warning")
        == "⚠ ValueError: could not convert string to float: 'number'"
    )
    assert found(page) == before
    box.fill("near 30")
    page.wait_for_selector(".vlm-tile[aria-label^='1. <i>picture</i> 30']")
    assert not page.locator(".vlm-search .vlm-warning").is_visible()


# ---- text attention


def weights(layer, head) -> np.ndarray:
    maps = world["attention"][layer]
    return maps.mean(axis=0) if head == "mean" else maps[head]


@pytest.mark.parametrize(("layer", "head"), [(0, 1), (0, "mean"), (1, 2)])
def test_the_matrix_is_that_of_the_head_and_its_masked_part_is_clear(page, layer, head):
    pick(page, "Layer", str(layer))
    pick(page, "Head", str(head))
    shown, want = (
        pixels(page, ".vlm-text-attention .vlm-cells canvas"),
        weights(layer, head).astype(np.float32),
    )
    masked = np.triu(want == 0, 1)
    assert np.array_equal(shown[..., 3] == 0, masked)
    assert (
        np.abs(shown[..., :3].astype(int) - colours(want / want.max(axis=1, keepdims=True)))[~masked].max()
        <= 2
    )
    warning = page.locator(".vlm-text-attention .vlm-warning")
    assert warning.is_visible() == ((layer, head) == (1, 2))
    if warning.is_visible():
        assert warning.inner_text() == "⚠ 1 weights read tokens that are not yet written"


def test_tokens_are_walked_by_keyboard_and_tell_their_weight(page):
    pick(page, "Layer", "0")
    pick(page, "Head", "1")
    page.locator(".vlm-chip").nth(2).click()
    for key, query in [("ArrowRight", 3), ("End", 6), ("ArrowRight", 6), ("ArrowLeft", 5), ("Home", 0)]:
        page.keyboard.press(key)
        assert page.evaluate("document.activeElement.getAttribute('aria-label')").startswith(
            f"token {query}, "
        )
    page.locator(".vlm-chip").nth(4).click()
    row, names = weights(0, 1)[4], page.locator(".vlm-chip")
    for key in range(7):
        told = names.nth(key).get_attribute("aria-label").rsplit(": ", 1)[1]
        assert told == "masked" if key > 4 else abs(float(told) - row[key]) <= row.max() / 400
    assert names.nth(5).get_attribute("class").endswith("vlm-masked")
    names.nth(2).hover()
    reading = text_of(page, ".vlm-text-attention .vlm-reading")
    assert reading.startswith("is reads red (token 2): ")
    assert float(reading.split(": ")[1].split(",")[0]) == pytest.approx(row[2], abs=row.max() / 400)


def test_a_cell_chooses_its_query_and_tells_both_tokens(page):
    over(page, ".vlm-text-attention", 3, 1, 7)
    assert text_of(page, ".vlm-text-attention .vlm-reading").startswith("circle reads <u>a</u> (token 1): ")
    over(page, ".vlm-text-attention", 3, 6, 7)
    assert (
        text_of(page, ".vlm-text-attention .vlm-reading")
        == "circle reads ⏎ (token 6): masked, not yet written"
    )
    page.mouse.down()
    page.mouse.up()
    page.mouse.move(0, 0)
    assert text_of(page, ".vlm-text-attention .vlm-words").endswith("Query: token 3, circle.")
    page.locator(".vlm-text-attention .vlm-picture").focus()
    page.keyboard.press("ArrowDown")
    assert text_of(page, ".vlm-text-attention .vlm-words").endswith("Query: token 4, is.")


# Click Play; return what is shown after each token until it stops: the token, and how many cells are masked.
PLAYED = """root => new Promise(done => {
  const shown = [], all = kind => [...root.querySelectorAll(kind)];
  const button = name => all("button").find(it => it.textContent === name);
  const look = new MutationObserver(() => {
    const token = all("output").map(it => it.textContent).find(text => /^token/.test(text));
    if (shown.at(-1)?.[0] === token) shown.pop();
    shown.push([token, document.querySelectorAll(".vlm-masked").length]);
    if (shown.length > 1 && button("Play")) { look.disconnect(); done(shown); }
  });
  look.observe(root, { subtree: true, childList: true, characterData: true, attributes: true });
  button("Play").click();
})"""


def test_play_writes_token_by_token(page):
    page.locator(".vlm-chip").last.click()
    shown = page.locator(".vlm-text-attention").evaluate(PLAYED)
    assert shown == [[f"token {query}", 6 - query] for query in range(7)]
    slide(page, "Query", 1)
    assert page.locator(".vlm-masked").count() == 5


def test_the_overview_shows_every_head_and_selects_the_one_clicked(page):
    page.get_by_role("button", name="layer 1, head 0").click()
    assert text_of(page, ".vlm-text-attention .vlm-words").startswith("Layer 1, head 0.")
    page.keyboard.press("ArrowRight")
    assert text_of(page, ".vlm-text-attention .vlm-words").startswith("Layer 1, head 1.")


# ---- clouds


def centre(page, colour) -> np.ndarray:
    """Middle of all pixels of about this colour, in pixels."""
    shown = pixels(page, ".vlm-plane")
    return np.argwhere(np.abs(shown[..., :3].astype(int) - colour).max(axis=-1) < 40).mean(axis=0)


def test_closing_the_gap_moves_the_texts_onto_the_images(page):
    orange, blue, gap = (
        (230, 159, 0),
        (0, 114, 178),
        np.linalg.norm((world["moved"] - world["features"]).mean(axis=0)),
    )
    page.locator(".vlm-clouds input[type=checkbox]").uncheck()
    start, images = centre(page, blue) - centre(page, orange), centre(page, orange)
    recall = recall_while_closing(world["features"], world["moved"])
    for stop, left in [(0, 1), (10, 0.5), (30, -0.5)]:
        slide(page, "Close the gap", stop)
        assert text_of(page, ".vlm-clouds .vlm-number") == f"{abs(left) * gap:.3f}"
        assert np.allclose(centre(page, blue) - images, left * start, atol=12)
        told = text_of(page, ".vlm-clouds .vlm-side")
        for name, column in (("image → text", 0), ("text → image", 1)):
            assert f"R@1 {name} {100 * recall[stop, column]:.0f} %" in told
    slide(page, "Close the gap", 0)
    assert np.hypot(*start) > 100  # or the test above would prove nothing


def test_points_are_walked_by_keyboard_and_show_label_and_picture(page):
    page.mouse.move(0, 0)
    page.locator(".vlm-clouds .vlm-picture").focus()
    for key, cloud, index in [
        ("Right", "image", 0),
        ("Right", "image", 1),
        ("Down", "text", 1),
        ("Right", "text", 2),
        ("Up", "image", 2),
        ("Left", "image", 1),
        ("Left", "image", 0),
        ("Left", "image", 0),
    ]:
        page.keyboard.press(f"Arrow{key}")
        assert text_of(page, ".vlm-clouds .vlm-card") == f"<i>picture</i> {index} {cloud} {index}"
        assert np.array_equal(pixels(page, ".vlm-clouds .vlm-card canvas")[..., :3], world["images"][index])


def test_pointing_at_a_mark_tells_which_it_is(page):
    area = page.locator(".vlm-plane")
    area.scroll_into_view_if_needed()
    box = area.bounding_box()
    page.mouse.move(box["x"] + 4, box["y"] + 4)  # an empty corner
    kept = text_of(page, ".vlm-clouds .vlm-card")
    blue = np.argwhere(
        np.abs(pixels(page, ".vlm-plane")[..., :3].astype(int) - (0, 114, 178)).max(axis=-1) < 40
    )
    y, x = blue[blue[:, 1].argmax()]  # the text furthest to the right
    page.mouse.move(box["x"] + 1 + float(x), box["y"] + 1 + float(y))
    assert text_of(page, ".vlm-clouds .vlm-card") != kept and " text " in text_of(
        page, ".vlm-clouds .vlm-card"
    )
    page.mouse.move(0, 0)
    assert text_of(page, ".vlm-clouds .vlm-card") == kept


# ---- all four


def test_every_label_stays_text(page):
    names = ":is(.vlm-caption, .vlm-suggestion, .vlm-reading, .vlm-word, .vlm-axis)"
    assert page.locator(f"{names} :is(b, i, u, s)").count() == 0
    assert page.locator(".vlm-word").nth(1).inner_text() == "<u>a</u>"


@pytest.mark.parametrize(
    ("widget", "names"),
    [
        ("similarity", ["Similarity matrix", "Colours", "Temperature"]),
        ("search", ["Search pictures", "about 20", "<i>picture</i> 5", "1. "]),
        ("text-attention", ["Layer", "Head", "token ", "Play", "Query", "Attention matrix", "layer "]),
        ("clouds", ["Feature clouds", "Close the gap", "Lines between pairs"]),
    ],
)
def test_every_control_is_reached_by_tab_and_has_a_name(page, widget, names):
    page.mouse.move(0, 0)
    page.locator(f".vlm-{widget} :is(input, select, .vlm-picture)").first.focus()
    for name in names:
        reached = page.evaluate("""() => { const it = document.activeElement;
            return it.ariaLabel || (it.closest('label') ?? it).textContent }""")
        assert reached.startswith(name)
        page.keyboard.press("Tab")


@pytest.mark.parametrize("theme", ["Light", "Dark"])
def test_text_reads_on_the_theme(page, theme):
    page.evaluate(
        f"window.jupyterapp.commands.execute('apputils:change-theme', {{theme: 'JupyterLab {theme}'}})"
    )
    page.wait_for_selector(f"body[data-jp-theme-name='JupyterLab {theme}']", state="attached")
    slide(page, "Query", 3)  # so that something is masked
    for part in (
        "similarity .vlm-axis",
        "facts",
        "guess",
        "suggestion",
        "score",
        "text-attention .vlm-words",
        "text-attention .vlm-reading",
        "masked .vlm-word",
        "clouds .vlm-caption",
        "clouds .vlm-legend",
    ):
        ink, paper = page.locator(f".vlm-{part}").first.evaluate(INK)
        light, dark = sorted((luminance(ink), luminance(paper)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (part, ink, paper)


def test_the_pictures_beside_live_views_are_there_but_hidden(page):
    stills = page.locator("img.jp-mod-unconfined")
    assert stills.count() == 4 and not any(stills.nth(i).is_visible() for i in range(4))


def test_without_a_kernel_the_last_results_stay(lab):
    page = lab.open(WORLD, SEARCH, name="looks-alone")
    page.wait_for_selector(".vlm-tile:visible")
    before = found(page)
    page.evaluate("window.jupyterapp.serviceManager.sessions.shutdownAll()")
    page.wait_for_timeout(500)
    page.locator(".vlm-search-box").fill("near 3")
    page.wait_for_selector(
        ".vlm-search .vlm-words:text-is('Asking the kernel; if nothing comes, it is busy or gone.')"
    )
    tiles = page.locator(".vlm-tile:visible")
    assert [tiles.nth(i).get_attribute("aria-label") for i in range(tiles.count())] == before
    page.context.close()
