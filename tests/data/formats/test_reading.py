"""Files are read piece by piece, whatever their size, and damage is named."""

import json
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlmcourse.data.formats import reading
from vlmcourse.data.formats.reading import bounded_lines, json_items, json_rows, json_value, stream_rows
from vlmcourse.data.records import Skips

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**6), 10**6)
    | st.floats(allow_nan=False, width=32)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=60)
@given(
    items=st.lists(VALUES, max_size=6),
    other=VALUES,
    chunk=st.integers(1, 9),
    indent=st.sampled_from([None, 1]),
)
def test_every_list_is_read_as_the_library_reads_it(items, other, chunk, indent):
    import tempfile
    from pathlib import Path
    from unittest import mock

    with tempfile.TemporaryDirectory() as place, mock.patch.object(reading, "_CHUNK", chunk):
        path = Path(place) / "a.json"
        path.write_text(json.dumps(items, indent=indent), encoding="utf-8")
        assert [*json_items(path)] == [*enumerate(items, 1)]
        whole = {"info": other, "images": [other], "wanted": items, "more": other}
        path.write_text(json.dumps(whole, indent=indent), encoding="utf-8")
        assert [*json_items(path, "wanted")] == [*enumerate(items, 1)]
        assert json_value(path, "info") == other == json_value(path, "more")
        assert json_value(path, "nothing") is None


@pytest.mark.parametrize(
    "text",
    [
        '{"a": [{"b": 1}',
        '{"a": [1 2]}',
        '{"a": [1,]}',
        '{"a": [1',
        '{"b": [1]',
        '{"b" [1]}',
        "",
        "[1]",
        "{tru",
    ],
)
def test_a_file_that_was_cut_off_is_named(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match=r"a\.json is no whole JSON"):
        [*json_items(tmp_path / "a.json", "a")]


def test_a_list_that_is_not_there_is_named(tmp_path):
    (tmp_path / "a.json").write_text('{"images": []}')
    with pytest.raises(ValueError, match=r"a\.json has no list 'annotations'; is it another file"):
        [*json_items(tmp_path / "a.json", "annotations")]
    assert [*json_items(tmp_path / "a.json", "images")] == []


def test_deep_nesting_and_endless_values_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    path.write_text("[" + "[" * 200_000)
    with pytest.raises(ValueError, match=r"nested too deeply|no whole JSON"):
        [*json_items(path)]
    monkeypatch.setattr(reading, "MOST_ENTRY", 100_000)
    path.write_text('["' + "a" * 500_000 + '"]')
    with pytest.raises(ValueError, match="holds a value of more than 100,000 letters"):
        [*json_items(path)]


def test_a_long_list_takes_no_more_memory_than_a_piece_of_it(tmp_path):
    path, entry = tmp_path / "a.json", json.dumps({"caption": "a" * 1000})
    with open(path, "w") as file:
        file.write('{"images": [' + ",".join([entry] * 20_000) + '], "annotations": [' + entry)
        file.write(("," + entry) * 20_000 + "]}")
    assert path.stat().st_size > 40_000_000
    tracemalloc.start()
    assert sum(1 for _ in json_items(path, "annotations")) == 20_001
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4_000_000


def test_entries_in_another_form_are_skips(tmp_path):
    (tmp_path / "a.json").write_text('[{"id": 1}, 7, {"id": "1"}, {}, {"id": 2, "x": 0}]')
    skips = Skips(most=1)
    assert [*json_rows(tmp_path / "a.json", None, dict(id=int), skips)] == [
        (1, {"id": 1}),
        (5, {"id": 2, "x": 0}),
    ]
    assert skips.reasons == {"not in the published form": 3}
    assert (
        "a.json, row 2: an entry should be an object, not int" in skips.examples["not in the published form"]
    )
    assert "a.json, row 3: id should be int" in skips.examples["not in the published form"]


def test_lines_have_numbers_and_a_limit(tmp_path):
    path, skips = tmp_path / "a.jsonl", Skips(most=1)
    path.write_bytes(
        b"\xef\xbb\xbfone\n" + b"x" * 50 + b"\ntwo\n" + b"\xff\n" + b"y" * 10 + b"\n" + b"z" * 11
    )
    assert [*bounded_lines(path, skips, most=10)] == [(1, "one\n"), (3, "two\n"), (5, "y" * 10 + "\n")]
    assert skips.reasons == {"line too long": 2, "damaged text": 1}
    assert skips.examples["line too long"] == [
        "a.jsonl, row 2: 51 bytes, 10 allowed", "a.jsonl, row 6: 11 bytes, 10 allowed"]  # fmt: skip
    assert skips.examples["damaged text"][0].startswith("a.jsonl, row 4: no UTF-8")


def test_an_endless_line_takes_no_memory(tmp_path):
    path, skips = tmp_path / "a.jsonl", Skips(most=1)
    with open(path, "wb") as file:
        file.truncate(1 << 30)  # a gigabyte of NUL, one line, no room on the disk
        file.seek(0, 2)
        file.write(b"\nlast\n")
    tracemalloc.start()
    assert [*bounded_lines(path, skips)] == [(2, "last\n")]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8_000_000 and "1,073,741,825 bytes" in str(skips)


def test_pictures_of_a_streamed_data_set_stay_bytes(tmp_path):
    import datasets

    rows = datasets.Dataset.from_dict(
        {"image": [{"bytes": b"no picture", "path": None}] * 3, "question": ["what?"] * 3},
        datasets.Features(image=datasets.Image(), question=datasets.Value("string")),
    )
    rows.to_parquet(tmp_path / "a.parquet")
    numbers, read = zip(*stream_rows(tmp_path / "a.parquet"), strict=True)
    assert numbers == (1, 2, 3) and read[0]["question"] == "what?"
    assert read[2]["image"]["bytes"] == b"no picture"
