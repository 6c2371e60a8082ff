"""What a file or a model is called steers no terminal, in a table as in a line."""

from vlmcourse import terminal

EVIL = "a\x1b]0;title\x07\x1b[2J\u202eb\x9b"


def test_a_table_shows_letters_that_would_steer_the_terminal_as_escapes(capsys):
    terminal.show(["name", "n"], [[EVIL, "1"], ["[red]x[/red]", "2"]])
    told = capsys.readouterr().out
    assert "\\x1b]0;title\\x07\\x1b[2J\\u202eb\\x9b" in told and "[red]x[/red]" in told
    assert not set(told) & {"\x1b", "\x07", "\u202e", "\x9b"}


def test_lines_keep_their_ends_and_words_their_letters():
    assert terminal.printable("one\ntwo é 日本") == "one\ntwo é 日本"
    assert terminal.printable(EVIL) == "a\\x1b]0;title\\x07\\x1b[2J\\u202eb\\x9b"
    assert terminal.quoted("a b\x1b") == "'a b\\x1b'"
