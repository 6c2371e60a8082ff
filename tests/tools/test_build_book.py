"""tools/build_book.py: from an executed notebook to pages that open from a folder, and what is refused."""

import base64
import gzip
import json
import re
from pathlib import Path

import build_book
import nbformat
import numpy as np
import publishing
import pytest
from book import cells, exercises, running, site, speaking, widgets
from book.links import check_links
from book.words import WORDS
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from vlmcourse.widgets.base import AskedWidget, script
from vlmcourse.workbook.chapters import CHAPTERS

ROOT = Path(__file__).parents[2]
TITLE = """\
# 02 · A title

See [chapter 00](00_start_here.ipynb#cell-id=map), [this](02_vit.ipynb#cell-id=run) and [terms](INDEX.md).

## A part with `code`

| a | b |
|---|---|
| 1 | 2 |"""
SHOWS = """\
import numpy as np
from vlmcourse.widgets.quiz import Quiz
from vlmcourse.widgets.search import TextToImageSearch
import numpy as np

print("thirty\\rforty", np.zeros(1).shape)
grey = np.full((2, 4, 4, 3), 9, np.uint8)
display(TextToImageSearch(lambda text: [len(text), 3], grey, ["a", "b"], suggestions=["a", "long"]))
Quiz("Is `it`?", [("yes", True, "It is."), ("no", False, "It is not.")])"""
STUB = """\
@exercise(vit.patchify)
def patchify(images, size):
    raise NotImplementedError"""
