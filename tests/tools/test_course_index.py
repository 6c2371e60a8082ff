"""The index: every entry is checked, a wrong one of each kind is named, and a link says where it leads."""

import re
from pathlib import Path

import build_notebooks
import pytest
from course_index import Index, Source, says

from vlmcourse.workbook.chapters import CHAPTERS, Chapter

ROOT = Path(__file__).resolve().parents[2]
CHAPTER = """\
# %% [markdown] id="title" lang="en"
# # 02 · A chapter
#
# About patches.

# %% id="setup"
import torch

# %% [markdown] id="patches" lang="en"
# ## 1 · What is a word of a picture?
#
# A **patch** is a square. See the [paper](https://example.org/tokenizer), and ![an eye](eye.svg).

# %% id="count"
tokens = 196
assert tokens == 14**2

# %% id="exercise"
@exercise(vit.patchify)
def patchify(images, size):
    raise NotImplementedError

# %% id="show"
print(tokens)

# %% [markdown] id="between" lang="en"
# What you just proved: patches are tokens.
#
# ## 2 · Who says *where*?
#
# The class | token has no place.

# %% [markdown] id="positions" lang="en"
# Positions are added.

# %% [markdown] id="recap" lang="en"
# ## Recap
#
# Patches are tokens.
"""
GOOD = '{ term = "patch", taught = "02#patches", proved = ["02#count", "02#exercise"] }'


@pytest.fixture
def build(tmp_path):
    """Build the page of some entries: (page, problems)."""
    path = tmp_path / "02_vit.py"
    path.write_text(CHAPTER, encoding="utf-8")
    source = Source("02_vit", build_notebooks.read_source(path).cells)
    chapters = [Chapter("02_vit"), Chapter("03_cnn_vs_vit"), Chapter("15_later", ready=False)]

    def index(*entries, group='[parts]\ntitle = "Parts"'):
        toml = tmp_path / "index.toml"
        toml.write_text(group + "\nentries = [\n" + ",\n".join(entries) + "\n]\n", encoding="utf-8")
        made = Index(chapters, {"02_vit": source})
        return made.page(toml), made.problems

    return index


def entry(**changes):
    keys = dict(term='"patch"', taught='"02#patches"', proved='"02#count"') | changes
    return "{ " + ", ".join(f"{key} = {value}" for key, value in keys.items() if value) + " }"


