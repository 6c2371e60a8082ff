"""What a learner's function prints is kept, up to a limit."""

from vlmcourse.workbook.worker import _Printed


def test_the_first_thousand_characters_are_shown_and_the_rest_counted():
    printed = _Printed()
    assert printed.text() == ""
    assert [printed.write("a" * 999), printed.write("bc"), printed.write("d" * 1234)] == [999, 2, 1234]
    assert printed.text() == "a" * 999 + "b" + "… and 1,235 more characters"


def test_what_fits_is_shown_whole():
    printed = _Printed()
    printed.write("a" * 1000)
    assert printed.text() == "a" * 1000
