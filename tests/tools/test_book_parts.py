"""The parts of the book, each by itself; test_build_book.py puts them together."""

import base64
import html
import os
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import nbformat
import numpy as np
import publishing
import pytest
import torch
from book import cells, chapters, exercises, recording, running, site, speaking, widgets
from book.words import WORDS
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from vlmcourse.data import pixels
from vlmcourse.exercises import base
from vlmcourse.exercises.edits import pasted_source
from vlmcourse.models.language import LlamaConfig
from vlmcourse.models.llava import LlavaConfig
from vlmcourse.models.vit import ViTConfig
from vlmcourse.widgets.playground import ScenePlayground
from vlmcourse.widgets.search import TextToImageSearch
from vlmcourse.workbook.figures import ON_ANY_PAPER
from vlmcourse.world.arranging import OUTSIDE
from vlmcourse.world.grammar import true_answer
from vlmcourse.world.scenes import sample
from vlmcourse.world.truth import Thing

# ---- cells -------------------------------------------------------------------------------------------------


def test_code_keeps_its_first_empty_lines_and_is_coloured_by_its_language():
    assert cells.coloured("\n\nx\n") == '<pre class="code"><code>\n\n<span class="n">x</span></code></pre>'
    for language in ("", "no-such-language"):
        assert (
            cells.coloured("\n\na <b>\n", language) == '<pre class="code"><code>\n\na &lt;b&gt;</code></pre>'
        )


def test_what_stands_in_backticks_of_a_sentence_is_code():
    said = cells.with_code('it\'s `x < 1` & "so", or `y`')
    assert said == 'it\'s <code>x &lt; 1</code> &amp; "so", or <code>y</code>'


def test_anchors_say_the_title_and_one_without_letters_is_a_section():
    taken = {"part"}
    assert [cells.slug(title, taken) for title in ("A `b`: C!", "Part", "Part", "?", "!")] == [
        "a-b-c", "part-2", "part-3", "section", "section-2"
    ]  # fmt: skip
    assert taken == {"part", "a-b-c", "part-2", "part-3", "section", "section-2"}


def test_tables_scroll_and_fences_are_coloured_by_their_language():
    text = "| a |\n|---|\n| 1 |\n\n```python\nx < 1\n```\n\n```\nx < 1\n```\n"
    markup, sections = cells.text_cell(text, cells.Page("en", "", {}, set()), None)
    assert sections == [] and markup.count("<pre") == 2
    assert cells.coloured("x < 1\n") in markup and cells.coloured("x < 1\n", "text") in markup
    table = '<div class="scroll"><table class="a"></table></div>'
    assert cells.in_scrollers('<p></p><table class="a"></table>') == f"<p></p>{table}"


def test_an_error_is_shown_with_its_lines():
    failed = new_output("error", ename="E", evalue="", traceback=["\x1b[31mfirst", "E: <last>"])
    assert cells.output(failed, "c", None, None) == '<pre class="printed error">first\nE: &lt;last&gt;</pre>'


def test_the_search_reads_a_word_as_one_and_no_drawing():
    markup = "<p>one<b>two</b></p><svg><text>drawn</text></svg>a<em>b</em><code>c</code> &amp; d"
    assert cells.words_of(markup) == "one two abc & d"


# ---- exercises ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "name"), [
    ("x = 1", None),
    ("# @exercise(vit.cut)\ndef cut():\n    pass", None),
    ("def helper():\n    pass\n\n@other\n@exercise(vit.cut)\ndef cut():\n    pass", "cut"),
    ("@exercise(vit.cut)\nclass cut:\n    pass", None),
])  # fmt: skip
def test_the_function_that_a_cell_asks_for_is_the_decorated_one(code, name):
    assert exercises.asked(code) == name


