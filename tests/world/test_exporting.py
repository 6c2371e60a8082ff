"""Scenes written as published data sets are read back as they were, pictures included."""

import csv
import json
import tarfile
from dataclasses import replace

import numpy as np
import pyarrow.parquet
import pytest

from vlmcourse.data.formats.coco import read_coco
from vlmcourse.data.formats.genome import read_visual_genome
from vlmcourse.data.formats.laion import read_laion
from vlmcourse.data.formats.llava import read_llava
from vlmcourse.data.formats.vqa import read_complementary_pairs, read_vqa
from vlmcourse.data.own import open_pictures
from vlmcourse.data.records import BoxedObject, Relationship, Skips
from vlmcourse.world import captions, exporting, questions, scenes, twins
from vlmcourse.world.render import render
from vlmcourse.world.truth import list_things

BATCH = scenes.sample("train", 12, objects=(1, 4))
PIXELS = render(BATCH).astype(int)


def same_pictures(records, expected=PIXELS, most=0.0):
    """Mean difference of bytes; a JPEG is not the same to the last bit."""
    for record, pixels in zip(records, expected, strict=True):
        assert np.abs(record.load() - pixels).mean() <= most
        assert record.size() == (64, 64)


def test_records_say_what_is_true():
    records, asked = exporting.scene_records(BATCH, seed=3), questions.ask(BATCH, seed=3)
    short = captions.captions(BATCH, "short")
    assert len(records) == 12 and len({record.key for record in records}) == 12
    for number, (record, question) in enumerate(zip(records, asked, strict=True)):
        things = list_things(BATCH, number)
        assert record.turns == (("user", "<image>" + question.text), ("assistant", question.answer))
        assert record.captions[0] == short[number] and len(record.captions) == 3
        assert len(record.answers) == 10 and record.answers.count(question.answer) >= 6
        assert [one.box for one in record.objects] == [thing.box for thing in things]
        pairs = len(things) * (len(things) - 1) // 2
        assert len(record.relationships) == pairs and len(record.regions) == len(things)
        for one, region in zip(record.objects, record.regions, strict=True):
            assert region.box == one.box and region.text == f"a {' '.join(one.attributes)} {one.name}"
    kinds = {question.kind: record.kind for record, question in zip(records, asked, strict=True)}
    assert all(kinds[kind] == exporting.KIND_NAMES.get(kind, "other") for kind in kinds)


def test_a_thing_by_hand():
    batch = scenes.sample("train", 1, objects=(2, 2))
    one, two = list_things(batch, 0)
    (record,) = exporting.scene_records(batch)
    first = BoxedObject(
        scenes.SHAPES[one.shape], one.box, (scenes.SIZES[one.size], scenes.COLOURS[one.colour])
    )
    assert record.objects[0] == first and exporting.boxed_thing(two) == record.objects[1]
    name = scenes.RELATIONS[int(scenes.relation(batch)[0])]
    assert record.relationships == (Relationship(0, name, 1),)


def test_coco(tmp_path):
    written = exporting.export_coco(BATCH, tmp_path)
    path = tmp_path / "annotations" / "captions_train2017.json"
    read = [*read_coco(path, tmp_path / "train2017")]
    assert read == written and all(len(record.captions) == 3 for record in read)
    same_pictures(read)
    published = json.loads(path.read_text())
    ids = [entry["image_id"] for entry in published["annotations"]]
    assert ids[:12] == ids[12:24] == ids[24:] == [image["id"] for image in published["images"]]
    assert published["annotations"][-1]["caption"].endswith("\n") and list(published)[-1] == "annotations"


def test_vqa(tmp_path):
    written = exporting.export_vqa(BATCH, tmp_path, seed=1)
    names = ("v2_OpenEnded_mscoco_train2014_questions.json", "v2_mscoco_train2014_annotations.json")
    read = [*read_vqa(tmp_path / names[0], tmp_path / names[1], tmp_path)]
    assert read == written and read[0].image == f"train2014/COCO_train2014_{458752 + 11:012d}.jpg"
    same_pictures(read, PIXELS[::-1], most=3)
    assert not (tmp_path / "v2_mscoco_train2014_complementary_pairs.json").exists()


