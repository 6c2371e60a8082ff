"""The cell that brings the course, and the links of a build for who publishes it."""

import ast
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qs, unquote, urlsplit

import build_notebooks as builder
import nbformat
import publishing
import pytest

ROOT = Path(__file__).resolve().parents[2]
URL = "https://github.com/someone/their-course"
FIGURE = '# %% [markdown] id="title" lang="{}"{}\n# # 02\n#\n# ![an eye]({}assets/figures/vit.svg)\n\n'
SETUP = '# %% id="setup"\nbegin("02_vit", lang="en")\n'
IN_ENGLISH = FIGURE.format("en", "", "../")
OF = ' of="' + builder.text_hash("# 02\n\n![an eye](../assets/figures/vit.svg)") + '"'
SOURCE = IN_ENGLISH + FIGURE.format("ja", OF, "../") + SETUP
PLACES = ["02_vit.ipynb", "ja/02_vit.ipynb"]


@pytest.fixture
def root(tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "02_vit.py").write_text(SOURCE)
    return tmp_path


def cells_of(path):
    return nbformat.read(path, as_version=4).cells


def test_the_cell_has_six_lines_and_stands_below_every_title_hidden_where_that_is_known():
    for address in (None, publishing.Address("o", "n")):
        cell = publishing.away_cell(address)
        lines = cell.source.splitlines()
        assert len(lines) == 6 and len(lines[0]) <= 100 and max(map(len, lines)) <= 110
        assert cell.metadata["jupyter"] == {"source_hidden": True} and cell.metadata["cellView"] == "form"
    chapters = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    assert len(chapters) == 21
    for path in chapters:
        assert [number for number, cell in enumerate(cells_of(path)) if cell.id == "away"] == [1]


@pytest.fixture
def session(tmp_path, monkeypatch):
    """Run the cell in an empty folder; what it asks pip for, and how often it prepares."""
    asked = []
    monkeypatch.chdir(tmp_path)
    shell = SimpleNamespace(run_line_magic=lambda name, line: asked.append((name, line)))
    monkeypatch.setitem(sys.modules, "vlmcourse.away", SimpleNamespace(set_up=lambda: asked.append("set up")))
    monkeypatch.setattr("vlmcourse.away", sys.modules["vlmcourse.away"], raising=False)

    def run(known, address=None):
        asked.clear()
        monkeypatch.setattr("importlib.util.find_spec", lambda name: known or None)
        exec(publishing.away_cell(address).source, {"get_ipython": lambda: shell})
        return list(asked)

    return run


def test_where_the_course_is_nothing_is_installed(session):
    assert session(known=True) == ["set up"]


def test_elsewhere_a_wheel_beside_the_notebook_comes_before_the_address(session, tmp_path):
    address = publishing.Address("o", "n", "v1")
    install = 'install -q --no-deps "{}"'
    assert session(False, address) == [("pip", install.format("git+https://github.com/o/n@v1")), "set up"]
    assert session(False) == [("pip", install.format("vlmcourse-*any.whl")), "set up"]
    (tmp_path / "vlmcourse-0.1.0-py3-none-any.whl").touch()
    for where in (None, address):
        asked = session(False, where)
        assert asked == [("pip", install.format("./vlmcourse-0.1.0-py3-none-any.whl")), "set up"]
    others = (
        "0.2.0-py3-none-any.whl",
        "0.1.5-py3-none-any.whl",
        "0.3.0-py3-none-any (1).whl",
        "0.3.0.tar.gz",
    )
    for name in others:
        (tmp_path / f"vlmcourse-{name}").touch()
    newest = install.format("./vlmcourse-0.2.0-py3-none-any.whl")
    assert session(False) == session(False, address) == [("pip", newest), "set up"]


def test_without_an_address_nothing_points_anywhere(root):
    assert builder.build(root) == PLACES
    for place in PLACES:
        assert "http" not in (root / place).read_text()
        assert "beside this file" in cells_of(root / place)[1].source


def opened_by(link: str) -> tuple[str, str, str, str]:
    """(owner, name, branch, file) that a badge's link opens."""
    parts = urlsplit(link)
    source = parse_qs(parts.query).get("src", [""])[0]  # Kaggle's
    if parts.netloc == "mybinder.org":
        owner, name, branch = re.fullmatch(r"/v2/gh/([^/]+)/([^/]+)/([^/]+)", parts.path).groups()
        return owner, name, unquote(branch), parse_qs(parts.query)["labpath"][0]
    at = urlsplit(source).path if source else parts.path.removeprefix("/github")
    return re.fullmatch(r"/([^/]+)/([^/]+)/blob/([^/]+)/(.+)", at).groups()