@pytest.mark.parametrize("lang", WORDS)
def test_help_speaks_the_language_of_the_page_and_its_words_are_escaped(monkeypatch, lang):
    slot = SimpleNamespace(__name__="cut", reference=pixels.normalise.reference)
    task = SimpleNamespace(chapter="02_vit", slot=slot, hints=["Is `a<b`?", "Cut."])
    others = [
        SimpleNamespace(chapter="03", slot=slot),
        SimpleNamespace(chapter="02_vit", slot=pixels.normalise),
    ]
    monkeypatch.setattr(base, "all_exercises", lambda: dict(enumerate([others[0], task, others[1]])))
    monkeypatch.setattr(base, "japanese", lambda: {"Is `a<b`?": "`a<b` か?", "Cut.": "切る。"})
    words = {"yours": "<write>", "hint": "{number} & {last}", "solution": "<all>"}
    monkeypatch.setitem(exercises.WORDS, lang, words)
    hints = {"en": ["Is <code>a&lt;b</code>?", "Cut."], "ja": ["<code>a&lt;b</code> か?", "切る。"]}[lang]
    assert exercises.help_with("02_vit", "cut", lang) == (
        '<div class="exercise"><p>&lt;write&gt;</p>'
        f"<details><summary>1 &amp; 2</summary><p>{hints[0]}</p></details>"
        f"<details><summary>2 &amp; 2</summary><p>{hints[1]}</p></details>"
        f"<details><summary>&lt;all&gt;</summary>{cells.coloured(pasted_source(slot.reference))}</details></div>"
    )
    monkeypatch.setattr(base, "all_exercises", lambda: {1: task, 2: task})
    with pytest.raises(LookupError, match="chapter 02_vit has 2 exercises called cut, expected one"):
        exercises.help_with("02_vit", "cut", lang)


# ---- widgets -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "state", "recorded", "runs", "note"), [
    ("Quiz", {}, {}, True, ""),
    ("TextToImageSearch", {}, {"query": {}}, True, "recorded"),
    ("ScenePlayground", {}, {}, False, ""),
    ("ScenePlayground", {"speaker": {}}, {}, True, "spoken"),
    ("ScenePlayground", {"speaker": {}}, {"query": {}}, True, "spoken"),
])  # fmt: skip
def test_a_widget_runs_in_a_page_if_it_asks_nobody_or_brings_its_model(kind, state, recorded, runs, note):
    widget = widgets.WidgetState(kind, "", state, [], recorded)
    assert (widget.runs_here, widget.note) == (runs, note)


def test_of_a_run_the_widgets_of_the_course_are_kept_with_what_was_recorded():
    left_out = ["_esm", "_css", "_dom_classes", "layout", "tabbable", "tooltip", "_view_count"]
    left_out += [f"_{kind}_{what}" for kind in ("model", "view") for what in ("module", "name")]
    left_out += [f"_{kind}_module_version" for kind in ("model", "view")]

    def model(name: str, **state) -> dict:
        return {"state": {"_anywidget_id": name, **dict.fromkeys(left_out, "old"), **state}}

    quiz = model("vlmcourse.widgets.quiz.Quiz", question="Is it?") | {
        "buffers": [{"path": ["a"], "data": ""}]
    }
    play = model("vlmcourse.widgets.playground.ScenePlayground", world={})
    found = {"q": quiz, "p": play, "other": model("another.Widget"), "box": {"state": {"layout": "x"}}}
    speaker = {"special": ["<s>"], "tensors": {"w": "AA==", "v": "AQ=="}}
    metadata = {"widgets": {widgets.STATE: {"state": found}}}
    kept = widgets.widgets_of(metadata, {"q": {"query": {}}, "p": {"speaker": speaker}})
    assert list(kept) == ["q", "p"]
    assert kept["q"][2:] == ({"question": "Is it?"}, [{"path": ["a"], "data": ""}], {"query": {}})
    assert kept["q"].kind == "Quiz" and kept["q"].script == widgets.script_of("vlmcourse.widgets.quiz.Quiz")
    assert kept["p"].state == {"world": {}, "speaker": {"special": ["<s>"], "tensors": {}}}
    assert kept["p"].recorded == {} and kept["p"].buffers == [
        {"path": ["speaker", "tensors", "w"], "data": "AA=="},
        {"path": ["speaker", "tensors", "v"], "data": "AQ=="},
    ]
    assert widgets.widgets_of({}, {}) == {}