def rows(page):
    lines = [line for line in page.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def test_a_good_entry_is_a_row_whose_links_say_chapter_and_section_and_name_the_cell(build):
    page, problems = build(GOOD)
    assert problems == []
    section = "02 · 1 What is a word of a picture?"
    proof = f"[{section}](02_vit.ipynb#cell-id=count), [`exercise`](02_vit.ipynb#cell-id=exercise)"
    table = [["term", "taught", "proved"], ["---"] * 3]
    assert rows(page) == [*table, ["patch", f"[{section}](02_vit.ipynb#cell-id=patches)", proof]]
    assert page.startswith("# Index\n") and "\n## Parts\n" in page


WRONG = {
    "chapter": (dict(taught='"77#patches"'), "there is no chapter 77"),
    "source": (dict(taught='"03#patches"'), "03_cnn_vs_vit is ready, but has no source"),
    "cell": (dict(proved='"02#gone"'), "02_vit has no cell 'gone'"),
    "place": (dict(taught='"patches"'), "a place is written 02#cell-id"),
    "section": (dict(taught='"02#positions"'), "'2 Who says where?' of 02_vit never says 'patch'"),
    "address": (dict(term='"tokenizer"'), "never says 'tokenizer'"),
    "picture": (dict(term='"eye"'), "never says 'eye'"),
    "part of a word": (dict(term='"squ"'), "never says 'squ'"),
    "form": (dict(says='["cut", "tile"]', taught='"02#positions"'), "never says 'patch' or 'cut' or 'tile'"),
    "code teaches": (dict(taught='"02#count"'), "cell 'count' of 02_vit is code; name a text that teaches"),
    "recap": (dict(taught='"02#recap"'), "'Recap' teaches nothing"),
    "text proves": (dict(proved='"02#patches"'), "is text; a proof is a code cell"),
    "no assert": (dict(proved='"02#show"'), "'show' of 02_vit proves nothing: no assert, and no exercise"),
    "one of two": (dict(proved='["02#count", "02#show"]'), "proves nothing"),
    "lacking": (dict(proved=""), "'patch' lacks proved"),
    "unknown key": (dict(proof='"02#count"'), "'patch' may not have proof"),
    "meaning": (dict(means='"a square"'), "'patch' may not have means"),
}


@pytest.mark.parametrize(("changes", "told"), WRONG.values(), ids=WRONG)
def test_a_wrong_entry_is_named_with_what_is_wrong(build, changes, told):
    page, problems = build(GOOD.replace('"patch"', '"square"'), entry(**changes))
    assert len(problems) == 1 and told in problems[0], problems
    assert re.match(r"'[a-z]+'", problems[0]), "the entry is named"
    assert len(rows(page)) >= 3, "the good entry is still there"


def test_a_group_is_checked_too(build):
    assert build(GOOD, GOOD)[1] == ["'patch': this term stands twice in group 'parts'"]
    assert "must have title and entries" in build(GOOD, group="[parts]")[1][0]
    assert "must have title and entries" in build(GOOD, group='[parts]\ntitle = "x"\nwords = 1')[1][0]
    assert "cannot be read" in build("{ term = }")[1][0]


def test_a_chapter_that_is_not_ready_is_left_out(build):
    later = entry(term='"LoRA"', taught='"15#any"', proved='"15#thing"')
    half = entry(taught='["02#patches", "15#any"]', proved='["02#count", "15#thing"]')
    page, problems = build(half, later)
    assert problems == [] and "15" not in page and "LoRA" not in page and len(rows(page)) == 3
    assert "## Parts" not in build(later)[0], "nor is a group without an entry shown"


def test_words_of_a_glossary_have_a_meaning_and_need_no_proof(build):
    words = '[words]\ntitle = "Words"\ntext = "What a word means."\nglossary = true'
    page, problems = build(entry(means='"a square"', proved=""), group=words)
    link = "[02 · 1 What is a word of a picture?](02_vit.ipynb#cell-id=patches)"
    assert problems == [] and rows(page)[2] == ["**patch**", "a square", link]
    assert "\nWhat a word means.\n" in page
    assert build(GOOD, group=words)[1] == ["'patch' lacks means"]


def test_a_cell_in_which_a_section_begins_belongs_to_both(build):
    page, problems = build(
        entry(taught='"02#between"'),
        entry(term='"class token"', says='"class token has"', taught='"02#between"'),
    )
    assert problems == []
    both = build(entry(term='"square"', says='"class token has"', taught='["02#patches", "02#between"]'))[0]
    assert rows(both)[2][1].count("<br>") == 1, "links into two sections stand on two lines"
    assert [row[1].partition("]")[0] for row in rows(page)[2:]] == [
        "[02 · 1 What is a word of a picture?", "[02 · 2 Who says where?",
    ]  # fmt: skip


def test_says_takes_whole_words_in_any_case_and_the_plural():
    assert says("The Patches are tokens.", ["patch"]) and says("a `class token`", ["class  token"])
    assert says("N × D numbers", ["n × d"]) and not says("patchwork", ["patch"])
    assert not says("dispatch", ["patch"]) and not says("", ["patch"])


def test_the_builder_builds_it_and_stops_at_a_wrong_entry(tmp_path, capsys):
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "02_vit.py").write_text(CHAPTER, encoding="utf-8")
    toml = tmp_path / "src" / "index.toml"
    toml.write_text(f'[parts]\ntitle = "Parts"\nentries = [{GOOD}]\n')
    assert build_notebooks.build(tmp_path) == ["02_vit.ipynb", "INDEX.md"]
    assert build_notebooks.build(tmp_path, check=True) == []
    page = (tmp_path / "INDEX.md").read_text(encoding="utf-8")
    (tmp_path / "INDEX.md").write_text(page + "by hand")
    assert build_notebooks.main(["--check", "--root", str(tmp_path)]) == 1
    assert "stale: INDEX.md" in capsys.readouterr().out
    toml.write_text(toml.read_text().replace("02#count", "02#gone"))
    assert build_notebooks.main(["--root", str(tmp_path)]) == 1
    assert "index.toml: 'patch', proved = '02#gone': 02_vit has no cell 'gone'" in capsys.readouterr().err


def test_the_index_of_the_course_leads_to_cells_that_are_there():
    page = (ROOT / "notebooks" / "INDEX.md").read_text(encoding="utf-8")
    places = re.findall(r"\]\((\w+)\.ipynb#cell-id=([\w-]+)\)", page)
    assert len(places) > 300
    assert {name for name, _ in places} <= {chapter.name for chapter in CHAPTERS if chapter.ready}
    for name in {name for name, _ in places}:
        notebook = (ROOT / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8")
        missing = [cell for chapter, cell in places if chapter == name and f'"id": "{cell}"' not in notebook]
        assert not missing