PIXEL = base64.b64decode(
    b"iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def edition(folder: Path, *found, name: str = "02_vit") -> running.Notebook:
    """A notebook of these cells."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.ipynb"
    nbformat.write(new_notebook(cells=list(found)), path)
    return running.Notebook(name, "en", path)


def built(tmp_path: Path, *found, name: str = "02_vit", **options) -> str:
    """The main part of the page of a notebook that is as if it had been executed."""
    notebook = edition(tmp_path / "notebooks", *found, name=name)
    site.Site(tmp_path / "site", "en", ["en"], **options).fill([notebook], {notebook: notebook.path})
    return (tmp_path / "site" / f"{name}.html").read_text(encoding="utf-8")


def shows(data: dict, **metadata) -> dict:
    return new_output("display_data", data, metadata=metadata)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A notebook that really ran became a site: the folder of both, and the command's options."""
    folder = tmp_path_factory.mktemp("book")
    text, code = new_markdown_cell(TITLE, id="title"), new_code_cell(SHOWS, id="run")
    edition(folder / "notebooks", text, code, new_code_cell(STUB.replace("@exercise(vit.patchify)\n", "")))
    (folder / "notebooks" / "INDEX.md").write_text(
        "# Index\n\nHead.\n\n## Group\n\n[a](02_vit.ipynb#cell-id=run)\n"
    )
    options = ["--root", folder / "notebooks", "--out", folder / "site", "--cache", folder / "cache"]
    options = [*map(str, options), "--processes", "1"]
    assert build_book.main([*options, "02_vit"]) == 0
    return folder, options


def test_a_notebook_becomes_a_page_with_what_its_run_has_shown(made):
    page = (made[0] / "site" / "02_vit.html").read_text(encoding="utf-8")
    assert "<h1 id=" in page and ">02 · A title</h1>" in page and "forty (1,)" in page
    assert "thirty" not in page.partition("<main")[2].partition('class="output"')[2]  # it was written over
    assert page.count("data-widget=") == 2 and 'data-widget="Quiz"' in page
    assert 'id="title"' in page and 'id="run"' in page
    assert 'href="terms.html"' in page and 'href="02_vit.html#run"' in page
    assert "chapter 00" in page and "00_start_here.html" not in page  # which is not built here


def test_the_data_of_a_widget_lie_beside_the_page_with_the_answers_of_its_buttons(made):
    page = (made[0] / "site" / "02_vit.html").read_text(encoding="utf-8")
    scripts = [path.read_text() for path in (made[0] / "site" / "static" / "data").iterdir()]
    told = [unpacked(text.split(" = ")[1].strip(" ';\n")) for text in scripts]
    names = [re.search(r"\['(.*?)'\]", text)[1] for text in scripts]
    assert sorted(names) == sorted(re.findall(r'data-state="(.*?)"', page))
    search, quiz = sorted(told, key=lambda one: "choices" in one["state"])
    assert quiz["state"]["question"] == "Is `it`?" and quiz["recorded"] == {}
    answers = search["recorded"]["query"]
    assert set(answers) == {"a", "long", ""}
    first = {query: answers[query]["answer"]["results"][0]["label"] for query in ("a", "long")}
    assert first == {"a": "b", "long": "a"}
    assert len(base64.b64decode(answers["a"]["pixels"]["base64"])) == 2 * 4 * 4 * 3
    assert "_esm" not in page and "static/widgets/Quiz.js" in page


def unpacked(text: str) -> dict:
    """What book.js reads from the data of a widget."""
    data = gzip.decompress(base64.b64decode(text))
    return json.loads(data[4 : 4 + int.from_bytes(data[:4], "little")])


def test_a_second_build_executes_nothing_until_notebook_or_package_change(
    made, tmp_path, monkeypatch, capsys
):
    folder, options = made
    monkeypatch.setattr(running, "execute", None)
    assert (
        build_book.main(options) == 0 and "1 of 1 notebooks are executed already" in capsys.readouterr().out
    )
    notebook = running.Notebook("02_vit", "en", folder / "notebooks" / "02_vit.ipynb")
    before = running.kept(notebook, folder, "package")
    assert running.kept(notebook, folder, "another") != before
    copy = nbformat.read(notebook.path, as_version=4)
    hidden = new_code_cell("bring()", metadata={"tags": ["remove-cell"]})
    for found, same in ((hidden, True), (new_code_cell("1 + 1"), False)):
        copy.cells.append(found)
        nbformat.write(copy, tmp_path / "02_vit.ipynb")
        changed = notebook._replace(path=tmp_path / "02_vit.ipynb")
        assert (running.kept(changed, folder, "package") == before) == same


def test_the_hash_of_the_package_is_that_of_its_code(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.py").write_text("1")
    first = running.package_hash(tmp_path)
    (tmp_path / "notes.txt").write_text("nothing runs this")
    assert running.package_hash(tmp_path) == first
    (tmp_path / "deep" / "a.py").write_text("2")
    second = running.package_hash(tmp_path)
    (tmp_path / "deep" / "a.py").rename(tmp_path / "deep" / "b.py")
    assert len({first, second, running.package_hash(tmp_path)}) == 3


def test_a_notebook_that_fails_stops_the_build_and_is_named(tmp_path, capsys):
    edition(tmp_path, new_code_cell("1 / 0", id="broken"), name="03_cnn_vs_vit")
    options = ["--root", tmp_path, "--out", tmp_path / "site", "--cache", tmp_path / "cache"]
    assert build_book.main([*map(str, options), "--processes", "1"]) == 1
    said = capsys.readouterr().err
    assert "03_cnn_vs_vit (en)" in said and "ZeroDivisionError" in said
    assert build_book.main([*map(str, options), "99_nowhere"]) == 1
    assert "99_nowhere" in capsys.readouterr().err


def test_an_exercise_stays_open_with_hints_and_solution_behind_a_click(tmp_path):
    card = shows({"text/plain": "○ vit.patchify: not written yet.", "text/html": "<p>not written yet</p>"})
    page = built(tmp_path, new_code_cell(STUB, id="patchify", outputs=[card]))
    assert "not written yet" not in page and page.count("<details>") == 4
    folded = re.findall(r"<details><summary>(.*?)</summary>", page)
    assert folded == ["Hint 1 of 3", "Hint 2 of 3", "Hint 3 of 3", "Solution"]
    assert "split axes with reshape" in page and "permute" in page.partition("Solution")[2]
    with pytest.raises(LookupError, match="no_such"):
        exercises.help_with("02_vit", "no_such", "en")


def test_every_exercise_of_the_course_has_its_help_and_every_chapter_its_row():
    from vlmcourse.exercises.base import all_exercises

    for task in all_exercises().values():
        for lang in WORDS:
            help = exercises.help_with(task.chapter, task.slot.__name__, lang)
            assert help.count("<details>") == len(task.hints) + 1
    rows = site.TABLE_ROW.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    assert [row[0] for row in rows] == [chapter.name for chapter in CHAPTERS if chapter.ready]
    assert set(WORDS["en"]) == set(WORDS["ja"])


def test_a_widget_that_asks_a_model_shows_its_picture_and_says_why():
    from vlmcourse.widgets import chat, occlusion, pages, playground  # noqa: F401

    asking = {
        kind.__name__ for kind in AskedWidget.__subclasses__() if kind.__module__.startswith("vlmcourse")
    }
    assert asking <= widgets.NEEDS_KERNEL


def test_a_playground_brings_its_model_along_if_the_page_can_ask_it():
    from vlmcourse.diagnostics.alternatives import answers_for
    from vlmcourse.families.making import load_speaker
    from vlmcourse.widgets.playground import ScenePlayground
    from vlmcourse.world.scenes import sample

    speaker = load_speaker("nano-vlm")[0]
    world, own = sample("test", 1), answers_for(speaker)
    assert speaking.speaker_of(ScenePlayground(*own, world)) is speaker.model
    assert speaking.speaker_of(ScenePlayground(*own, world, others={"other": own})) is None
    other = ScenePlayground(lambda *_: {"answer": "", "choices": [], "attention": None}, lambda _: "", world)
    assert speaking.speaker_of(other) is None
    told = speaking.written(speaker.model)
    assert (
        told["special"][4] == "<image>" and told["vocabulary"][4] == "<image>" and len(told["merges"]) > 100
    )
    half = np.frombuffer(base64.b64decode(told["tensors"]["vision.class_token"]), np.float16)
    assert np.array_equal(half, speaker.model.vision.class_token.detach().half().numpy())
    assert "language.head.weight" not in told["tensors"]
    speaker.model.projector.contract = None
    assert not speaking.readable(speaker.model)


def live(kind: str, **state) -> tuple[dict, dict]:
    """An output that shows a widget, and the metadata of the notebook that keeps its data."""
    module = {"Quiz": "quiz", "ScenePlayground": "playground"}[kind]
    model = {"_anywidget_id": f"vlmcourse.widgets.{module}.{kind}", "_esm": "an older one", **state}
    kept = {"a1": {"model_name": "AnyModel", "state": model, "buffers": []}}
    view = {"application/vnd.jupyter.widget-view+json": {"model_id": "a1"}, "text/plain": kind}
    return shows(view), {"widgets": {widgets.STATE: {"state": kept}}}


@pytest.mark.parametrize("kind, runs", [("Quiz", True), ("ScenePlayground", False)])
def test_the_picture_beside_a_widget_is_for_pages_where_it_cannot_run(tmp_path, kind, runs):
    widget, metadata = live(kind)
    still = shows({"image/png": base64.b64encode(PIXEL).decode()},
                  **{"image/png": {"alt": "A picture", "unconfined": True, "width": 7}})  # fmt: skip
    between = new_output("stream", text="training", name="stdout")
    notebook = edition(tmp_path, new_code_cell("quiz", id="q", outputs=[widget, between, still]))
    copy = nbformat.read(notebook.path, as_version=4)
    copy.metadata.update(metadata)
    nbformat.write(copy, notebook.path)
    site.Site(tmp_path / "site", "en", ["en"]).fill([notebook], {notebook: notebook.path})
    page = (tmp_path / "site" / "02_vit.html").read_text(encoding="utf-8")
    picture = '<img class="still" src="images/'
    assert (f"<noscript>{picture}" in page) == runs and picture in page
    assert ("an older one" in page) is False and ("static/widgets/Quiz.js" in page) == runs
    assert ("data-widget=" in page) == runs and (WORDS["en"]["kernel"] in page) != runs
    assert [path.read_bytes() for path in (tmp_path / "site" / "images").iterdir()] == [PIXEL]


def test_a_picture_needs_a_description(tmp_path):
    still = shows({"image/png": base64.b64encode(PIXEL).decode()})
    with pytest.raises(ValueError, match="'q' shows a picture without a description"):
        built(tmp_path, new_code_cell("plot()", id="q", outputs=[still]))


def test_cells_that_only_a_notebook_needs_are_left_out(tmp_path):
    colab = new_code_cell("install()", id="colab-cell", metadata={"tags": ["remove-cell"]})
    page = built(tmp_path, colab, new_markdown_cell("# Title", id="title"))
    assert "colab-cell" not in page and "install()" not in page and 'id="title"' in page


def test_two_drawings_of_a_page_share_no_id_and_lose_those_that_nothing_refers_to(tmp_path):
    svg = '<svg><g id="axes_1"><clipPath id="c1"/></g><use href="#c1"/><path clip-path="url(#c1)"/>{}</svg>'
    found = [shows({"text/html": svg.format(n)}) for n in "ab"]
    page = built(tmp_path, new_code_cell("plot()", id="p", outputs=found))
    assert "axes_1" not in page and len(set(re.findall(r'<clipPath id="(p-\w+-c1)"', page))) == 2
    assert len(re.findall(r"(?:url\(|href=\")#p-\w+-c1", page)) == 4
    assert check_links(tmp_path / "site").problems == []


def test_headings_and_cells_with_the_same_name_have_their_own_anchors(tmp_path):
    page = built(tmp_path, new_markdown_cell("## Quiz\n\n## Quiz", id="quiz"))
    assert re.findall(r'<h2 id="([^"]+)"', page) == ["quiz-2", "quiz-3"]
    assert page.count('href="#quiz-2"') == 1


def test_text_of_code_and_outputs_is_escaped(tmp_path):
    stream = new_output("stream", text="<b>&\x1b[31mred\x1b[0m", name="stdout")
    page = built(tmp_path, new_code_cell("'<script>'", id="c", outputs=[stream]))
    assert "&lt;b&gt;&amp;red" in page and "&lt;script&gt;" in page and "'<script>'" not in page


def test_the_search_knows_each_section_by_its_words(tmp_path):
    text = new_markdown_cell("# Title\n\nBegin.\n\n## Part\n\nOne *word*.\n\n### Deep\n\nMore.", id="t")
    built(tmp_path, text, new_code_cell("unusual_name = 1", id="c"))
    script = (tmp_path / "site" / "static" / "search-en.js").read_text(encoding="utf-8")
    entries = json.loads(script.removeprefix("window.bookSections = ").rstrip(";\n"))
    assert [entry[:3] for entry in entries] == [
        ["02_vit.html#title", "Title", "Title"],
        ["02_vit.html#part", "Title", "Part"],
        ["02_vit.html#deep", "Title", "Deep"],
    ]
    assert [entry[3] for entry in entries] == ["Begin.", "One word.", "More. unusual_name = 1"]


def test_the_search_leads_from_a_term_of_the_index_to_the_cell_that_teaches_it(tmp_path):
    head = "\n## Group\n\n| {} | {} | {} |\n| --- | --- | --- |\n"
    first, second = "[02 · A part](02_vit.ipynb#cell-id=c)", "[02 · Title](02_vit.ipynb#cell-id=t)"
    index = "# Index\n\nHead.\n" + head.format("term", "taught", "proved")
    index += f"| LoRA, `r` | {first}<br>{second} | {second} |\n"
    index += "| elsewhere | [03 · Far](03_cnn.ipynb#cell-id=c) | [03](03_cnn.ipynb#cell-id=c) |\n"
    index += head.format("word", "means", "introduced in") + f"| **rank** | how *many* | {second} |\n"
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "INDEX.md").write_text(index, encoding="utf-8")
    built(tmp_path, new_markdown_cell("# 02 · Title", id="t"), new_code_cell("x = 1", id="c"))
    script = (tmp_path / "site" / "static" / "search-en.js").read_text(encoding="utf-8")
    entries = json.loads(script.removeprefix("window.bookSections = ").rstrip(";\n"))
    assert entries[0] == ["02_vit.html#c", "02 · Title", "LoRA, r", "02 · A part"]
    assert entries[1] == ["02_vit.html#t", "02 · Title", "rank", "how many 02 · Title"]
    assert len(entries) == 3 and entries[2][2] == "02 · Title"  # a chapter that is not built is not found


def test_chapters_open_elsewhere_only_if_a_repository_is_known(tmp_path):
    page = built(tmp_path / "a", new_markdown_cell("# T"))
    assert "colab.research" not in page and 'href="notebooks/02_vit.ipynb"' in page
    title = new_markdown_cell("# T\n\n[![Open in Colab](https://x.y/badge.svg)](https://x.y/)\n\nText")
    address = publishing.address_of("https://github.com/some-one/vlm.course", "v1")
    page = built(tmp_path / "b", title, repository=address)
    place = "some-one/vlm.course/blob/v1/notebooks/02_vit.ipynb"
    assert f"https://colab.research.google.com/github/{place}" in page
    assert f"https://kaggle.com/kernels/welcome?src=https://github.com/{place}" in page
    assert "https://mybinder.org/v2/gh/some-one/vlm.course/v1?labpath=notebooks%2F02_vit.ipynb" in page
    assert "https://codespaces.new/some-one/vlm.course?ref=v1" in page
    assert "badge.svg" not in page and "Text" in page  # the page asks for nothing elsewhere


def test_the_japanese_edition_lies_deeper_and_each_links_to_the_other(tmp_path):
    english = edition(tmp_path / "n", new_markdown_cell("# Title"))
    japanese = edition(tmp_path / "n" / "ja", new_markdown_cell("# 題"))._replace(lang="ja")
    for notebook in (english, japanese):
        site.Site(tmp_path / "site", notebook.lang, ["en", "ja"]).fill([notebook], {notebook: notebook.path})
    page = (tmp_path / "site" / "ja" / "02_vit.html").read_text(encoding="utf-8")
    assert '<html lang="ja"' in page and WORDS["ja"]["here"] not in WORDS["en"]["here"]
    assert 'hreflang="en" href="../02_vit.html"' in page and 'href="../static/book.css"' in page
    assert 'hreflang="ja" href="ja/02_vit.html"' in (tmp_path / "site" / "02_vit.html").read_text("utf-8")
    assert check_links(tmp_path / "site").problems == []


def test_the_site_keeps_no_places_of_the_machine(tmp_path):
    place = tmp_path / "notebooks"
    text = f"{place}/my_vlm {running.ROOT}/vlmcourse {Path.home()}/.cache"
    assert running.without_places(text, place) == "notebooks/my_vlm ./vlmcourse ~/.cache"


def test_a_script_that_imports_or_exports_more_is_refused():
    text = widgets.as_function("Quiz", script("quiz.js"))
    assert "export" not in text.replace("exports", "") and 'vlmWidgets ??= {})["Quiz"]' in text.replace(
        "'", '"'
    )
    for wrong in ("import x from 'y';\n" + script("quiz.js"), "const a = 1;", script("quiz.js") * 2):
        with pytest.raises(ValueError, match="must import nothing and export once"):
            widgets.as_function("Quiz", wrong)


def test_buffers_come_back_in_their_order():
    places = [np.arange(3, dtype=np.uint8), np.arange(5, dtype=np.uint8)]
    buffers = [
        {"path": ["blobs", str(k)], "data": base64.b64encode(a.tobytes())} for k, a in enumerate(places)
    ]
    widget = widgets.WidgetState("X", "", {"blobs": {}}, buffers, {})
    data = gzip.decompress(base64.b64decode(widgets.packed_data(widget)))
    told = unpacked(widgets.packed_data(widget))
    assert told["buffers"] == [[["blobs", "0"], 3], [["blobs", "1"], 5]]
    assert data.endswith(bytes([0, 1, 2, 0, 1, 2, 3, 4]))


PAGE = '<html><a id="here" href="#here"></a>{}</html>'


@pytest.mark.parametrize(
    ("markup", "problem"),
    [
        ('<a href="b.html#there"></a>', ""),
        ('<a href="https://a.b/c#d"></a><img src="deep/x.png"><img srcset="deep/x.png 2x">', ""),
        ('<a href="mailto:a@b.c"></a><img src="data:image/png;base64,AA">', ""),
        ('<a href="deep/a%20b.png"></a><a href="b.html#the%20last"></a>', ""),
        ('<div data-index="none.js"></div>', "none.js is not there"),
        ('<video poster="none.png"></video>', "none.png is not there"),
        ('<a href="deep/x.png#part"></a>', "deep/x.png#part has no such place"),
        ('<a href="https://[b/"></a>', "https://[b/ is no address"),
        ('<a href="#gone"></a>', "#gone has no such place"),
        ('<a href="b.html#gone"></a>', "b.html#gone has no such place"),
        ('<a href="c.html"></a>', "c.html is not there"),
        ('<img srcset="deep/x.png, y.png 2x">', "y.png is not there"),
        ('<script src="/x.js"></script>', "/x.js does not work from a folder"),
        ('<link href="//cdn.net/x.css">', "//cdn.net/x.css does not work from a folder"),
        ('<a href="file:///x.html"></a>', "file:///x.html does not work from a folder"),
        ('<a href="../outside.html"></a>', "../outside.html leads out of the site"),
        ('<a href="deep"></a>', "deep is not there"),
        ('<p id="here"></p>', "the id 'here' stands twice"),
    ],
)
def test_links_that_lead_nowhere_are_found(tmp_path, markup, problem):
    folder = tmp_path / "site"
    (folder / "deep").mkdir(parents=True)
    for name in ("x.png", "a b.png"):
        (folder / "deep" / name).write_bytes(PIXEL)
    (tmp_path / "outside.html").write_text("")
    (folder / "a.html").write_text(PAGE.format(markup))
    (folder / "b.html").write_text('<p id="there"></p><p id="the last"></p>')
    checked = check_links(folder)
    assert checked.pages == 2 and checked.links >= 1
    assert len(checked.problems) == bool(problem)
    assert not problem or checked.problems[0].startswith(f"a.html: {problem}")


def test_a_site_that_is_too_large_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(build_book, "MOST_BYTES", 10_000)
    notebook = edition(tmp_path / "n", new_markdown_cell("# Title"))
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "02_vit-en-x.ipynb").write_bytes(notebook.path.read_bytes())
    options = ["--root", tmp_path / "n", "--out", tmp_path / "site", "--cache", cache]
    assert build_book.main([*map(str, options), "--reuse"]) == 1
    assert "larger than" in capsys.readouterr().err


