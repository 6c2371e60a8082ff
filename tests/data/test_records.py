"""A record opens its picture only when asked and only inside its folder; what is left out is counted."""

import io
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vlmcourse.data import records
from vlmcourse.data.records import (
    BoxedObject,
    Record,
    Region,
    Relationship,
    RowError,
    Skips,
    TooManySkips,
    checked_record,
    image_first,
    path_within,
    taken_record,
)

ASKED = (("user", "<image>what colour?"), ("assistant", "red"))


def test_a_record_is_frozen_and_equal_wherever_it_was_read():
    record = Record("a.png", ASKED, folder="here", file="x.json", row=3)
    assert record == Record("a.png", ASKED, folder="there", file="y.json", row=9)
    assert record != replace(record, image="b.png") and record != replace(record, facts={"url": "u"})
    assert hash(record) == hash(replace(record, row=1)) and record.where == "x.json, row 3"
    with pytest.raises(FrozenInstanceError):
        record.row = 4


def test_a_picture_is_opened_from_its_folder_or_from_its_bytes(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    (tmp_path / "deep").mkdir()
    Image.fromarray(pixels).save(tmp_path / "deep" / "a.png")
    read = (tmp_path / "deep" / "a.png").read_bytes()
    for record in (Record("deep/a.png", folder=str(tmp_path)), Record(read)):
        assert np.array_equal(record.load(), pixels) and record.load(side=16).shape == (16, 16, 3)
        assert record.size() == (64, 64)


def test_a_turned_photo_has_the_size_that_is_seen(tmp_path):
    for orientation, size in (
        (1, (40, 20)),
        (3, (40, 20)),
        (4, (40, 20)),
        (5, (20, 40)),
        (6, (20, 40)),
        (8, (20, 40)),
    ):
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.new("RGB", (40, 20)).save(tmp_path / "a.jpg", exif=exif)
        assert Record("a.jpg", folder=str(tmp_path)).size() == size


def encoded(picture, kind="PNG", **options):
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def gif():
    frames = [Image.new("RGB", (9, 9), colour) for colour in ("red", "blue")]
    return encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])


@pytest.mark.parametrize(
    ("picture", "reason", "detail"),
    [
        (b"", "picture is empty", "0 bytes"),
        (b"not a picture", "picture cannot be read", "save it as PNG or JPEG"),
        (encoded(Image.new("L", (9, 9)), "PPM"), "picture cannot be read", "save it as PNG or JPEG"),
        (encoded(Image.new("L", (1, 1))), "picture is too small", "1×1 pixels; the shorter edge needs 8"),
        (encoded(Image.new("L", (90, 7))), "picture is too small", "90×7"),
        (gif(), "picture is animated", "the one frame"),
        (encoded(Image.new("1", (8_000, 8_000))), "picture has too many pixels", "8000×8000; 50,000,000"),
        (encoded(Image.new("1", (14_000, 14_000))), "picture has too many pixels", "scale it down"),
    ],
    ids=["empty", "text", "ppm", "1x1", "line", "animated", "large", "bomb"],
)
def test_a_picture_that_teaches_nothing_is_named(picture, reason, detail):
    with pytest.raises(RowError) as caught:
        Record(picture, file="folder/rows.json", row=7).size()
    assert caught.value.reason == reason and detail in str(caught.value)
    assert "rows.json, row 7: " in str(caught.value) and "folder" not in str(caught.value)


def test_eight_pixels_are_enough_and_damage_shows_when_all_is_read():
    assert Record(encoded(Image.new("L", (8, 9)))).size() == (8, 9)
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    cut = Record(encoded(noise)[:4000], file="rows.json", row=2)
    assert cut.size() == (64, 64)
    with pytest.raises(RowError, match=r"picture cannot be read: rows\.json, row 2: .* damaged or cut off"):
        cut.load()
    with pytest.raises(RowError, match="no picture is named"):
        Record(None).load()