def test_the_data_of_a_widget_are_a_script_that_is_named_by_what_it_holds():
    page = cells.Page("ja", "../", {}, set())
    first, same, other = (
        widgets.on_page(widgets.WidgetState("Search", "", {"n": n}, [], {"query": {}}), page)
        for n in (1, 1, 2)
    )
    assert first == same != other and len(page.files) == 2
    place = next(iter(page.files))
    name = place.removeprefix("static/data/").removesuffix(".js")
    assert page.files[place].decode().startswith(f"(window.vlmData ??= {{}})['{name}'] = '")
    assert name.startswith("Search-") and len(name) == len("Search-") + 12
    note = f'<p class="note">{html.escape(WORDS["ja"]["recorded"])}</p>'
    assert first == f'<div class="widget" data-widget="Search" data-state="{name}"></div>{note}'


def test_a_script_says_that_a_part_is_in_the_notebook_where_it_said_that_it_asks_the_kernel():
    script = f'const says = "{widgets.WAITING}";\nfunction render() {{}}\n{widgets.EXPORT}'
    assert widgets.as_function("Quiz", script) == (
        "(window.vlmWidgets ??= {})['Quiz'] = (() => {\n"
        f'const says = "{widgets.MISSING}";\nfunction render() {{}}\n\nreturn render; }})();\n'
    )


# ---- what a run records ------------------------------------------------------------------------------------


def playground(scenes) -> ScenePlayground:
    """One whose model says nothing."""
    silent = {"answer": "", "choices": [], "attention": None}
    return ScenePlayground(lambda *_: silent, lambda _: "", scenes)


def test_a_run_records_searches_and_small_models_and_leaves_them_as_they_were(monkeypatch):
    monkeypatch.setenv("CI", "")  # people will look, so widgets are live
    grey = np.full((2, 4, 4, 3), 9, np.uint8)
    search = TextToImageSearch(lambda text: [len(text), 3], grey, ["a", "b"], suggestions=["a", "long"])
    search.query = "own"
    closed, other = (playground(sample("test", 1)) for _ in range(2))
    play = playground(sample("test", 2))
    left_out = {closed.model_id, other.model_id}
    closed.close()
    monkeypatch.setattr(recording, "speaker_of", lambda widget: widget if widget is not other else None)
    monkeypatch.setattr(recording, "written", lambda model: {"written": model})
    found = recording.recorded()
    assert not left_out & set(found)
    assert list(found[search.model_id]) == ["query"] and search.query == "own"
    answers = found[search.model_id]["query"]
    assert list(answers) == ["a", "long", "", "own"]
    for query, first in (("a", "b"), ("long", "a")):
        assert answers[query]["answer"]["results"][0]["label"] == first
        assert base64.b64decode(answers[query]["pixels"]["base64"]) == grey.tobytes()
    told = {"written": play, "truths": speaking.truths(play), "outside": OUTSIDE}
    assert found[play.model_id] == {"speaker": told}


def test_the_truths_of_a_playground_are_those_of_its_scenes():
    play = playground(sample("test", 2))
    truths = speaking.truths(play)
    assert len(truths) == 2 and truths[0] != truths[1]
    for scene, told in zip(play.world["scenes"], truths, strict=True):
        things = [Thing(*thing) for thing in scene["things"]]
        assert told == {text: true_answer(text, things) for text in scene["questions"].values()}


SMALL = LlavaConfig(ViTConfig(8, 4, patch_bias=False), LlamaConfig(9, tied=True), image_token=3, layer=-1)


def with_config(config: LlavaConfig, weights: int = 5, contract: object = True) -> SimpleNamespace:
    """What speaking.readable looks at."""
    projector = SimpleNamespace(contract=contract)
    return SimpleNamespace(config=config, projector=projector, parameters=lambda: [torch.empty(weights)] * 2)


@pytest.mark.parametrize(("change", "readable"), [
    ({}, True),
    ({"layer": 4}, True),
    ({"layer": -2}, False),
    ({"shuffle": 2}, False),
    ({"spread": 2}, False),
    ({"vision": replace(SMALL.vision, activation="quick_gelu")}, False),
    ({"vision": replace(SMALL.vision, patch_bias=True)}, False),
    ({"language": replace(SMALL.language, tied=False)}, False),
])  # fmt: skip
def test_the_page_asks_only_models_all_of_whose_parts_it_has(change, readable):
    assert speaking.readable(with_config(replace(SMALL, **change))) is readable