def test_what_is_printed_is_as_a_terminal_leaves_it():
    assert ">b\nc</pre>" in cells.printed("a\rb\nc\n") and cells.printed("\n") == ""
    warned = new_output("stream", text="a library warns", name="stderr")
    assert cells.output(warned, "c", None, None) == ""


def test_of_a_line_that_went_back_to_its_beginning_what_stands_there_is_shown():
    assert ">done</pre>" in cells.printed("half\rdone\r\n") and ">100%</pre>" in cells.printed("9%\r100%\r")
    hidden = "\x1b[?25l\x1b]8;;https://a.b\x1b\\\\name\x1b]8;;\x07\x1b[1;31mred\x1b[0m\x1b[?25h".replace(
        "\\\\", "\\"
    )
    assert cells.printed(hidden) == '<pre class="printed stdout">namered</pre>'


@pytest.mark.parametrize(
    "kind", ["image/jpeg", "image/svg+xml", "text/markdown", "text/latex", "application/javascript"]
)
def test_what_the_book_cannot_show_is_refused_with_its_place(tmp_path, kind):
    found = shows({kind: "x", "text/plain": "<IPython.core.display.X object>"})
    with pytest.raises(ValueError, match=rf"02_vit \(en\), cell 'q': .* shows {re.escape(kind)}, which"):
        built(tmp_path, new_code_cell("plot()", id="q", outputs=[found]))


