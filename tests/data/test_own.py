"""A folder of one's own pictures: whatever is in it, good rows are read and bad ones are named."""

import csv
import io
import json
import os
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vlmcourse.data import own
from vlmcourse.data.own import data_files, open_pictures, own_record, read_own
from vlmcourse.data.records import Record, RowError, Skips, TooManySkips

PIXELS = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)


def row(image="a.png", instruction="What is it?", output="A cat.", **more):
    return dict(image=image, instruction=instruction, output=output) | more


@pytest.fixture
def folder(tmp_path):
    """A data folder with one picture, a.png; a secret picture lies beside it."""
    data = tmp_path / "data"
    data.mkdir()
    Image.fromarray(PIXELS).save(data / "a.png")
    Image.fromarray(PIXELS).save(tmp_path / "secret.png")
    return data


def write(folder, *rows, name="train.jsonl"):
    lines = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in rows]
    (folder / name).write_bytes(b"\n".join(lines) + b"\n")
    return folder


def test_rows_and_pictures_are_read(folder):
    mine = open_pictures(
        write(folder, row(), row(id=7, output=" A cat.\n"), b"", row(instruction="<image>\nWhy?"))
    )
    assert mine.records[0] == Record("a.png", (("user", "<image>What is it?"), ("assistant", "A cat.")))
    assert mine.records[1].key == "7" and mine.records[1].turns[1] == ("assistant", "A cat.")
    assert (
        mine.records[2].turns[0] == ("user", "<image>Why?") and mine.records[2].where == "train.jsonl, row 4"
    )
    assert len(mine) == 3 and mine.sizes == {"a.png": (30, 20)} and not len(mine.skips)
    assert repr(mine) == "OwnPictures(train.jsonl: 3 rows)"
    assert mine.records[0].load(side=20).shape == (20, 20, 3)


def test_a_table_reads_the_same(folder):
    text = io.StringIO()
    out = csv.DictWriter(text, ["id", "image", "instruction", "output"])
    out.writeheader()
    out.writerows([row(id=1, output='one, "two"\nthree'), row(id=2)])
    (folder / "rows.csv").write_bytes(b"\xef\xbb\xbf" + text.getvalue().encode())
    mine = open_pictures(folder)
    assert [record.key for record in mine.records] == ["1", "2"]
    assert mine.records[0].turns[1] == ("assistant", 'one, "two"\nthree') and mine.records[1].row == 4


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Why?", "<image>Why?"),
        ("<image>\nWhy?", "<image>Why?"),
        ("Why?\n<image>", "<image>Why?"),
        (" Why? ", "<image>Why?"),
    ],
)
def test_the_picture_stands_before_the_instruction_once(text, expected):
    assert own_record(row(instruction=text)).turns[0] == ("user", expected)
    assert own_record(row(id=0)).key == "0" and own_record(row(id=None)).key == ""
    with pytest.raises(RowError, match="several pictures"):
        own_record(row(instruction="<image><image>Why?"))


def saved(mode, **options):
    def save(path):
        picture = Image.fromarray(PIXELS)
        if mode == "I;16":
            picture = Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 256)
        elif mode != "RGB":
            picture = picture.convert(mode)
        picture.save(path, **options)

    return save


@pytest.mark.parametrize(
    ("suffix", "save"),
    [(".jpg", saved("CMYK")), (".png", saved("P")), (".png", saved("I;16")), (".png", saved("RGBA")),
     (".png", saved("1")), (".gif", saved("P")), (".tif", saved("CMYK")),
     (".webp", saved("RGB", lossless=True))],
    ids=["cmyk", "palette", "16 bits", "alpha", "1 bit", "gif", "cmyk tif", "webp"],
)  # fmt: skip
def test_unusual_pictures_are_read_as_they_are_meant(folder, suffix, save):
    save(folder / f"b{suffix}")
    mine = open_pictures(write(folder, row(f"b{suffix}")))
    assert list(mine.sizes.values()) == [(30, 20)] and mine.records[0].load(20).shape == (20, 20, 3)
    if suffix == ".jpg":  # the colours of a CMYK photo are not those of its inverse
        assert abs(mine.records[0].load(20).mean() - PIXELS[:, 5:25].mean()) < 20


