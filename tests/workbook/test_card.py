"""Cards read the same as text and as HTML, and never let a learner's text become markup."""

import base64
import io
import re
from html import unescape

import numpy as np
import pytest
from PIL import Image

from vlmcourse.workbook.card import SIGNS, STATE_COLOURS, Card, tabulate


@pytest.mark.parametrize("kind", SIGNS)
def test_state_is_told_by_symbol_colour_and_hidden_word(kind):
    html = Card(kind, "vit.patchify")._repr_html_()
    assert f">{SIGNS[kind]}</span>" in html
    assert STATE_COLOURS[kind] in html
    assert f"{kind}: </span>" in html
    assert 'role="status"' in html
    assert repr(Card(kind, "vit.patchify")) == f"{SIGNS[kind]} vit.patchify"


def test_text_stays_text():
    card = Card("wrong", "<b>t</b>", ["<script>alert(1)</script> `a < b`"], code="<i>", printed="<u>")
    html = card._repr_html_()
    assert not any(tag in html for tag in ("<script>", "<b>t", "<i>", "<u>"))
    assert "<code>a &lt; b</code>" in html
    assert "<script>alert(1)</script> `a < b`" in repr(card)


def test_pictures_have_descriptions_and_survive_constant_or_infinite_arrays():
    card = Card("wrong", "t", pictures={"expected": [[0.0, 1.0]], "got": [[float("nan"), float("inf")]]})
    html = card._repr_html_()
    assert 'alt="expected"' in html
    assert html.count("data:image/png;base64,") == 2


def pixels(html: str) -> list[list]:
    """The pictures of a card as lists of numbers."""
    found = re.findall(r'src="data:image/png;base64,([^"]*)"', html)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))).tolist() for data in found]


def test_the_sentence_stands_before_the_pictures_which_share_one_scale():
    card = Card("wrong", "t", ["twice too large"], pictures={"expected": [[0, 1, 2]], "got": [[0, 2, 4]]})
    html = card._repr_html_()
    assert html.index("twice too large") < html.index("<img")
    assert pixels(html) == [[[0, 127, 255]], [[0, 255, 255]]]


def test_a_table_reads_as_text_and_holds_badges_and_links():
    rows = [["02_vit", "3/8"], ["✗", "see 02_vit"]]
    card = Card("plain", "t", table=(["chapter", "done"], rows), links={"02_vit": "a&b/02_vit.ipynb"})
    assert "chapter  done" in repr(card) and "a&b" not in repr(card)
    html = card._repr_html_()
    assert "<th scope=" in html
    assert html.count("<a ") == 1 and 'href="a&amp;b/02_vit.ipynb">02_vit</a>' in html
    assert html.count(STATE_COLOURS["wrong"]) == 1


def test_code_is_coloured_by_the_theme_and_stays_as_it_was():
    code = "\n\ndef f(x):  # <two>\n    return x @ 2 if x else 'a < b'\n"
    html = Card("note", "t", code=code)._repr_html_()
    shown = html[html.index("<pre") : html.index("</pre>")].split(">", 1)[1]
    assert unescape(re.sub("<[^>]*>", "", shown)) == code
    coloured = dict(re.findall(r'mirror-editor-([a-z]*)-color,inherit\)">([^<]*)<', shown))
    assert coloured.pop("string") == "&#x27;"
    assert (coloured["def"], coloured["keyword"], coloured["operator"]) == ("f", "else", "@")
    assert (coloured["comment"], coloured["number"]) == ("# &lt;two&gt;", "2")


def test_results_stand_in_a_table_numbers_to_the_right(capsys):
    rows = {"no image": (0.256, float("nan")), ("CNN", 250): (1.0, -1.5)}
    tabulate(rows, "model", right=".0%", loss_at_the_end="+.2f")
    lines = capsys.readouterr().out.splitlines()
    assert [line.rstrip() for line in lines if line.strip()] == [
        "   model     right  loss at the end",
        "   no image    26%                –",
        "   CNN, 250   100%            -1.50",
    ]
    tabulate({"yes": "red"}, said="")
    assert "yes  red" in capsys.readouterr().out


def test_a_column_of_words_stands_to_the_left_and_one_of_numbers_to_the_right():
    html = Card("plain", "", table=(["what", "many"], [["a", "1,000"], ["b", "3 s"]]))._repr_html_()
    sides = [part.split(";")[0] for part in html.split("text-align:")[1:]]
    assert sides == ["left", "right"] * 3
    assert "font-weight:600" not in html  # no title, no line for it


def test_a_row_with_too_few_values_is_named():
    with pytest.raises(ValueError, match="row 'a' has 1 values for 2 columns"):
        tabulate({"a": 1.0}, right=".0%", loss=".2f")