def test_each_badge_opens_the_notebook_it_stands_in_and_figures_have_whole_addresses(root):
    assert builder.main(["--root", str(root), "--repository", URL, "--branch", "v1"]) == 0
    for place in PLACES:
        title = cells_of(root / place)[0].source
        links = re.findall(r"\[!\[Open in (\w+)\]\(https://[^)]+\)\]\(([^)]+)\)", title)
        assert [site for site, _ in links] == ["Colab", "Kaggle", "Binder"]
        hosts = [urlsplit(link).netloc for _, link in links]
        assert hosts == ["colab.research.google.com", "kaggle.com", "mybinder.org"]
        for _, link in links:
            assert opened_by(link) == ("someone", "their-course", "v1", f"notebooks/{place}")
        figure = "https://raw.githubusercontent.com/someone/their-course/v1/assets/figures/vit.svg"
        assert title.startswith("# 02\n\n[![") and f"![an eye]({figure})" in title and "../" not in title
        assert '"git+https://github.com/someone/their-course@v1"' in cells_of(root / place)[1].source


def test_the_real_notebooks_built_for_an_address_point_at_themselves():
    sources = [ROOT / "notebooks" / "src" / "02_vit.py", ROOT / "notebooks" / "src" / "18_capstone.py"]
    for path, text in builder.built_editions(ROOT / "notebooks", sources, publishing.address_of(URL)).items():
        links = re.findall(r"\)\]\(([^)]+)\)", nbformat.reads(text, as_version=4).cells[0].source)
        assert len(links) == 3
        for link in links:
            assert opened_by(link)[3] == path.relative_to(ROOT).as_posix() and path.is_file()


NEXT = (
    "**Next:** [03](03_cnn_vs_vit.ipynb); [a part](00_start_here.ipynb#dtypes), [terms]({}INDEX.md), [a](#b)."
)


@pytest.mark.parametrize("lang, up", [("en", ""), ("ja", "../")])
def test_beside_a_link_to_another_notebook_stands_one_that_colab_opens(lang, up):
    folder = "notebooks/" if lang == "en" else "notebooks/ja/"
    address = publishing.Address("o", "n", "v1")
    source = NEXT.format(up)
    cells = [nbformat.v4.new_markdown_cell("# 02\n"), nbformat.v4.new_markdown_cell(source)]
    text = publishing.published(cells, f"{folder}02_vit.ipynb", address)[1].source
    colab = f"https://colab.research.google.com/github/o/n/blob/v1/{folder}"
    assert text == (
        f"**Next:** [03](03_cnn_vs_vit.ipynb) ([Colab]({colab}03_cnn_vs_vit.ipynb)); "
        f"[a part](00_start_here.ipynb#dtypes) ([Colab]({colab}00_start_here.ipynb)), "
        f"[terms]({up}INDEX.md) ([GitHub](https://github.com/o/n/blob/v1/notebooks/INDEX.md)), [a](#b)."
    )
    assert publishing.unpublished(text, lang) == source


def test_every_link_to_a_neighbour_in_the_real_notebooks_opens_a_file_that_is_there():
    sources = sorted((ROOT / "notebooks" / "src").glob("[0-9][0-9]_*.py"))
    built = builder.built_editions(ROOT / "notebooks", sources, publishing.address_of(URL))
    nexts = []
    for path, text in built.items():
        cells = nbformat.reads(text, as_version=4).cells
        said = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        relative = re.findall(r"\]\(([^)h#][^)\s]*\.(?:ipynb|md))[^)]*\)", said)
        whole = re.findall(r"\(\[(?:Colab|GitHub)\]\((https:[^)]+)\)\)", said)
        assert len(relative) == len(whole)
        for near, link in zip(relative, whole, strict=True):
            assert opened_by(link)[:3] == ("someone", "their-course", "main")
            assert (ROOT / opened_by(link)[3]).samefile(path.parent / near)
        nexts += re.findall(r"\*\*Next:\*\* .*\(\[Colab\]\((https:[^)]+)\)\)", said)
    assert [Path(opened_by(link)[3]).stem for link in nexts] == [path.stem for path in sources[1:]]


def test_check_knows_the_address_and_a_build_without_one_takes_it_away(root, capsys):
    options = ["--root", str(root)]
    assert builder.main(options) == 0
    plain = {place: (root / place).read_bytes() for place in PLACES}
    builder.main([*options, "--repository", f"{URL}.git"])
    assert {place: (root / place).read_bytes() for place in PLACES} != plain
    assert builder.main([*options, "--check"]) == 0
    (root / "02_vit.ipynb").write_bytes(plain["02_vit.ipynb"])
    assert builder.main([*options, "--check"]) == 1 and "stale: 02_vit.ipynb" in capsys.readouterr().out
    assert builder.main(options) == 0
    assert {place: (root / place).read_bytes() for place in PLACES} == plain