def test_a_cell_that_is_no_python_or_has_a_heading_of_its_own_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"02_vit \(en\), cell 'c': this cell asks .* is no Python"):
        built(tmp_path, new_code_cell(f"%time\n{STUB}", id="c"))
    with pytest.raises(ValueError, match=r"02_vit \(en\), cell 'h': "):
        built(tmp_path, new_markdown_cell('# T\n\n<h2 id="x">Part</h2>', id="h"))


def test_the_same_drawing_twice_in_one_cell_shares_no_id(tmp_path):
    svg = shows({"text/html": '<svg><clipPath id="c1"/><use href="#c1"/></svg>'})
    page = built(tmp_path, new_code_cell("plot()", id="p", outputs=[svg, svg]))
    assert len(set(re.findall(r'<clipPath id="(p-[\w-]+-c1)"', page))) == 2
    assert check_links(tmp_path / "site").problems == []


def test_links_over_two_lines_to_what_is_not_built_are_left_out(tmp_path):
    page = built(tmp_path, new_markdown_cell("# T\n\nSee [chapter\nthree](03_cnn_vs_vit.ipynb).", id="t"))
    assert "chapter\nthree" in page and "03_cnn_vs_vit.html" not in page


def test_pictures_are_found_by_their_names_and_two_of_a_name_are_refused(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    for folder in "ab":
        (tmp_path / folder / "an eye.png").write_bytes(PIXEL)
    text = "# T\n\n![one](<../a/an eye.png>) ![two](<../b/an eye.png>) ![three](data:image/png;base64,AA)"
    page = built(tmp_path, new_markdown_cell(text, id="t"))
    assert page.count('src="figures/an%20eye.png"') == 2 and 'src="data:image/png;base64,AA"' in page
    assert check_links(tmp_path / "site").problems == []
    (tmp_path / "b" / "an eye.png").write_bytes(PIXEL + b"2")
    with pytest.raises(ValueError, match=r"another picture is called an eye\.png, too"):
        built(tmp_path / "c" / "..", new_markdown_cell(text, id="t"))
    for gone in ("gone.png", "a"):
        with pytest.raises(ValueError, match=rf"cell 't': 02_vit\S* shows \.\./{gone}, which is not there"):
            built(tmp_path, new_markdown_cell(f"# T\n\n![x](../{gone})", id="t"))


@pytest.mark.parametrize("address", ["http://[a.html", "a%00.html", "x" * 5000])
def test_an_address_that_is_none_is_told(tmp_path, address):
    (tmp_path / "a.html").write_text(f'<a href="{address}"></a>')
    assert check_links(tmp_path).problems == [f"a.html: {address} is no address"]


@pytest.fixture
def simple(tmp_path):
    """A notebook that needs no run, and the options of a build of it."""
    notebook = edition(tmp_path / "n", new_markdown_cell("# Title", id="t"))
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "02_vit-en-x.ipynb").write_bytes(notebook.path.read_bytes())
    options = ["--root", tmp_path / "n", "--out", tmp_path / "site", "--cache", tmp_path / "cache", "--reuse"]
    return tmp_path, list(map(str, options))