def test_vqa_with_complementary_pairs(tmp_path):
    asked = questions.ask(BATCH, seed=1)
    edited, answers = twins.twins(BATCH, asked)
    written = exporting.export_vqa(BATCH, tmp_path, 1, edited, answers)
    names = ("v2_OpenEnded_mscoco_train2014_questions.json", "v2_mscoco_train2014_annotations.json")
    read = [*read_vqa(tmp_path / names[0], tmp_path / names[1], tmp_path)]
    assert read == written and len(read) == 24
    same_pictures(read, np.concatenate([PIXELS, render(edited).astype(int)])[::-1], most=3)
    by_key = {record.key: record for record in read}
    pairs = read_complementary_pairs(tmp_path / "v2_mscoco_train2014_complementary_pairs.json")
    assert len(pairs) == 12
    for one, two in pairs:
        assert by_key[one].turns[0] == by_key[two].turns[0] and by_key[one].turns[1] != by_key[two].turns[1]
        assert (
            by_key[one].image != by_key[two].image and by_key[two].answers.count(by_key[two].turns[1][1]) >= 6
        )


def test_visual_genome(tmp_path):
    written = exporting.export_genome(BATCH, tmp_path)
    read = [*read_visual_genome(tmp_path, tmp_path)]
    assert read == written and all(record.facts == {} for record in read)
    assert {one.predicate for record in read for one in record.relationships} == set(scenes.RELATIONS)
    same_pictures(read, most=3)
    published = json.loads((tmp_path / "relationships.json").read_text())
    said = [one for entry in published for one in entry["relationships"]]
    assert {"LEFT OF", "UNDER"} <= {one["predicate"] for one in said}
    assert "name" in said[0]["subject"] and "names" in said[0]["object"]
    listed = json.loads((tmp_path / "objects.json").read_text())
    known = {one["object_id"] for entry in listed for one in entry["objects"]}
    assert not all(one["subject"]["object_id"] in known for one in said), "some objects were merged"


def test_laion(tmp_path):
    similarity = np.linspace(0.1, 0.4, 12)
    written = exporting.export_laion(BATCH, tmp_path, similarity=similarity)
    skips = Skips(most=0)
    read = [*read_laion([tmp_path / "00000.tar"], skips)]
    assert read == written and len(read) == 10 and read[3].facts["similarity"] == similarity[3]
    same_pictures(read, np.delete(PIXELS, [4, 9], axis=0), most=3)
    with tarfile.open(tmp_path / "00000.tar") as tar:
        assert tar.getnames()[:3] == ["000000000.jpg", "000000000.json", "000000000.txt"]
    table = [*read_laion([tmp_path / "00000.parquet"], skips)]
    assert [replace(record, image=None) for record in read] == table
    assert skips.absent == {"no picture could be fetched": 2}
    assert pyarrow.parquet.read_table(tmp_path / "00000.parquet").num_rows == 12
    assert "similarity" not in exporting.export_laion(BATCH[:1], tmp_path / "plain")[0].facts


def test_llava(tmp_path):
    written = exporting.export_llava(BATCH, tmp_path)
    path = tmp_path / "llava_instruct_scenes.json"
    read = [*read_llava(path, tmp_path)]
    assert read == written and [record.row for record in read if record.image is None] == [5, 10]
    pictures = [record for record in read if record.image]
    same_pictures(pictures, np.delete(PIXELS, [4, 9], axis=0))
    rows = json.loads(path.read_text())
    assert rows[0]["conversations"][0]["value"].startswith("<image>\n")
    assert rows[1]["conversations"][0]["value"].endswith("\n<image>")
    assert "image" not in rows[4] and len(rows[0]["conversations"]) == 4


@pytest.mark.parametrize("file", ["train.jsonl", "train.csv"])
def test_own(tmp_path, file):
    written = exporting.export_own(BATCH, tmp_path, file=file)
    assert exporting.export_own(BATCH[:3], tmp_path, file="test.jsonl")[0].image != written[0].image
    read = open_pictures(tmp_path)
    assert read.records == written and read.file == tmp_path / file
    same_pictures(read.records)
    if file.endswith(".csv"):
        with open(tmp_path / file, newline="") as table:
            assert next(csv.reader(table)) == ["id", "image", "instruction", "output"]