def test_a_photo_that_was_stored_turned_is_seen_upright(folder):
    exif = Image.Exif()
    exif[0x0112] = 6
    half = np.zeros((64, 64, 3), np.uint8)
    half[:32] = 255
    Image.fromarray(half).save(folder / "b.png", exif=exif)
    upright = open_pictures(write(folder, row("b.png"))).records[0].load()
    assert (upright[:, 32:] == 255).all() and (upright[:, :32] == 0).all()


def animation(path):
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue")]
    frames[0].save(path, save_all=True, append_images=frames[1:])


def truncated(path):
    Image.fromarray(np.tile(PIXELS, (9, 9, 1))).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def bomb(path):
    Image.new("1", (14_000, 14_000)).save(path)


BAD_PICTURES = {
    "empty": (lambda path: path.write_bytes(b""), "picture is empty"),
    "text": (lambda path: path.write_text("no picture"), "picture cannot be read"),
    "truncated": (truncated, "picture cannot be read"),
    "pixel": (lambda path: Image.new("L", (1, 1)).save(path), "picture is too small"),
    "animated": (animation, "picture is animated"),
    "bomb": (bomb, "picture has too many pixels"),
    "outside": (
        lambda path: path.symlink_to(path.parents[1] / "secret.png"),
        "picture lies outside the folder",
    ),
    "pipe": (os.mkfifo, "picture is missing"),
    "folder": (lambda path: path.mkdir(), "picture is missing"),
}


@pytest.mark.parametrize("kind", BAD_PICTURES)
def test_a_bad_picture_is_left_out_with_its_row(folder, kind):
    make, reason = BAD_PICTURES[kind]
    bad = folder / ("b.gif" if kind == "animated" else "b.png")
    make(bad)
    mine = open_pictures(write(folder, row(), row(bad.name), row()), most_skipped=0.5)
    assert len(mine) == 2 and mine.skips.reasons == {reason: 1} and mine.skips.taken == 2
    assert mine.skips.examples[reason][0].startswith("train.jsonl, row 2: ")
    assert repr(mine) == "OwnPictures(train.jsonl: 2 rows, 1 left out)"


BAD_ROWS = {
    "broken": (b'{"image": "a.png", ', "broken JSON"),
    "deep": (b"[" * 100_000, "broken JSON"),
    "digits": (b'{"image": ' + b"1" * 5000 + b"}", "broken JSON"),
    "list": ([1], "wrong type"),
    "number": (row(output=7), "wrong type"),
    "picture list": (row(image=["a.png"]), "wrong type"),
    "nothing": ({}, "missing column"),
    "null": (row(output=None), "missing column"),
    "empty answer": (row(output=" "), "empty text"),
    "empty question": (row(instruction=""), "empty text"),
    "empty name": (row(image=""), "no picture is named"),
    "nul in text": (row(output="a\0b"), "damaged text"),
    "nul in name": (row(image="a\0.png"), "picture has a bad name"),
    "raw nul": (b'{"image": "a.png", "instruction": "a\0", "output": "b"}', "broken JSON"),
    "half letter": (row(output="\udc80"), "damaged text"),
    "no utf-8": (b'{"image": "\xff"}', "damaged text"),
    "two pictures": (row(instruction="<image> and <image>?"), "several pictures"),
    "missing": (row(image="b.png"), "picture is missing"),
    "absolute": (row(image="/etc/passwd"), "picture lies outside the folder"),
    "upward": (row(image="../secret.png"), "picture lies outside the folder"),
    "same id": (row(id="first"), "id is used twice"),
    "long": (row(output="a" * 70_000), "text too long"),
    "endless": (b'{"output": "' + b"a" * (1 << 20) + b'"}', "line too long"),
}


@pytest.mark.parametrize("kind", BAD_ROWS)
def test_a_bad_row_is_left_out_with_its_line(folder, kind):
    bad, reason = BAD_ROWS[kind]
    mine = open_pictures(write(folder, row(id="first"), bad, row(id="last")), most_skipped=0.5)
    assert [record.key for record in mine.records] == ["first", "last"]
    assert mine.skips.reasons == {reason: 1} and mine.skips.examples[reason][0].startswith(
        "train.jsonl, row 2: "
    )


