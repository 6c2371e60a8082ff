"""The builder: one source gives every edition, byte for byte the same, and edits come back."""

import importlib.util
import json
import re
from pathlib import Path

import nbformat
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

TOOL = Path(__file__).resolve().parents[2] / "tools" / "build_notebooks.py"
spec = importlib.util.spec_from_file_location("build_notebooks", TOOL)
builder = importlib.util.module_from_spec(spec)
spec.loader.exec_module(builder)

ENGLISH = """\
# %% [markdown] id="title" lang="en"
# # A chapter
#
# ![eye](../assets/figures/eye.svg)

# %% id="setup"
from vlmcourse.workbook import begin
begin("02_vit", lang="en")

# %% id="boom" tags=["raises-exception"]
def fall():
    raise ValueError("on purpose")


fall()
"""
HASH = builder.text_hash("# A chapter\n\n![eye](../assets/figures/eye.svg)")
JAPANESE = ENGLISH.replace(
    '# %% id="setup"',
    f'# %% [markdown] id="title" lang="ja" of="{HASH}"\n# # ある章\n#\n# ![目](../assets/figures/eye.svg)\n\n'
    '# %% id="setup"',
)


@pytest.fixture
def root(tmp_path):
    (tmp_path / "src").mkdir()
    return tmp_path


def write(root, text, name="02_vit"):
    (root / "src" / f"{name}.py").write_text(text, encoding="utf-8")


def edit(path, change):
    notebook = nbformat.read(path, as_version=4)
    change(notebook.cells)
    nbformat.write(notebook, path)


def source(root, name="02_vit"):
    return (root / "src" / f"{name}.py").read_text(encoding="utf-8")


def problems(root, text):
    write(root, text)
    with pytest.raises(builder.BuildError) as caught:
        builder.build(root)
    assert list(root.glob("*.ipynb")) == [], "nothing is written when a source has a problem"
    return str(caught.value)


def test_chapter_without_japanese_builds_only_the_english_edition(root):
    write(root, ENGLISH)
    assert builder.build(root) == ["02_vit.ipynb"]
    cells = json.loads((root / "02_vit.ipynb").read_text())["cells"]
    assert [cell["id"] for cell in cells] == ["title", "away", "setup", "boom"]
    assert [cell["metadata"] for cell in cells[::2]] == [{}, {}]
    assert cells[3]["metadata"] == {"tags": ["raises-exception"]}
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells[1:])
    assert not (root / "ja").exists()


def test_editions_share_code_and_differ_in_text_language_and_paths(root):
    write(root, JAPANESE)
    assert builder.build(root) == ["02_vit.ipynb", "ja/02_vit.ipynb"]
    english, japanese = (
        nbformat.read(root / p, as_version=4).cells for p in ("02_vit.ipynb", "ja/02_vit.ipynb")
    )
    assert [cell.id for cell in english] == [cell.id for cell in japanese]
    assert "A chapter" in english[0].source and "(../assets/" in english[0].source
    assert "ある章" in japanese[0].source and "(../../assets/" in japanese[0].source
    assert english[1].source == japanese[1].source
    assert english[2].source == japanese[2].source.replace('lang="ja"', 'lang="en"') != japanese[2].source
    assert english[3].source == japanese[3].source


def test_second_build_and_check_find_nothing_to_do(root):
    write(root, JAPANESE)
    builder.build(root)
    first = {path: path.read_bytes() for path in root.rglob("*.ipynb")}
    assert builder.build(root) == [] and builder.build(root, check=True) == []
    for path in first:
        path.unlink()
    builder.build(root)
    assert {path: path.read_bytes() for path in first} == first
    assert all(text.endswith(b"}\n") and b'"widgets"' not in text for text in first.values())


def test_check_names_what_is_stale_and_writes_nothing(root, capsys):
    write(root, ENGLISH)
    builder.build(root)
    write(root, ENGLISH.replace("A chapter", "Another chapter"))
    before = (root / "02_vit.ipynb").read_bytes()
    assert builder.main(["--check", "--root", str(root)]) == 1
    assert "stale: 02_vit.ipynb" in capsys.readouterr().out
    assert (root / "02_vit.ipynb").read_bytes() == before


def test_notebook_without_a_source_fails_the_check_but_a_copy_made_in_jupyterlab_does_not(root):
    write(root, ENGLISH)
    builder.build(root)
    for name in ("03_gone.ipynb", "02_vit-Copy1.ipynb", "scratch.ipynb"):
        (root / name).write_text("{}")
    assert builder.build(root, check=True) == ["03_gone.ipynb (has no source; delete it)"]
    assert (root / "03_gone.ipynb").exists()