def test_a_site_replaces_a_site_and_nothing_else(simple, capsys):
    folder, options = simple
    assert build_book.main(options) == 0
    (folder / "site" / "old.html").write_text("of an earlier build")
    assert build_book.main(options) == 0 and not (folder / "site" / "old.html").exists()
    mine = folder / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years")
    (folder / "file").write_text("mine")
    capsys.readouterr()
    for name, says in (("mine", "holds files that are no site"), (".", "holds what the site is made from"),
                       ("file", "is a file"), ("n", "holds what the site is made from"),
                       ("cache", "holds what the site is made from")):  # fmt: skip
        assert build_book.main([*options, "--out", str(folder / name)]) == 1
        assert says in capsys.readouterr().err
    assert (mine / "thesis.txt").read_text() == "years" and (folder / "file").read_text() == "mine"
    assert (folder / "n" / "02_vit.ipynb").is_file() and not list(folder.glob("*.writing"))


def test_a_build_that_fails_leaves_the_earlier_site_as_it_was(simple, capsys):
    folder, options = simple
    assert build_book.main(options) == 0
    before = {path: path.read_bytes() for path in (folder / "site").rglob("*") if path.is_file()}
    kept = edition(folder / "k", new_markdown_cell("# Other\n\n![x](gone.svg)", id="t"))
    (folder / "cache" / "02_vit-en-x.ipynb").write_bytes(kept.path.read_bytes())
    assert build_book.main(options) == 1 and "gone.svg, which is not there" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in (folder / "site").rglob("*") if path.is_file()} == before
    assert not list(folder.glob("*.writing"))