@pytest.mark.parametrize(
    ("line", "reason"),
    [(b'a.png,"what"s,no', "broken CSV"), (b"a.png,what,a,b", "broken CSV"),
     (b"a.png,what", "missing column"), (b"a.png,,yes", "empty text"),
     (b"a.png,wh\0at,yes", "damaged text"), (b"a.png,\xff,yes", "damaged text"),
     (b"a.png,what," + b"a" * (1 << 20), "line too long"), (b'a.png,"' + b"a" * 100, "broken CSV"),
     (b"a.png,what," + b"a" * 200_000, "text too long")],
)  # fmt: skip
def test_a_bad_line_of_a_table_is_left_out(folder, line, reason):
    good = b"a.png,what?,yes"
    (folder / "a.csv").write_bytes(b"\n".join([b"image,instruction,output", good, good, line]) + b"\n")
    mine = open_pictures(folder, most_skipped=0.5)
    assert len(mine) == 2 and mine.skips.reasons == {reason: 1}
    assert mine.skips.examples[reason][0].startswith("a.csv, row 4: ")


def test_more_than_one_row_in_a_hundred_stops_with_all_reasons(folder):
    rows = [row() for _ in range(99)]
    assert len(open_pictures(write(folder, *rows, row(output="")))) == 99
    with pytest.raises(TooManySkips) as caught:
        open_pictures(write(folder, *rows, row(output=""), row(image="../b.png"), row(image="b.png")))
    said = str(caught.value)
    assert "3 of 102 rows had to be left out (2.9%), 1.0% are allowed" in said
    for reason in ("empty text; train.jsonl, row 100", "outside the folder; train.jsonl, row 101",
                   "picture is missing; train.jsonl, row 102"):  # fmt: skip
        assert reason in said


def test_folders_without_rows_or_with_several_files_are_explained(folder):
    with pytest.raises(ValueError, match=r"at most one called test; there are: none"):
        open_pictures(folder)
    write(folder, name="one.jsonl")
    with pytest.raises(
        ValueError, match=r"one\.jsonl has no row that can be used; write one line for each picture$"
    ):
        open_pictures(folder)
    write(folder, row(), name="two.jsonl")
    with pytest.raises(ValueError, match=r"there are: one\.jsonl, two\.jsonl"):
        open_pictures(folder)
    assert len(open_pictures(folder, "two.jsonl")) == 1
    with pytest.raises(ValueError, match="is no folder"):
        open_pictures(folder / "nowhere")
    with pytest.raises(ValueError, match="file of rows is missing"):
        open_pictures(folder, "three.jsonl")


def test_the_file_of_rows_lies_inside_as_well(folder, tmp_path):
    write(tmp_path, row(), name="rows.jsonl")
    with pytest.raises(ValueError, match="file of rows lies outside the folder"):
        open_pictures(folder, "../rows.jsonl")
    (folder / "train.jsonl").symlink_to(tmp_path / "rows.jsonl")
    with pytest.raises(ValueError, match="file of rows lies outside the folder"):
        open_pictures(folder)


def test_test_rows_have_a_file_of_their_own(folder):
    write(folder, row())
    assert data_files(folder) == {"train": folder / "train.jsonl"}
    write(folder, row(), name="test.jsonl")
    assert data_files(folder) == {"train": folder / "train.jsonl", "test": folder / "test.jsonl"}
    assert open_pictures(folder).file == folder / "train.jsonl"


def test_many_rows_about_one_picture_open_it_once(folder):
    truncated(folder / "b.png")
    rows = [row(), row("b.png"), row(output="A dog."), row("b.png"), row()]
    looked = []
    look = lambda record: looked.append(record.row) or record.load(8).mean()  # noqa: E731
    mine = open_pictures(write(folder, *rows), most_skipped=0.5, look=look)
    assert looked == [1, 2] and mine.looks == {"a.png": mine.records[0].load(8).mean()}
    assert [record.row for record in mine.records] == [1, 3, 5] and mine.skips.taken == 3
    assert mine.skips.reasons == {"picture cannot be read": 2}


