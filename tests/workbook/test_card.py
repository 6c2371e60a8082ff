"""Cards read the same as text and as HTML, and never let a learner's text become markup."""

import pytest

from vlmcourse.workbook.card import SIGNS, STATE_COLOURS, SYMBOLS, Card


@pytest.mark.parametrize("kind", SYMBOLS)
def test_state_is_told_by_symbol_colour_and_hidden_word(kind):
    html = Card(kind, "vit.patchify")._repr_html_()
    assert f">{SIGNS[kind]}</span>" in html
    assert STATE_COLOURS[kind] in html
    assert f"{kind}: </span>" in html
    assert 'role="status"' in html
    assert repr(Card(kind, "vit.patchify")) == f"{SYMBOLS[kind]} vit.patchify"


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


def test_a_table_reads_as_text():
    card = Card("plain", "t", table=(["chapter", "done"], [["02_vit", "3/8"]]))
    assert "chapter  done" in repr(card)
    assert "<th scope=" in card._repr_html_()