def test_edits_of_a_published_notebook_come_back_without_its_links(root):
    builder.main(["--root", str(root), "--repository", URL])
    for place in PLACES:
        assert builder.adopt(root / place) == []
    path = root / "ja" / "02_vit.ipynb"
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[0].source = notebook.cells[0].source.replace("# 02", "# 02 ある")
    nbformat.write(notebook, path)
    assert builder.adopt(path) == ["changed: title"]
    assert (root / "src" / "02_vit.py").read_text() == SOURCE.replace(f"{OF}\n# # 02", f"{OF}\n# # 02 ある")


@pytest.mark.parametrize(
    ("url", "branch"),
    [
        *((url, "main") for url in (
            "https://gitlab.com/a/b", "github.com/a/b", "http://github.com/a/b", "git@github.com:a/b.git",
            f"{URL}/tree/x", f"{URL}//", f"{URL}?x", f'{URL}"; rm', f" {URL}", f"{URL}\n", "--help", "",
            "https://github.com/../..", "https://github.com/a/..", "https://github.com/a/.git",
            "https://github.com/-a/b", "https://github.com/ä/b", "https://me:secret@github.com/a/b",
        )),
        *((URL, branch) for branch in (
            "", "a b", "-x", "--upload-pack", "/a", "a/", "a//b", "a..b", "a.", ".a", "x.lock", "x.lock/y",
            "日本", "v1#x", "a@{1}", 'x"', "a\n",
        )),
    ],
)  # fmt: skip
def test_an_address_that_cannot_be_published_is_refused(root, capsys, url, branch):
    with pytest.raises(SystemExit):
        builder.main(["--root", str(root), f"--repository={url}", f"--branch={branch}"])
    told = capsys.readouterr().err
    says = "is no address like https://github.com/OWNER/NAME" if branch == "main" else "is no branch that"
    assert says in told and repr(url if branch == "main" else branch) in told
    assert list(root.glob("*.ipynb")) == []


def test_a_branch_with_a_slash_is_one_part_of_every_link(root):
    assert builder.main(["--root", str(root), "--repository", URL, "--branch", "new/course_1.0"]) == 0
    for place in PLACES:
        title = cells_of(root / place)[0].source
        for link in re.findall(r"\[!\[Open in \w+\]\(https://[^)]+\)\]\(([^)]+)\)", title):
            *repository, branch, file = opened_by(link)
            assert (*repository, unquote(branch)) == ("someone", "their-course", "new/course_1.0")
            assert file == f"notebooks/{place}"
        assert "their-course/new/course_1.0/assets/figures/vit.svg" in title
        assert f'"git+{URL}@new/course_1.0"' in cells_of(root / place)[1].source
    assert builder.main(["--root", str(root), "--check"]) == 0


def test_a_repository_that_a_chapter_speaks_of_is_not_where_it_was_published(tmp_path):
    line = 'at = ["git+https://github.com/some/library@main"]'
    cells = [nbformat.v4.new_code_cell(line, id="own"), nbformat.v4.new_markdown_cell(line, id="text")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "00_a.ipynb")
    for name, text in (("01_b", ""), ("02_c", "[1]"), ("03_d", '{"cells": [{"id": "away"}]}')):
        (tmp_path / f"{name}.ipynb").write_text(text)
    assert publishing.address_in(tmp_path) is None
    address = publishing.Address("o", "n", "a/b")
    last = nbformat.v4.new_notebook(cells=[*cells, publishing.away_cell(address)])
    nbformat.write(last, tmp_path / "04_e.ipynb")
    assert publishing.address_in(tmp_path) == address


def test_a_branch_without_a_repository_is_refused(root, capsys):
    with pytest.raises(SystemExit):
        builder.main(["--root", str(root), "--branch", "v1"])
    assert "--branch is that of --repository; name both" in capsys.readouterr().err
    assert list(root.glob("*.ipynb")) == []


def test_an_address_with_git_or_a_slash_behind_it_is_the_same():
    same = {publishing.address_of(url) for url in (URL, f"{URL}/", f"{URL}.git")}
    assert same == {publishing.Address("someone", "their-course", "main")}
    assert publishing.Address("o", "n").branch == "main"


def test_the_cell_is_python_that_needs_nothing_but_the_standard_library():
    tree = ast.parse(publishing.away_cell(None).source)
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    named = {getattr(node, "module", None) or node.names[0].name for node in imports}
    assert named == {"importlib.util", "glob", "vlmcourse.away"}