@pytest.mark.parametrize("text", [
    "", "[1]", '{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}',
    '{"cells": [{"cell_type": "markdown", "source": "x", "metadata": {}}], "metadata": {}, "nbformat": 4, '
    '"nbformat_minor": 4}',
])  # fmt: skip
@pytest.mark.parametrize("where", ["n/02_vit.ipynb", "cache/02_vit-en-x.ipynb"])
def test_a_file_that_is_no_notebook_is_named(simple, capsys, text, where):
    folder, options = simple
    (folder / where).write_text(text)
    assert build_book.main(options) == 1
    assert str(folder / where) in capsys.readouterr().err


def test_a_kept_run_is_another_where_a_cell_has_another_name_or_kind_or_a_checkpoint_changes(tmp_path):
    cell = new_code_cell("1", id="a")
    first = running.kept(edition(tmp_path, cell), tmp_path, "p")
    assert running.kept(edition(tmp_path, new_code_cell("1", id="b")), tmp_path, "p") != first
    assert running.kept(edition(tmp_path, new_markdown_cell("1", id="a")), tmp_path, "p") != first
    assert running.kept(edition(tmp_path, cell), tmp_path, "p") == first
    (tmp_path / "package").mkdir()
    weights = tmp_path / "assets" / "checkpoints" / "x.safetensors"
    weights.parent.mkdir(parents=True)
    hashes = set()
    for data in (b"1", b"2"):
        weights.write_bytes(data)
        hashes.add(running.package_hash(tmp_path / "package"))
    assert len(hashes) == 2