def test_changed_english_stops_the_build_and_gives_the_new_hash(root):
    changed = JAPANESE.replace("# # A chapter", "# # A better chapter")
    message = problems(root, changed)
    new_hash = re.search(r'write of="(\w{8})"', message)[1]
    assert "'title'" in message and new_hash != HASH
    write(root, changed.replace(HASH, new_hash))
    assert builder.build(root) == ["02_vit.ipynb", "ja/02_vit.ipynb"]


TEXT = '# %% [markdown] id="{}" lang="{}"\n# words\n\n'


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("# %%\nx = 1\n", "cell number 1 ('x = 1') has no id"),
        ('# %% id="two words"\nx = 1\n', "1 to 64 letters"),
        ('# %% id="a"\nx = 1\n\n# %% id="a"\ny = 2\n', "'a': this id is used twice"),
        (TEXT.format("a", "en") * 2, "'a': this id is used twice"),
        (TEXT.format("a", "fr"), 'lang="en" or lang="ja", not \'fr\''),
        ('# %% [markdown] id="a"\n# words\n', "not None"),
        ('# %% id="a" lang="en"\nx = 1\n', "code stands once"),
        ('# %% id="away"\nx = 1\n', "cell 'away': the builder's own cell has this id"),
        ('# %% id="a" hidden=true\nx = 1\n', "unknown option hidden"),
        (TEXT.format("a", "ja"), "must directly follow the English"),
        (TEXT.format("a", "en") + TEXT.format("b", "en") + TEXT.format("a", "ja"), "must directly follow"),
        ("", "there is no cell"),
        ("x = 1\n", "there is no cell"),
        ("\nwords\n\n" + TEXT.format("a", "en"), "line 2 stands before the first cell"),
        ("# %% id=a\nx = 1\n", "cell number 1 ('x = 1') has no id"),
        ('# %% id="a" tags=["raises"]\nx = 1\n', "unknown tag raises; known are raises-exception"),
        ('# %% id="a" tags=[3]\nx = 1\n', "a cell's options cannot be read"),
        (TEXT.format("a", "en") + "more words\n", "cell 'a', line 4: text is written behind '# '"),
        (TEXT.format("a", "en").replace("words", "```python"), "a block that begins with ``` does not end"),
        (TEXT.format("a", "en") + '# %% id="b"\n%cd ..\n\nx = (\n', "cell 'b', line 7: '(' was never closed"),
        (ENGLISH.replace("def fall():", "def fall()"), "cell 'boom', line 11: expected ':'"),
        (JAPANESE + "\n" + TEXT.format("late", "en"), "'late': the Japanese text is missing"),
    ],
)
def test_broken_source_is_refused_with_the_cell_and_the_rule(root, text, told):
    assert told in problems(root, text)


def test_problems_of_all_sources_are_told_a_line_each_and_nothing_is_written(root, capsys):
    write(root, ENGLISH, name="01_good")
    write(root, ENGLISH.replace("def fall():", "def fall()").replace('id="setup"', 'id="title"'))
    (root / "src" / "03_bytes.py").write_bytes(ENGLISH.encode() + "x = 'é'\n".encode("latin-1"))
    assert builder.main(["--root", str(root)]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "02_vit.py: cell 'title': this id is used twice",
        "02_vit.py: cell 'boom', line 11: expected ':'",
        "03_bytes.py: line 16 is not UTF-8; save the file as UTF-8",
    ]
    assert not list(root.rglob("*.ipynb"))


def test_unknown_chapter_and_badly_named_source_are_refused(root, capsys):
    write(root, ENGLISH)
    assert builder.main(["03_cnn", "--root", str(root)]) == 1
    assert "there is no source 03_cnn.py" in capsys.readouterr().err
    write(root, ENGLISH, name="Chapter 2")
    assert builder.main(["--root", str(root)]) == 1
    assert "NN_name.py" in capsys.readouterr().err


# ---- adopt --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [ENGLISH, JAPANESE])
@pytest.mark.parametrize("edition", ["02_vit.ipynb", "ja/02_vit.ipynb"])
def test_adopting_an_unchanged_notebook_leaves_the_source_untouched(root, text, edition):
    write(root, text)
    builder.build(root)
    if (root / edition).exists():
        assert builder.adopt(root / edition) == []
    assert source(root) == text


