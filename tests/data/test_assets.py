"""Files are found or named, and written whole or not at all."""

import pytest

from vlmcourse.data import assets


def test_the_cache_is_where_the_system_keeps_caches(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert assets.cache_folder() == tmp_path / "vlmcourse"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setattr(assets.Path, "home", lambda: tmp_path / "me")
    assert assets.cache_folder() == tmp_path / "me" / ".cache" / "vlmcourse"


def test_a_file_that_is_not_shipped_is_named_with_those_that_are():
    assert assets.shipped("tokenizer.json").is_file()
    with pytest.raises(FileNotFoundError, match=r"nothing\.json does not exist \(there is .*tokenizer\.json"):
        assets.shipped("nothing.json")


def test_what_is_written_beside_takes_its_place_at_the_end(tmp_path):
    path = tmp_path / "new" / "file.txt"
    for content in ("first", "second"):
        with assets.written_beside(path) as draft:
            assert draft.parent == path.parent and draft.suffix != ".txt"
            assert path.exists() == (content == "second")
            draft.write_text(content)
        assert path.read_text() == content and [*path.parent.iterdir()] == [path]


def test_two_drafts_of_one_file_do_not_meet(tmp_path):
    with assets.written_beside(tmp_path / "a") as first, assets.written_beside(tmp_path / "a") as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
    assert (tmp_path / "a").read_text() == "first"  # the outer one ends last


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_what_fails_leaves_the_old_file_and_no_draft(tmp_path, error):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(error), assets.written_beside(path) as draft:
        draft.write_text("half")
        raise error
    assert path.read_text() == "old" and [*tmp_path.iterdir()] == [path]
    with pytest.raises(error), assets.written_beside(path):
        raise error  # before anything was written


def test_a_folder_is_written_beside_too(tmp_path):
    path = tmp_path / "folder"
    for fails in (True, False):
        try:
            with assets.written_beside(path, tmp_path / ".draft") as draft:
                assert draft == tmp_path / ".draft"
                draft.mkdir()
                (draft / "file").write_text("x")
                if fails:
                    raise OSError
        except OSError:
            assert not list(tmp_path.iterdir())
    assert [*tmp_path.iterdir()] == [path] and (path / "file").read_text() == "x"