def test_the_page_asks_only_models_that_are_small(monkeypatch):
    monkeypatch.setattr(speaking, "MOST_PARAMETERS", 10)
    assert speaking.readable(with_config(SMALL)) and not speaking.readable(with_config(SMALL, weights=6))
    assert not speaking.readable(with_config(SMALL, contract=None))


# ---- runs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.py", "a.js", "a.css", "a.json", "a.toml", "deep/a.safetensors"])
def test_a_run_depends_on_every_kind_of_file_that_the_package_reads(tmp_path, name):
    package, before = tmp_path / "package", running.package_hash(tmp_path / "package")
    (package / "deep").mkdir(parents=True)
    (package / name).write_text("")
    assert running.package_hash(package) != before and len(before) == 16


def test_a_kernel_has_one_thread_live_widgets_and_the_books_own_modules(monkeypatch):
    for before in ("", "mine"):
        monkeypatch.setenv("PYTHONPATH", before)
        monkeypatch.setenv("OMP_NUM_THREADS", "7")
        told = running.environment()
        paths = [str(running.ROOT), str(running.ROOT / "tools"), *filter(None, [before])]
        assert told["PYTHONPATH"].split(os.pathsep) == paths
        own = {"CI": "", "VLMCOURSE_REFERENCE": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        assert {name: told[name] for name in own} == own and told["PATH"] == os.environ["PATH"]


def notebook_of(folder: Path, *found, name: str = "02_vit", lang: str = "en") -> running.Notebook:
    """A notebook of these cells."""
    folder.mkdir(parents=True, exist_ok=True)
    nbformat.write(new_notebook(cells=list(found)), folder / f"{name}.ipynb")
    return running.Notebook(name, lang, folder / f"{name}.ipynb")


def test_a_notebook_runs_between_the_books_cells_in_a_folder_with_its_neighbours(tmp_path, monkeypatch):
    notebook, seen = notebook_of(tmp_path, new_code_cell("1", id="a")), {}
    (tmp_path / "03_next.ipynb").write_text("{}")

    def execute(self, env):
        place = Path(self.resources["metadata"]["path"])
        seen["place"] = place.name, sorted(path.name for path in place.iterdir())
        seen["cells"] = [(cell.id, cell.source) for cell in self.nb.cells]
        assert self.timeout == running.SECONDS_PER_CELL and env == running.environment()
        self.nb.cells[1].outputs = [new_output("stream", text=f"{place}/a {place.parent}/b", name="stdout")]

    monkeypatch.setattr(NotebookClient, "execute", execute)
    target = tmp_path / "cache" / "copy.ipynb"
    assert running.execute(notebook, target) == target
    assert seen["place"] == ("notebooks", ["02_vit.ipynb", "03_next.ipynb"])
    assert seen["cells"] == [("book-first", running.FIRST), ("a", "1"), ("book-last", running.LAST)]
    assert running.read_notebook(target).cells[1].outputs[0].text == "notebooks/a ./b"
    assert [path.name for path in target.parent.iterdir()] == ["copy.ipynb"]


def test_a_kept_run_is_another_where_the_book_records_otherwise(tmp_path, monkeypatch):
    notebook = notebook_of(tmp_path, new_code_cell("1", id="a"))
    monkeypatch.setattr(running, "__file__", str(tmp_path / "running.py"))
    places = set()
    for change in (None, "recording.py", "speaking.py", "FIRST", "LAST"):
        for name in ("recording.py", "speaking.py"):
            (tmp_path / name).write_text("2" if name == change else "1")
        for name in ("FIRST", "LAST"):
            monkeypatch.setattr(running, name, "2" if name == change else "1")
        places.add(running.kept(notebook, tmp_path / "cache", "package"))
    assert len(places) == 5
    assert all(re.fullmatch(r"02_vit-en-[0-9a-f]{16}\.ipynb", place.name) for place in places)


@pytest.fixture
def three(tmp_path, monkeypatch):
    """Three notebooks without files; where their runs lie, and which were run."""
    run = []
    notebooks = [running.Notebook(f"0{number}_x", "en", tmp_path) for number in range(3)]

    def execute(notebook, target):
        run.append(notebook.name)
        if notebook.name == "00_x":
            raise running.RunError("00_x stopped")
        target.write_text("run")
        return target

    monkeypatch.setattr(running, "package_hash", lambda _: "p")
    monkeypatch.setattr(running, "kept", lambda one, cache, package: cache / f"{one.name}-en-{package}.ipynb")
    monkeypatch.setattr(running, "execute", execute)
    return notebooks, tmp_path, run


def test_what_fails_is_told_after_the_others_were_run_and_kept(three):
    notebooks, cache, run = three
    (cache / "01_x-en-p.ipynb").write_text("run before")
    told = []
    with pytest.raises(running.RunError, match="00_x stopped"):
        running.executed(notebooks, cache, processes=1, tell=told.append)
    assert run == ["00_x", "02_x"] and (cache / "02_x-en-p.ipynb").exists()
    assert told == ["1 of 3 notebooks are executed already", "executed: 02_x-en-p.ipynb"]
    places = running.executed(notebooks[1:], cache, processes=1, tell=told.append)
    assert [place.name for place in places.values()] == ["01_x-en-p.ipynb", "02_x-en-p.ipynb"]
    assert list(places) == notebooks[1:] and run == ["00_x", "02_x"]


def test_the_newest_run_of_another_package_will_do_if_it_is_asked_for(three):
    notebooks, cache, run = three
    for number, name in enumerate(["01_x-en-b", "01_x-en-a", "01_x-ja-c"]):
        (cache / f"{name}.ipynb").write_text("")
        os.utime(cache / f"{name}.ipynb", (number, number))
    assert running.newest(notebooks[2], cache) is None
    places = running.executed(notebooks[1:], cache, 1, reuse=True, tell=lambda _: None)
    assert [place.name for place in places.values()] == ["01_x-en-a.ipynb", "02_x-en-p.ipynb"]
    assert run == ["02_x"]


def test_two_notebooks_run_in_two_processes_and_one_in_this_one(three, monkeypatch):
    notebooks, cache, run = three
    pools = []

    def pool(processes, mp_context):
        pools.append((processes, mp_context.get_start_method()))
        return running.Inline()

    monkeypatch.setattr(running, "ProcessPoolExecutor", pool)
    running.executed(notebooks[1:2], cache, tell=lambda _: None)
    assert pools == [] and run == ["01_x"]
    (cache / "01_x-en-p.ipynb").unlink()
    running.executed(notebooks[1:], cache, tell=lambda _: None)
    assert pools == [(2, "spawn")] and run == ["01_x", "01_x", "02_x"]


# ---- chapters ----------------------------------------------------------------------------------------------

SCRIPT = f"function render() {{}}\n{widgets.EXPORT}"
QUIZ = widgets.WidgetState("Quiz", SCRIPT, {}, [], {})
SILENT = widgets.WidgetState("ScenePlayground", SCRIPT, {}, [], {})
SPEAKS = SILENT._replace(state={"speaker": {}})


def writer(found: dict[str, widgets.WidgetState]) -> chapters.Writer:
    """A writer of a chapter with these widgets."""
    notebook = running.Notebook("02_vit", "en", Path("02_vit.ipynb"))
    return chapters.Writer(notebook, cells.Page("en", "", {}, set()), found, lambda address, path: address)


def test_a_chapter_loads_the_script_of_each_kind_of_widget_once_and_the_speaker_where_one_is():
    one = writer({"a": QUIZ, "b": QUIZ, "c": SPEAKS, "d": SILENT})
    shown = [one.widget(name) for name in "abcde"]
    assert one.scripts == [
        "static/widgets/Quiz.js", "static/widgets/ScenePlayground.js", "static/speaker.js"
    ]  # fmt: skip
    assert one.page.files["static/widgets/Quiz.js"].decode() == widgets.as_function("Quiz", SCRIPT)
    assert all('data-widget="Quiz"' in text for text in shown[:2])
    assert WORDS["en"]["spoken"] in shown[2] and shown[4] == ""
    assert shown[3] == f'<p class="note">{WORDS["en"]["kernel"]}</p>'
    other = writer({"a": QUIZ})
    other.widget("a")
    assert other.scripts == ["static/widgets/Quiz.js"]


def test_only_the_still_of_a_widget_that_runs_in_the_page_is_for_those_without_scripts():
    def view(name: str):
        return new_output("display_data", {chapters.VIEW: {"model_id": name}})

    def image(alt: str, **more):
        data = {"image/png": base64.b64encode(alt.encode()).decode()}
        return new_output("display_data", data, metadata={"image/png": {"alt": alt, **more}})

    outputs = [
        image("1", unconfined=True),
        *(view("q"), image("2"), image("3", unconfined=True)),
        *(view("s"), image("4", unconfined=True)),
        *(view("q"), image("5", unconfined=True), view("gone"), image("6", unconfined=True)),
    ]
    body = writer({"q": QUIZ, "s": SILENT}).code(new_code_cell("show()", id="c", outputs=outputs))
    hidden = re.findall(r'<noscript><img [^>]*alt="(\d)"', body)
    assert hidden == ["3", "5"] and re.findall(r'alt="(\d)"', body) == list("123456")


def test_only_the_card_of_an_exercise_that_is_not_written_is_left_out(monkeypatch):
    monkeypatch.setattr(chapters, "help_with", lambda chapter, task, lang: f"[{chapter} {task} {lang}]")
    card = new_output("display_data", {"text/plain": "○ vit.cut: not written yet."})
    said = new_output("stream", text="two patches", name="stdout")
    task, plain = "@exercise(vit.cut)\ndef cut():\n    pass", "cut()"
    shown = [writer({}).code(new_code_cell(code, outputs=[card, said])) for code in (task, plain)]
    assert ["not written yet" in body for body in shown] == [False, True]
    assert all("two patches" in body for body in shown)
    assert shown[0].endswith("[02_vit cut en]") and "[" not in shown[1]


def test_the_search_has_a_section_for_three_levels_and_the_list_beside_the_page_for_one(tmp_path):
    text = "Before.\n\n## Part\n\nOne.\n\n### Deep\n\nTwo.\n\n#### Deeper\n\nThree."
    found = [
        new_code_cell("early = 0", id="a"),
        new_markdown_cell(text, id="t"),
        new_code_cell("late", id="c"),
    ]
    notebook = notebook_of(tmp_path, *found)
    page = cells.Page("en", "", {}, set())
    chapter = chapters.read_chapter(notebook, notebook.path, page, None, set())
    assert chapter.title == "02_vit", "no heading says another one"
    assert chapter.sections == [cells.Section(2, "part", "Part")]
    assert chapter.entries == [
        ["02_vit.html#part", "02_vit", "Part", "One."],
        ["02_vit.html#deep", "02_vit", "Deep", "Two. Deeper Three. late"],
    ]


# ---- the site ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Both editions of a site with two chapters and an index of terms."""
    folder = tmp_path_factory.mktemp("site")
    for lang in ("en", "ja"):
        place = folder / "notebooks" / ("" if lang == "en" else lang)
        notebooks = [
            notebook_of(place, new_markdown_cell(f"# {name} <&>", id="t"), name=name, lang=lang)
            for name in ("02_vit", "03_cnn_vs_vit")
        ]
        (place / "INDEX.md").write_text("# Head\n\nOnly here.\n\n## Group\n\n[a](02_vit.ipynb#cell-id=t)\n")
        site.Site(folder / "site", lang, ["en", "ja"]).fill(notebooks, {one: one.path for one in notebooks})
    return folder / "site"


def test_each_chapter_turns_to_its_neighbours(pages):
    first, last = ((pages / f"{name}.html").read_text("utf-8") for name in ("02_vit", "03_cnn_vs_vit"))
    turns = r'rel="(\w+)" href="([^"]+)"><span>(\w+)</span>'
    assert re.findall(turns, first) == [("next", "03_cnn_vs_vit.html", "Next")]
    assert re.findall(turns, last) == [("prev", "02_vit.html", "Previous")]


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_the_first_page_has_a_row_for_each_chapter_as_the_readme_tells_it(pages, lang):
    page = (pages / ("" if lang == "en" else lang) / "index.html").read_text("utf-8")
    readme = (running.ROOT / "README.md").read_text("utf-8")
    words, rows = WORDS[lang], site.TABLE_ROW.findall(readme)[2:4]
    assert [row[0] for row in rows] == ["02_vit", "03_cnn_vs_vit"]
    for name, builds, minutes, gpu in rows:
        told = html.escape(builds) if lang == "en" else ""
        link = f'<a href="{name}.html">{name} &lt;&amp;&gt;</a>'
        assert f"<tr><td>{link}</td><td>{told}</td><td>{minutes}</td><td>{gpu}</td></tr>" in page
    heads = "".join(f'<th scope="col">{words[name]}</th>' for name in ("chapter", "build", "minutes", "gpu"))
    assert f"<thead><tr>{heads}</tr></thead>" in page and page.count("<tr>") == 3
    assert f"<h1>{words['course']}</h1><p>{words['intro']}</p>" in page
    assert f"<p>{words['read']}</p><p>{words['run']}</p>" in page
    assert f'<h2 id="chapter-map">{words["chapters"]}</h2>' in page


def test_the_index_of_terms_has_a_head_of_its_own_and_leads_to_the_other_first_page(pages):
    page = (pages / "ja" / "terms.html").read_text("utf-8")
    words = WORDS["ja"]
    assert f"<h1>{words['terms']}</h1><p>{words['terms_intro']}</p>" in page
    assert "Only here" not in page and 'href="#group">Group</a>' in page
    assert 'hreflang="en" href="../index.html"' in page
    assert 'hreflang="ja" href="ja/index.html"' in (pages / "terms.html").read_text("utf-8")
    assert 'hreflang="ja" href="ja/03_cnn_vs_vit.html"' in (pages / "03_cnn_vs_vit.html").read_text("utf-8")


def test_a_site_holds_its_scripts_its_search_and_its_notebooks(pages):
    names = {"book.css", "book.js", "speaker.js", "widgets.css", "search-en.js", "search-ja.js"}
    assert {path.name for path in (pages / "static").iterdir() if path.is_file()} == names
    for lang, place in (("en", ""), ("ja", "ja/")):
        file = f"notebooks/{place}02_vit.ipynb"
        assert running.read_notebook(pages / file).cells[0].source == "# 02_vit <&>"
        up = "../" if place else ""
        page = (pages / place / "02_vit.html").read_text("utf-8")
        assert f'<a href="{up}{file}">{WORDS[lang]["download"]}</a>' in page
    search = (pages / "static" / "search-en.js").read_text("utf-8")
    assert search.startswith('window.bookSections = [["02_vit.html#') and search.endswith("]];\n")


def test_the_drawing_of_the_whole_model_is_described_and_has_the_pages_colours():
    drawing = site.whole_model()
    assert 'aria-label="An image and a question enter' in drawing and 'width="820"' in drawing
    assert not [colour for colour in ON_ANY_PAPER if colour in drawing]


def test_a_published_notebook_is_opened_in_five_places():
    address = publishing.Address("o", "n", "a/b")
    assert [(one["name"], one["address"]) for one in site.launch_places("notebooks/x.ipynb", address)] == [
        ("Colab", "https://colab.research.google.com/github/o/n/blob/a%2Fb/notebooks/x.ipynb"),
        (
            "Kaggle",
            "https://kaggle.com/kernels/welcome?src=https://github.com/o/n/blob/a%252Fb/notebooks/x.ipynb",
        ),
        ("Codespaces", "https://codespaces.new/o/n?ref=a%2Fb"),
        ("Binder", "https://mybinder.org/v2/gh/o/n/a%2Fb?labpath=notebooks%2Fx.ipynb"),
        ("GitHub", "https://github.com/o/n/blob/a%2Fb/notebooks/x.ipynb"),
    ]
