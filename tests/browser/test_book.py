"""The book's pages, opened from a folder without a server: they can be read, searched and clicked."""

import base64
import os
import re
import subprocess
import sys

import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from read_book import faults, listening

from tests.browser.conftest import ROOT
from tests.browser.test_accessibility import ALL
from tests.widgets.test_base import NAMES
from vlmcourse.world import arranging, questions, render, scenes
from vlmcourse.world.truth import Thing

pytestmark = pytest.mark.browser

TEXT = """\
# 02 · A title

A page of the **book**, with a [place](#far).

## A part about zebras

| what | how |
|---|---|
| `patchify` | a table |"""
SEARCH = """
import numpy as np
from vlmcourse.widgets.search import TextToImageSearch
grey = np.full((2, 4, 4, 3), 9, np.uint8)
TextToImageSearch(lambda text: [len(text), 3], grey, ["short", "long"], suggestions=["a", "longer"])"""
STUB = "def patchify(images, size):\n    raise NotImplementedError"
PLAYGROUND = """
from vlmcourse.diagnostics.alternatives import answers_for
from vlmcourse.families.making import load_speaker
from vlmcourse.widgets.playground import ScenePlayground
from vlmcourse.world import scenes
ScenePlayground(*answers_for(load_speaker("nano-vlm")[0]), scenes.sample("test", 3, start=100))"""
ASKING = 4  # widgets that show their picture: they ask a model, or a kernel
QUESTIONS = int(os.environ.get("VLM_QUESTIONS", "10"))  # that the model in the page is asked
ODD = ["Is there a STAR?  ", "what's the colour of the café’s circle 42?", "<image> who are you?", "日本?"]
SAYS = """async ([pictures, questions]) => {
    const name = document.querySelector('[data-widget=ScenePlayground]').dataset.state;
    const it = bookSpeaker((await unpacked(window.vlmData[name])).state.speaker);
    const bytes = pictures.map((text) => fromBase64(text));
    return questions.map((question, n) => [it.answer(bytes[n], question), it.caption(bytes[n])]) }"""
DRAWS = """async ([number, things]) => {
    const name = document.querySelector('[data-widget=ScenePlayground]').dataset.state;
    const { world, blobs } = (await unpacked(window.vlmData[name])).state;
    return [...bookScene(world, blobs, number, things)] }"""

CUT = """[...document.querySelectorAll('.vlm-stage, .vlm-said, .vlm-chances, .vlm-pane')]
    .filter((part) => part.scrollWidth > part.clientWidth + 1).map((part) => part.className)"""
