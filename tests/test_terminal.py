"""What a file or a model is called steers no terminal, in a table as in a line."""

import contextlib
import signal
import threading

import pytest
import typer

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


@pytest.mark.parametrize(("processes", "fails"), [("1", True), ("2", False), ("2", True)])
def test_of_several_processes_one_that_says_its_last_words_is_not_cut_off(monkeypatch, processes, fails):
    monkeypatch.setenv("WORLD_SIZE", processes)
    before = signal.getsignal(signal.SIGTERM)
    try:
        if not fails:
            with terminal.explained():
                assert signal.getsignal(signal.SIGTERM) != before
        else:
            with pytest.raises(typer.Exit), terminal.explained():
                raise ValueError("there is no such thing")
        ends_anyway = fails and processes == "2"
        assert signal.getsignal(signal.SIGTERM) == (signal.SIG_IGN if ends_anyway else before)
    finally:
        signal.signal(signal.SIGTERM, before)


def test_told_to_end_it_says_so_whatever_is_caught_and_fails(monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(typer.Exit) as ended, terminal.explained(), contextlib.suppress(Exception):
            signal.raise_signal(signal.SIGTERM)
        assert ended.value.exit_code == 1 and "told to end" in capsys.readouterr().err
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def test_an_error_of_the_program_itself_is_raised_as_it_is():
    with pytest.raises(RuntimeError, match="a shape"), terminal.explained():
        raise RuntimeError("a shape does not fit")


def test_alone_or_in_another_thread_the_signal_stays_as_it_was(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    before = signal.getsignal(signal.SIGTERM)
    with terminal.explained():
        assert signal.getsignal(signal.SIGTERM) == before
    monkeypatch.setenv("WORLD_SIZE", "2")

    def beside():
        with terminal.explained():
            seen.append(signal.getsignal(signal.SIGTERM))

    seen = []
    thread = threading.Thread(target=beside)
    thread.start()
    thread.join()
    assert seen == [before]
