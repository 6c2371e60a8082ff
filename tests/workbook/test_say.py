"""The checker's sentences say the same in both languages."""

import string

import pytest

from vlmcourse.exercises.base import Text
from vlmcourse.workbook.say import PHRASES, phrase


def fields(template):
    return sorted(name + form for _, name, form, _ in string.Formatter().parse(template) if name)


@pytest.mark.parametrize("name", PHRASES)
def test_both_languages_put_in_the_same_words_in_the_same_form(name):
    english, japanese = PHRASES[name]
    assert fields(english) == fields(japanese)


def test_a_part_of_the_output_and_a_text_are_put_in_in_each_language():
    assert phrase("returns_none").en.startswith("the output is None")
    assert phrase("returns_none", "[1]") == (
        "output[1] is None: is the `return` missing?",
        "出力[1]が None です。`return` を忘れていませんか。",
    )
    says = phrase("no_longer_passes", slot="a.b", says=Text("{no}.", "いいえ。"))
    assert "{no}." in says.en and "いいえ。" in says.ja


def test_an_article_suits_the_word_that_is_put_in_and_no_other():
    assert phrase("wrong_type", got="int", right="Tensor").en == "the output is an int, expected a Tensor."
    assert phrase("wrong_type", got="Tensor", right="OrderedDict").en.endswith("expected an OrderedDict.")
    assert phrase("not_a_function", kind="int").en.startswith("this is an int;")
    assert "for a in it" in phrase("the_line", code="for a in it").en  # the learner's own text stays