OUTSIDE = """async (scenes) => {
    const name = document.querySelector('[data-widget=ScenePlayground]').dataset.state;
    const { world, speaker } = (await unpacked(window.vlmData[name])).state;
    return scenes.map((things) => bookOutside(world, speaker.outside, things)) }"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder of pages: one that shows every widget."""
    folder = tmp_path_factory.mktemp("book")
    found = [
        new_markdown_cell(TEXT, id="title"),
        new_code_cell(SEARCH, id="search"),
        new_code_cell(ALL, id="all"),
    ]
    found += [new_code_cell(PLAYGROUND, id="playground")]
    found += [new_code_cell(f"x = '{'long ' * 60}'", id="far"), new_markdown_cell("## Last", id="last")]
    nbformat.write(new_notebook(cells=found), folder / "02_vit.ipynb")
    command = [sys.executable, ROOT / "tools" / "build_book.py", "--root", folder, "--out", folder / "site"]
    done = subprocess.run([*command, "--cache", folder / "cache"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "site"


@pytest.fixture(params=["light", "dark"])
def theme(request):
    return request.param


def opened(chromium, site, width=1280, theme="light", name="02_vit"):
    page = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=theme).new_page()
    page.complaints = listening(page)
    page.goto((site / f"{name}.html").as_uri())
    page.wait_for_function("document.documentElement.dataset.ready === 'true'")
    return page


@pytest.fixture
def page(chromium, site):
    page = opened(chromium, site)
    yield page
    assert page.complaints == []
    page.context.close()


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("name", ["02_vit", "index"])
def test_a_page_is_whole_and_without_barriers(chromium, site, width, theme, name):
    page = opened(chromium, site, width, theme, name)
    assert list(faults(page, (site / f"{name}.html").as_uri(), page.complaints, {})) == []
    if name == "02_vit":
        assert page.locator("[data-widget] > .vlm").count() == len(NAMES) - ASKING + 2
        assert page.locator("img.still").count() == ASKING
        assert page.evaluate(CUT) == []
    page.context.close()


def test_what_is_wrong_with_a_page_is_told(chromium, site, tmp_path):
    broken = (
        (site / "index.html").read_text(encoding="utf-8").replace('href="static/', 'href="../site/static/')
    )
    broken = broken.replace(
        "</main>", '<button></button><p style="width: 3000px">wide</p><script>no()</script></main>'
    )
    broken = broken.replace("</body>", '<img src="http://127.0.0.1:9/x.png" alt="x"></body>')
    (site / "broken.html").write_text(broken, encoding="utf-8")
    page = opened(chromium, site, name="index")
    told = " ".join(faults(page, (site / "broken.html").as_uri(), page.complaints, {}))
    (site / "broken.html").unlink()
    page.context.close()
    assert "no is not defined" in told and "asks for http://127.0.0.1:9" in told
    assert "x.png does not show" in told
    assert "wider than the window" in told and "critical: button-name" in told


def test_a_quiz_answers_without_a_kernel(page):
    quiz = page.locator(".vlm-quiz")
    quiz.scroll_into_view_if_needed()
    quiz.get_by_label("no").check()
    quiz.get_by_role("button", name="Check").click()
    assert "Not this one" in quiz.inner_text() and "look" in quiz.inner_text()
    quiz.get_by_label("yes").check()
    quiz.get_by_role("button", name="Check").click()
    assert "Right." in quiz.inner_text() and "it is" in quiz.inner_text()


def test_an_explorer_shows_another_head(page):
    explorer = page.locator(".vlm-attention").first
    explorer.scroll_into_view_if_needed()
    words = explorer.locator(".vlm-words")
    assert "mean of heads" in words.inner_text()
    explorer.get_by_role("button", name="layer 0, head 1").click()
    assert "head 1" in words.inner_text()


def test_a_search_knows_the_queries_on_its_buttons(page):
    search = page.locator(".vlm-search").first
    search.scroll_into_view_if_needed()

    def first():
        return search.locator("[role=listitem]:visible").first.get_attribute("aria-label")

    assert first().startswith("1. long: 3")
    search.get_by_role("button", name="longer").click()
    assert first().startswith("1. short: 6")
    assert "queries on its buttons" in page.locator(".note").first.inner_text()


def test_the_search_of_the_course_finds_sections_and_leads_there(page):
    page.keyboard.press("/")
    page.keyboard.type("ZEBRAS part")
    page.wait_for_selector("#book-results li")
    results = page.locator("#book-results")
    assert "02 · A part about zebras" in results.inner_text() and results.locator("li").count() == 1
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"#a-part-about-zebras$"))
    page.keyboard.press("Control+A")
    page.locator("#book-search input").fill("nothing-of-this-kind")
    assert results.locator("li").count() == 0 and "0" in results.locator("[role=status]").inner_text()
    page.keyboard.press("Escape")
    assert results.is_hidden()


def test_hyphens_and_american_spelling_make_no_difference_to_the_search(page):
    page.keyboard.press("/")
    page.wait_for_function("window.bookSections")
    told = """(words) => words.map((word) => { input.value = word; search();
        return sections.filter((one) => fit(one, plain(word).split(' '))).length })"""
    assert page.evaluate(told, ["zebras", "zeb-ras", "ZEBRAS", "zebroid"]) == [1, 1, 1, 0]
    pairs = [
        "Q-Former qformer",
        "colour color",
        "quantisation quantization",
        "normalised normalized",
        "noise noise",
    ]
    same = "(pairs) => pairs.map((pair) => pair.split(' ').map(plain)).filter(([a, b]) => a !== b)"
    assert page.evaluate(same, pairs) == []
    marks = "(pairs) => pairs.map(([text, word]) => around(text, plain(word))[2].textContent)"
    asked = [
        ["the Q-Former is", "qformer"],
        ["by colour", "color"],
        ["it normalises", "normalizes"],
        ["a c++ b", "c++"],
    ]
    assert page.evaluate(marks, asked) == ["Q-Former", "colour", "normalises", "c++"]
    two = ["fit({ head: 'lora', name: 'lora', body: '' }, ['lora'])"]
    two += ["fit({ head: 'lora mask', name: 'lora mask', body: 'lora '.repeat(99) }, ['lora'])"]
    assert page.evaluate(" > ".join(two))
    assert page.evaluate("['zebrasque', 'zebra', 'wombat'].map((word) => best([word]).length)") == [1, 1, 0]


def test_the_theme_changes_and_stays_on_the_next_page(page, site):
    paper = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(paper)
    page.get_by_role("button", name="Light or dark").click()
    dark = page.evaluate(paper)
    assert dark != light
    widget = page.locator(".vlm-quiz .vlm-button").first
    widget.scroll_into_view_if_needed()
    assert widget.evaluate("it => getComputedStyle(it).backgroundColor") == dark
    page.goto((site / "index.html").as_uri())
    assert page.evaluate(paper) == dark


def test_on_a_phone_the_chapters_come_on_demand(chromium, site):
    page = opened(chromium, site, 390)
    chapters, menu = page.locator("#book-chapters"), page.get_by_role("button", name="Chapters")
    assert chapters.is_hidden() and menu.get_attribute("aria-expanded") == "false"
    menu.click()
    assert chapters.is_visible() and menu.get_attribute("aria-expanded") == "true"
    page.keyboard.press("Escape")
    assert chapters.is_hidden()
    page.context.close()