def test_changed_code_and_new_cells_come_back_in_their_place(root):
    write(root, JAPANESE)
    builder.build(root)

    def change(cells):
        cells[2].source += "\nx = 1"
        cells.insert(3, nbformat.v4.new_code_cell("grid = 4\ngrid"))
        cells.append(nbformat.v4.new_code_cell(""))

    edit(root / "ja" / "02_vit.ipynb", change)
    assert builder.adopt(root / "ja" / "02_vit.ipynb") == ["changed: setup", "added: grid-4-grid"]
    ids = re.findall(r'id="([\w-]+)"', source(root))
    assert ids == ["title", "title", "setup", "grid-4-grid", "boom"]
    assert 'begin("02_vit", lang="en")\nx = 1' in source(root)
    assert sorted(builder.build(root)) == ["02_vit.ipynb", "ja/02_vit.ipynb"]


def test_changed_english_keeps_the_translation_which_is_then_stale(root):
    write(root, JAPANESE)
    builder.build(root)
    edit(root / "02_vit.ipynb", lambda cells: cells[0].update(source="# A shorter title"))
    assert builder.adopt(root / "02_vit.ipynb") == ["changed: title"]
    assert "ある章" in source(root)
    with pytest.raises(builder.BuildError, match="English text has changed"):
        builder.build(root)
    edit(root / "ja" / "02_vit.ipynb", lambda cells: cells[0].update(source="# 短い題"))
    builder.adopt(root / "ja" / "02_vit.ipynb")
    assert builder.build(root) == [], "the edited notebooks are already what the source now gives"


def test_deleted_moved_and_retyped_cells_are_reported(root):
    write(root, JAPANESE)
    builder.build(root)
    edit(root / "02_vit.ipynb", lambda cells: cells.reverse())
    assert builder.adopt(root / "02_vit.ipynb") == ["changed: the order of the cells"]
    edit(root / "02_vit.ipynb", lambda cells: cells.pop(-1))
    assert builder.adopt(root / "02_vit.ipynb") == ["removed: title"]
    assert "ある章" not in source(root)
    edit(root / "02_vit.ipynb", lambda cells: cells[1].update(cell_type="markdown", source="Only words now"))
    assert builder.adopt(root / "02_vit.ipynb") == ["added: only-words-now", "removed: setup"]


def test_what_cannot_come_back_is_refused_and_the_source_stays(root):
    write(root, JAPANESE)
    builder.build(root)
    edit(root / "02_vit.ipynb", lambda cells: cells[2].update(source='x = 1\n# %% id="sly"\ny = 2'))
    with pytest.raises(builder.BuildError, match="cannot be written as py:percent"):
        builder.adopt(root / "02_vit.ipynb")
    edit(root / "ja" / "02_vit.ipynb", lambda cells: cells.append(nbformat.v4.new_markdown_cell("新しい")))
    with pytest.raises(builder.BuildError, match="English edition first"):
        builder.adopt(root / "ja" / "02_vit.ipynb")
    assert source(root) == JAPANESE


words = (
    st.text("abc αβ漢字 .,*_`$", min_size=1, max_size=30)
    .filter(str.strip)
    .map(lambda text: "w" + text.strip())
)
code = st.sampled_from(
    ["x = 1", "# a comment", "%timeit 1", "def f(x):\n    return x\n\n\nf(2)", "!ls", "'''\ntext\n'''"]
)
cells = st.lists(st.tuples(words, words, st.none() | code), min_size=1, max_size=6)


@settings(max_examples=40, deadline=None)
@given(cells=cells, translated=st.booleans())
def test_building_and_adopting_any_source_is_the_identity(tmp_path_factory, cells, translated):
    root = tmp_path_factory.mktemp("notebooks")
    (root / "src").mkdir()
    parts = []
    for k, (english, japanese, code_text) in enumerate(cells):
        parts.append(f'# %% [markdown] id="text-{k}" lang="en"\n# {english}\n')
        if translated:
            parts.append(
                f'# %% [markdown] id="text-{k}" lang="ja" of="{builder.text_hash(english)}"\n# {japanese}\n'
            )
        if code_text:
            parts.append(f'# %% id="code-{k}"\n{code_text}\n')
    write(root, "\n".join(parts))
    builder.build(root)
    for edition in root.rglob("*.ipynb"):
        assert builder.adopt(edition) == []
        before = edition.read_bytes()
        edit(edition, lambda cells: cells.append(nbformat.v4.new_code_cell("last = 1")))
        assert builder.adopt(edition) == ["added: last-1"]
        edition.write_bytes(before)
        assert builder.adopt(edition) == ["removed: last-1"]
        assert builder.build(root) == []