@pytest.fixture
def folder(tmp_path):
    """A data folder with a file, beside a secret outside."""
    (tmp_path / "secret.png").write_bytes(encoded(Image.new("L", (9, 9))))
    data = tmp_path / "data"
    (data / "sub").mkdir(parents=True)
    (data / "sub" / "a.png").write_bytes(encoded(Image.new("L", (9, 9))))
    (data / "out.png").symlink_to(tmp_path / "secret.png")
    (data / "up").symlink_to(tmp_path)
    (data / "in.png").symlink_to(data / "sub" / "a.png")
    (data / "ring.png").symlink_to(data / "ring.png")
    return data


@pytest.mark.parametrize("name", ["sub/a.png", "./sub/a.png", "in.png", "sub//a.png"])
def test_files_inside_are_found(folder, name):
    assert path_within(folder, name) == folder / "sub" / "a.png"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../secret.png", "picture lies outside the folder"),
        ("sub/../../secret.png", "picture lies outside the folder"),
        ("sub/../sub/a.png", "picture lies outside the folder"),
        ("..\\secret.png", "picture lies outside the folder"),
        ("/etc/passwd", "picture lies outside the folder"),
        ("\\\\server\\share\\a.png", "picture lies outside the folder"),
        ("C:\\a.png", "picture lies outside the folder"),
        ("out.png", "picture lies outside the folder"),
        ("up/secret.png", "picture lies outside the folder"),
        ("ring.png", "picture is missing"),
        ("sub", "picture is missing"),
        ("nothing.png", "picture is missing"),
        ("a" * 300, "picture is missing"),
        ("a\0.png", "picture has a bad name"),
        ("a\udcff.png", "picture has a bad name"),
        ("", "no picture is named"),
        ("  ", "no picture is named"),
        (7, "no picture is named"),
        (None, "no picture is named"),
    ],
)
def test_nothing_else_is_a_file_of_the_folder(folder, name, reason):
    with pytest.raises(RowError) as caught:
        path_within(folder, name)
    assert caught.value.reason == reason
    with pytest.raises(RowError) as caught:
        Record(name, folder=str(folder)).load()
    assert caught.value.reason == reason


@given(
    st.lists(st.sampled_from(["..", "/", "\\", "a", ".", "up", "~", "sub", "\0"]), max_size=9).map("".join)
)
def test_whatever_the_name_the_path_is_inside(name):
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as place:
        base = Path(place).resolve() / "data"
        (base / "sub").mkdir(parents=True)
        (base.parent / "a").write_text("secret")
        (base / "a").write_text("open")
        (base / "up").symlink_to(base.parent)
        try:
            path = path_within(base, name)
        except RowError:
            return
        assert path.is_relative_to(base) and path.is_file()


def test_the_picture_stands_in_front_of_its_turn():
    for text in ("<image>\nwhat?", "what?\n<image>", " <image> what?", "<image>what?"):
        assert image_first(text) == "<image>what?"
    assert image_first(" why? ") == "why?"
    with pytest.raises(RowError, match="several pictures: 2 times <image>"):
        image_first("<image><image>what?")


BOX = (0, 0, 2, 2)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (Record("a.png"), "nothing is said"),
        (Record("a.png", (("user", "what?"), ("assistant", "red"))), "picture and <image> do not match"),
        (Record(None, ASKED), "picture and <image> do not match"),
        (Record("a.png", (*ASKED, *ASKED)), "picture and <image> do not match"),
        (Record("a.png", (("bot", "<image>hi"),)), "unknown role"),
        (Record("a.png", (("user", "<image> "), ("assistant", "red"))), "empty text"),
        (Record("a.png", (("user", "<image>what?"), ("assistant", " "))), "empty text"),
        (Record("a.png", (("user", "<image>what?"), ("assistant", None))), "wrong type"),
        (Record("a.png", captions=("",)), "empty text"),
        (Record("a.png", captions=("a", 7)), "wrong type"),
        (Record("a.png", captions=("a\0b",)), "damaged text"),
        (Record("a.png", captions=("a\udcffb",)), "damaged text"),
        (Record("a.png", captions=("a" * 65_537,)), "text too long"),
        (Record("a.png", ASKED, answers=("red", "")), "empty text"),
        (Record(7, captions=("a",)), "wrong type"),
        (Record("a.png", objects=(BoxedObject("a", (2, 0, 2, 2)),)), "empty box"),
        (Record("a.png", objects=(BoxedObject("a", (0, 3, 2, 2)),)), "empty box"),
        (Record("a.png", objects=(BoxedObject("a", (0, 0, float("nan"), 2)),)), "empty box"),
        (Record("a.png", objects=(BoxedObject("", BOX),)), "empty text"),
        (Record("a.png", regions=(Region("a", (0, 0, 0, 2)),)), "empty box"),
        (Record("a.png", objects=(BoxedObject("a", BOX),), relationships=(Relationship(0, "on", 1),)),
         "relationship without object"),
        (Record("a.png", objects=(BoxedObject("a", BOX),), relationships=(Relationship(-1, "on", 0),)),
         "relationship without object"),
    ],
)  # fmt: skip
def test_a_record_that_cannot_be_learned_from_is_refused(record, reason):
    with pytest.raises(RowError) as caught:
        checked_record(record)
    assert caught.value.reason == reason


