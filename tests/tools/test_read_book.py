"""A site that was not read is no site without problems."""

import read_book


def test_a_folder_without_pages_and_a_page_that_is_none_are_problems(tmp_path, capsys):
    assert read_book.main([str(tmp_path / "nowhere")]) == 1
    assert "nowhere has no pages; `python tools/build_book.py`" in capsys.readouterr().err
    (tmp_path / "index.html").write_text("<p>")
    assert read_book.main([str(tmp_path), "index", "99_none"]) == 1
    assert "has no page 99_none" in capsys.readouterr().err