def test_a_file_without_a_usable_row_says_why(folder):
    with pytest.raises(ValueError, match=r"(?s)no row that can be used.*1 × empty text; train\.jsonl, row 1"):
        open_pictures(write(folder, row(output="")), most_skipped=1)


def test_no_picture_outside_is_ever_opened(folder, monkeypatch):
    opened = []
    original = Image.open

    def remember(path, *args, **kwargs):
        opened.append(Path(path).resolve())
        return original(path, *args, **kwargs)

    monkeypatch.setattr(Image, "open", remember)
    (folder / "out.png").symlink_to(folder.parent / "secret.png")
    names = ["a.png", "../secret.png", str(folder.parent / "secret.png"), "out.png", "./../data/a.png"]
    open_pictures(write(folder, *[row(name) for name in names]), most_skipped=1)
    assert set(opened) == {folder / "a.png"}


def test_memory_does_not_grow_with_pictures_and_lines(folder):
    Image.fromarray(np.tile(PIXELS, (50, 50, 1))).save(folder / "big.bmp")  # 4.5 MB of pixels each time
    with open(folder / "train.jsonl", "wb") as file:
        for _ in range(20):
            file.write(json.dumps(row("big.bmp")).encode() + b"\n")
        file.write(b'{"output": "' + b"a" * 50_000_000 + b'"}\n')
    open_pictures(folder, most_skipped=0.1)  # imports do not count
    tracemalloc.start()
    assert len(open_pictures(folder, most_skipped=0.1)) == 20
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12_000_000


TEXTS = st.text(max_size=20) | st.sampled_from(
    ["", "a.png", "../secret.png", "<image>", "\0", "/", "out.png", "\udcff"]
)
ANYTHING = st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | st.lists(TEXTS, max_size=2)
ROWS = st.dictionaries(st.sampled_from(["image", "instruction", "output", "id", ""]), ANYTHING) | ANYTHING
LINES = ROWS.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=60)


@settings(max_examples=150, deadline=None)
@given(lines=st.lists(LINES, max_size=8), suffix=st.sampled_from([".jsonl", ".csv"]))
def test_whatever_the_file_says_every_line_is_taken_or_counted(lines, suffix):
    with tempfile.TemporaryDirectory() as place:
        base = Path(place).resolve()
        data = base / "data"
        data.mkdir()
        Image.fromarray(PIXELS).save(data / "a.png")
        (base / "secret.png").write_bytes((data / "a.png").read_bytes())
        (data / "out.png").symlink_to(base / "secret.png")
        head = (
            [json.dumps(row()).encode()]
            if suffix == ".jsonl"
            else [b"image,instruction,output", b"a.png,a,b"]
        )
        path = data / f"rows{suffix}"
        path.write_bytes(b"\n".join([*head, *lines]) + b"\n")
        skips = Skips(most=1)
        records = [*read_own(path, data, skips)]
        assert len(records) == skips.taken >= 1
        if suffix == ".jsonl":  # a quoted text of a table may swallow lines
            written = path.read_bytes().split(b"\n")
            assert len(records) + len(skips) == sum(
                1 for line in written if line.decode("utf-8", "replace").strip()
            )
        for record in records:
            assert record.turns[0][1].startswith("<image>") and record.image
        mine = open_pictures(data, most_skipped=1)
        assert all(record.path().is_relative_to(data) for record in mine.records) and len(mine) >= 1


def test_the_columns_are_those_of_the_documentation():
    assert own.OWN_COLUMNS == ("image", "instruction", "output")


def test_endings_and_the_name_of_the_test_are_read_in_any_case(folder):
    write(folder, row(), name="Rows.JSONL")
    write(folder, row(), name="Test.Jsonl")
    assert data_files(folder) == {"train": folder / "Rows.JSONL", "test": folder / "Test.Jsonl"}
    write(folder, row(), name="test.csv")
    with pytest.raises(ValueError, match=r"there are: Rows\.JSONL, Test\.Jsonl, test\.csv"):
        data_files(folder)