def test_a_record_that_can_be_is_itself():
    thing = BoxedObject("a", BOX)
    for record in (
        Record("a.png", ASKED),
        Record(None, (("user", "what?"), ("assistant", "say <image>"))),
        Record(b"x", captions=("a" * 65_536,)),
        Record(None, captions=("a",)),
        Record("a.png", objects=(thing,), relationships=(Relationship(0, "on", 0),)),
        Record("a.png", regions=(Region("a", BOX),)),
    ):
        assert checked_record(record) is record


def test_exactly_the_allowed_share_may_be_left_out():
    skips = Skips(most=0.5)
    skips.taken = 1
    skips.leave_out("a.json", 2, RowError("empty text", "caption"))
    assert skips.finish() is skips and skips.share == 0.5 and len(skips) == 1
    skips.leave_out("a.json", 3, RowError("empty text", "caption"))
    skips.leave_out("b/a.json", 4, RowError("wrong type"))
    with pytest.raises(TooManySkips) as caught:
        skips.finish()
    said = str(caught.value)
    assert "3 of 4 rows had to be left out (75.0%), 50.0% are allowed" in said
    assert "2 × empty text; a.json, row 2: caption" in said and "1 × wrong type; a.json, row 4" in said
    assert "most_skipped=" in said and said.index("2 ×") < said.index("1 ×")


def test_absent_rows_are_shown_and_do_no_harm():
    skips = Skips(most=0)
    skips.absent["no picture could be fetched"] += 30
    assert skips.finish().table() == [["no picture could be fetched", "30", "expected"]]
    assert skips.share == 0


def test_a_long_run_stops_as_soon_as_it_is_beyond_doubt_and_keeps_few_examples():
    skips, error = Skips(), RowError("wrong type", "x" * 1000)
    for row in range(10):
        skips.leave_out("a.json", row, error)
    skips.taken = 989
    with pytest.raises(TooManySkips, match="11 of 1000 rows"):
        skips.leave_out("a.json", 10, error)
    assert len(skips.examples["wrong type"]) == 3 and len(skips.examples["wrong type"][0]) == 300
    fine = Skips()
    fine.taken = 999
    for row in range(10):
        fine.leave_out("a.json", row, error)


@pytest.mark.parametrize("most", [-0.1, 1.1])
def test_a_share_is_a_share(most):
    with pytest.raises(ValueError, match="between 0 and 1"):
        Skips(most)


@pytest.mark.parametrize(
    ("row", "said"),
    [({}, "KeyError 'text'"), (None, "TypeError"), ({"text": 3}, "captions should be a text")],
)
def test_a_row_in_another_form_is_a_skip_with_its_place(row, said):
    skips = Skips(most=1)

    def parse(row):
        return Record("a.png", captions=(row["text"],))

    where = dict(folder="f", file="in/rows.json", number=5, skips=skips)
    assert taken_record(parse, row, **where) is None
    assert skips.taken == 0
    reason = "wrong type" if row == {"text": 3} else "not in the published form"
    assert skips.reasons == {reason: 1}
    assert said in str(skips) and "rows.json, row 5" in str(skips)
    record = taken_record(parse, {"text": "a"}, **where)
    assert (record.folder, record.file, record.row) == ("f", "in/rows.json", 5) and skips.taken == 1


def test_a_mistake_of_the_program_is_no_skip():
    def parse():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        taken_record(parse, folder="", file="", number=1, skips=records.Skips())
