"""What goes to the checker and comes back: a function knows its cell, and prints are kept, up to a limit."""

import cloudpickle

from tests.workbook.learner import cell
from vlmcourse.workbook.worker import _code_of_cell, _packed, _Printed


def test_a_function_that_was_sent_knows_the_cell_it_comes_from():
    answer = cell("def double(x):\n    return 2 * x\n")
    name, arrived = cloudpickle.loads(_packed(("vit.double", answer)))
    assert (name, arrived(3)) == ("vit.double", 6)
    assert arrived.__code__.co_filename == answer.__code__.co_filename
    nameless = answer.__code__.replace(co_filename="")  # as cloudpickle from 3.1.3 on makes it
    assert _code_of_cell("<cell 7>", lambda *parts: nameless, ()).co_filename == "<cell 7>"


def test_the_first_thousand_characters_are_shown_and_the_rest_counted():
    printed = _Printed()
    assert printed.text() == ""
    assert [printed.write("a" * 999), printed.write("bc"), printed.write("d" * 1234)] == [999, 2, 1234]
    assert printed.text() == "a" * 999 + "b" + "… and 1,235 more characters"


def test_what_fits_is_shown_whole():
    printed = _Printed()
    printed.write("a" * 1000)
    assert printed.text() == "a" * 1000