def test_long_lines_are_scrolled_by_keys(page):
    block = page.locator("#far pre").first
    block.scroll_into_view_if_needed()
    page.wait_for_function("document.querySelector('#far pre').tabIndex === 0")
    block.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("document.querySelector('#far pre').scrollLeft > 0")
    assert page.locator("#title table").evaluate("table => table.parentElement.tabIndex") == -1


def test_without_scripts_the_pictures_stand_in(chromium, site):
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((site / "02_vit.html").as_uri())
    pictures = page.locator("img.still")
    assert pictures.count() > len(NAMES) - 2 and all(
        picture.get_attribute("alt") for picture in pictures.all()
    )
    context.close()


@pytest.fixture(scope="module")
def playground():
    """The same one, in Python."""
    made: dict = {}
    exec(PLAYGROUND.replace("\nScenePlayground(", "\nit = ScenePlayground("), made)
    return made["it"]


def test_the_model_in_the_page_says_what_python_says(page, playground):
    page.evaluate("bookShowAll()")
    world = scenes.sample("test", QUESTIONS, start=500)
    pictures = render.render(world)
    asked = [*ODD, *(question.text for question in questions.ask(world)[len(ODD) :])]
    answer, caption = playground._models[0]
    coded = [base64.b64encode(picture.tobytes()).decode() for picture in pictures]
    said = page.evaluate(SAYS, [coded, asked])
    for picture, question, (one, described) in zip(pictures, asked, said, strict=True):
        wanted = answer(picture, question)
        assert one["answer"] == wanted["answer"] and described == caption(picture)
        assert [choice["text"] for choice in one["choices"]] == [text for text, _ in wanted["choices"]]
        likely = [choice["p"] for choice in one["choices"]]
        np.testing.assert_allclose(likely, [p for _, p in wanted["choices"]], atol=1e-4)
        np.testing.assert_allclose(one["attention"], wanted["attention"].flatten(), atol=1e-4)


def test_the_page_draws_scenes_as_python_does(page, playground):
    page.evaluate("bookShowAll()")
    for number in range(3):
        things = playground.world["scenes"][number]["things"]
        for some in (things, things[:1], [[0, 1, 2, 30, 30], [1, 2, 0, 34, 31]]):
            playground.change(number=number, things=some)
            assert bytes(page.evaluate(DRAWS, [number, [list(thing) for thing in some]])) == playground.pixels


def test_the_page_knows_where_training_ends_as_python_does(page):
    page.evaluate("bookShowAll()")
    drawn, places = np.random.default_rng(5), range(18, 46)
    odd = [[], [[0, 1, 2, 30, 30], [1, 2, 0, 34, 31]], [[0, 0, 0, 20, 20], [0, 0, 0, 40, 40]]]
    for _ in range(300):
        few = drawn.integers(1, 4)
        odd.append(
            [[*drawn.integers(0, (5, 7, 3)).tolist(), *drawn.choice(places, 2).tolist()] for _ in range(few)]
        )
    told = page.evaluate(OUTSIDE, odd)
    assert told == [arranging.outside([Thing(*thing) for thing in things]) for things in odd]
    assert told[0] == "there is no object" and told[2].startswith("no ") and told[2].endswith("on a diagonal")
    said = {reason.partition(" occurs")[2] or reason for reasons in told for reason in reasons.split("; ")}
    assert len(said) == 6  # each reason, and none


def test_a_changed_scene_is_answered_in_the_page(page, playground):
    board = page.locator("#playground .vlm-playground")
    page.locator("#playground [data-widget]").scroll_into_view_if_needed()
    answered = "#playground .vlm-playground[aria-busy=false]"
    things = [list(thing) for thing in playground.world["scenes"][0]["things"]]
    question = next(iter(playground.world["scenes"][0]["questions"].values()))
    wanted = {}
    for given in ("scene", "grey", "swapped"):
        playground.change(number=0, things=things[1:], question=question, given=given)
        wanted[given] = [playground.answer["answer"], playground.answer["caption"]]
    page.wait_for_selector(answered)
    assert board.locator(".vlm-mark").first.inner_text() in ("✓", "✗")  # judged, as it came
    board.get_by_role("button", name="Delete").click()
    for press, given in ((None, "scene"), ("Blind", "grey"), ("Swap", "swapped")):
        if press:
            board.get_by_role("button", name=press).click()
        page.wait_for_selector(answered)
        assert [
            board.locator(".vlm-answer").inner_text(),
            board.locator(".vlm-caption").inner_text(),
        ] == wanted[given]
    assert board.locator(".vlm-mark").first.inner_text() == ""  # nobody judges it here
    assert board.locator(".vlm-beyond").inner_text() == ""
    while board.get_by_role("button", name="Delete").is_enabled():
        board.get_by_role("button", name="Delete").click()
    page.wait_for_selector(answered)
    assert board.locator(".vlm-beyond").inner_text() == "Outside the training world: there is no object."