def test_a_run_knows_no_persons_answers(monkeypatch):
    monkeypatch.setenv("VLMCOURSE_KEEP", "/drive")
    monkeypatch.setenv("VLMCOURSE_WORKSPACE", "/mine")
    told = running.environment()
    assert not {"VLMCOURSE_KEEP", "VLMCOURSE_WORKSPACE"} & set(told) and told["VLMCOURSE_REFERENCE"] == "1"


def test_only_whole_names_of_folders_are_left_out_and_no_letters_of_a_picture(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", "/app")
    coded = "iVBOR/app/app+w0K/appz=="
    found = {
        "image/png": coded,
        "text": ["at\n/app/x file:///app/y", "/application /mnt/app/z '/app'"],
        "n": 3,
    }
    told = running.without_places(found, tmp_path)
    assert told["image/png"] == coded and told["n"] == 3
    assert told["text"] == ["at\n~/x file://~/y", "/application /mnt/app/z '~'"]


def test_a_kernel_that_never_comes_is_told_with_the_notebook(tmp_path, monkeypatch):
    from nbclient import NotebookClient

    def never(self, **_):
        assert self.startup_timeout == running.SECONDS_TO_START
        raise RuntimeError("Kernel didn't respond in 300 seconds")

    monkeypatch.setattr(NotebookClient, "execute", never)
    with pytest.raises(running.RunError, match=r"02_vit \(en\): Kernel didn't respond"):
        running.execute(edition(tmp_path, new_code_cell("1")), tmp_path / "copy.ipynb")
    assert not (tmp_path / "copy.ipynb").exists()
