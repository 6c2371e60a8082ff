"""COCO Captions in the published form: two lists joined by a number."""

import json

import pytest

from vlmcourse.data.formats.coco import captions_by_image, coco_record, read_coco
from vlmcourse.data.records import Record, Skips, TooManySkips

IMAGES = [
    dict(license=1, file_name="COCO_val2014_000000000042.jpg", coco_url="http://…", height=478, width=640,
         date_captured="2013-11-18 09:39:13", flickr_url="http://…", id=42),
    dict(license=4, file_name="COCO_val2014_000000000073.jpg", height=640, width=565, id=73),
]  # fmt: skip
ANNOTATIONS = [
    dict(image_id=73, id=11, caption="A motorcycle in front of a shed."),
    dict(image_id=42, id=641613, caption="A dog sleeps on  shoes.\n"),
    dict(image_id=73, id=12, caption=" Two wheels and a seat"),
]


def published(path, images=IMAGES, annotations=ANNOTATIONS):
    whole = {"info": {"year": 2014, "version": "1.0"}, "images": images,
             "licenses": [{"id": 1, "name": "by"}], "annotations": annotations}  # fmt: skip
    path.write_text(json.dumps(whole))
    return path


def test_captions_find_their_picture(tmp_path):
    path = published(tmp_path / "captions_val2014.json")
    dog, motorcycle = read_coco(path, tmp_path / "val2014")
    assert dog == Record("COCO_val2014_000000000042.jpg", captions=("A dog sleeps on shoes.",), key="42")
    assert motorcycle.captions == ("A motorcycle in front of a shed.", "Two wheels and a seat")
    assert motorcycle.where == "captions_val2014.json, row 2"
    assert motorcycle.folder == str(tmp_path / "val2014")


def test_annotations_may_stand_before_the_pictures(tmp_path):
    whole = {"annotations": ANNOTATIONS, "images": IMAGES}
    (tmp_path / "a.json").write_text(json.dumps(whole))
    assert [record.key for record in read_coco(tmp_path / "a.json", tmp_path)] == ["42", "73"]


def test_captions_are_grouped_by_number_and_in_order():
    assert captions_by_image(iter(ANNOTATIONS)) == {
        73: ["A motorcycle in front of a shed.", "Two wheels and a seat"],
        42: ["A dog sleeps on shoes."],
    }
    assert coco_record(IMAGES[0], {73: ["no"]}).captions == ()


def test_a_picture_without_caption_and_a_broken_entry_are_skips(tmp_path):
    path = published(tmp_path / "a.json", [*IMAGES, dict(id=9, file_name="9.jpg"), dict(id=73)],
                     [*ANNOTATIONS, dict(image_id=42, caption=None), "no"])  # fmt: skip
    skips = Skips(most=0.9)
    assert len([*read_coco(path, tmp_path, skips)]) == 2
    assert skips.reasons == {"nothing is said": 1, "not in the published form": 3}
    assert "a.json, row 3" in str(skips) and "a.json, row 4: caption should be str" in str(skips)
    with pytest.raises(TooManySkips, match=r"4 of 6 rows"):
        [*read_coco(path, tmp_path)]
