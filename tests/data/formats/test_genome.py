"""Visual Genome in the forms of its versions: names and synsets, merged objects, aliases."""

import json
import tracemalloc

import pytest

from vlmcourse.data.formats.genome import (
    genome_objects,
    genome_record,
    genome_regions,
    genome_relationships,
    genome_turns,
    parse_aliases,
    read_aliases,
    read_visual_genome,
)
from vlmcourse.data.records import BoxedObject, Region, Relationship, Skips

TREE = dict(
    synsets=["tree.n.01"], h=557, object_id=1058549, merged_object_ids=[], names=["trees"], w=799, y=0, x=0
)
WALK = dict(synsets=["sidewalk.n.01"], h=290, object_id=1058534, merged_object_ids=[5046], names=["sidewalk"],
            w=722, y=308, x=78)  # fmt: skip
OLD = dict(id=7, h=10, w=20, x=1, y=2, name=" Man ")
URL = "https://cs.stanford.edu/people/rak248/VG_100K_2/1.jpg"


def test_boxes_have_corners_and_objects_their_attributes():
    attributes = [dict(object_id=1058534, names=["sidewalk"], attributes=["Grey ", "wet"]),
                  dict(object_id=1058549, names=["trees"]),  # some have none
                  dict(object_id=1058534, attributes=["wet", "long"]),
                  dict(object_id=99, attributes=["red"])]  # fmt: skip
    assert genome_objects([TREE, WALK], attributes, {"trees": "tree"}) == (
        BoxedObject("tree", (0, 0, 799, 557), (), ("tree.n.01",)),
        BoxedObject("sidewalk", (78, 308, 800, 598), ("grey", "wet", "long"), ("sidewalk.n.01",)),
    )


def test_the_first_version_calls_things_otherwise():
    attributes = [dict(id=7, object_names=["man"], attributes=["tall"])]
    assert genome_objects([OLD], attributes, {}) == (BoxedObject("man", (1, 2, 21, 12), ("tall",)),)
    several = OLD | dict(object_names=["Guy", "man"])
    del several["name"]
    assert genome_objects([several], [dict(id=7, attributes=None)], {})[0].name == "guy"


def related(predicate, subject, object_):
    return dict(predicate=predicate, relationship_id=1, synsets=["along.r.01"],
                subject=subject, object=object_)  # fmt: skip


def test_relationships_name_places_and_merged_objects_count_for_those_they_became():
    published = [related("ON", dict(object_id=1058549, name="trees"), dict(object_id=5046, names=["walk"])),
                 related(" Next To", dict(object_id=1058534, name="a"), dict(object_id=1058549, name="b")),
                 related("has", dict(object_id=1058534, name="a"), dict(object_id=3))]  # fmt: skip
    assert genome_relationships(published, [TREE, WALK], {"next to": "beside"}) == (
        Relationship(0, "on", 1), Relationship(1, "beside", 0))  # fmt: skip
    assert genome_relationships([related("of", dict(id=7), dict(id=7))], [OLD], {}) == (
        Relationship(0, "of", 0),
    )


def test_an_object_that_was_kept_wins_over_one_that_was_merged():
    odd = TREE | dict(merged_object_ids=[1058549, 1058534])
    published = [related("on", dict(object_id=1058549), dict(object_id=1058534))]
    assert genome_relationships(published, [odd, WALK], {}) == (Relationship(0, "on", 1),)


def test_regions_and_questions():
    region = dict(region_id=1382, width=82, height=139, image_id=1, phrase=" a green clock ", y=57, x=421)
    assert genome_regions([region]) == (Region("a green clock", (421, 57, 503, 196)),)
    qas = [dict(a_objects=[], question="What is green?", image_id=1, answer="The clock.", q_objects=[]),
           dict(question="Where?", answer=" Here. ")]  # fmt: skip
    assert genome_turns(qas) == (("user", "<image>What is green?"), ("assistant", "The clock."),
                                 ("user", "Where?"), ("assistant", "Here."))  # fmt: skip
    assert genome_turns([]) == ()


def test_the_first_word_of_a_line_stands_for_all():
    lines = ["windows,window ,Window\n", "man, men,guy\n", "\n", "guy,boy\n"]
    assert parse_aliases(lines) == {
        "windows": "windows",
        "window": "windows",
        "man": "man",
        "men": "man",
        "guy": "man",
        "boy": "guy",
    }


def test_damaged_lines_of_an_alias_file_are_passed_over(tmp_path):
    (tmp_path / "alias.txt").write_bytes(b"\xff\n" * 1001 + b"tree,trees\n")
    assert read_aliases(tmp_path / "alias.txt") == {"tree": "tree", "trees": "tree"}
    assert read_aliases(tmp_path / "nothing.txt") == {}


def test_the_picture_is_where_its_link_says_and_what_is_lost_is_counted():
    image = dict(image_id=2412112, url="https://cs.stanford.edu/people/rak248/VG_100K/2370463.jpg", width=500)
    parts = dict(objects=[TREE], relationships=[related("on", dict(object_id=1058549), dict(object_id=3))])
    record = genome_record(image, parts)
    assert record.image == "VG_100K/2370463.jpg" and record.key == "2412112"
    assert record.facts == {"relationships left out": 1} and record.relationships == ()
    assert genome_record(image, dict(objects=[TREE])).facts == {}


def published(folder, images=(1, 2, 3)):
    write = lambda name, rows: (folder / f"{name}.json").write_text(json.dumps(rows))  # noqa: E731
    write("image_data", [dict(image_id=n, url=URL.replace("1.jpg", f"{n}.jpg")) for n in images])
    write("objects", [dict(image_id=n, objects=[TREE], image_url=URL) for n in images])
    write("attributes", [dict(image_id=n, attributes=[TREE | dict(attributes=[f"a{n}"])]) for n in images])
    write("relationships", [dict(relationships=[], image_id=n) for n in reversed(images)])
    regions = [dict(x=0, y=0, width=n, height=1, phrase="a", image_id=n) for n in images]
    write(
        "region_descriptions",
        [dict(id=n, regions=[region]) for n, region in zip(images, regions, strict=True)],
    )
    write(
        "question_answers",
        [dict(id=n, qas=[dict(question="Who?", answer=f"{n}.")]) for n in images if n != 2],
    )
    (folder / "object_alias.txt").write_text("tree,trees\n")


def test_the_files_are_read_side_by_side_in_whatever_order(tmp_path):
    published(tmp_path)
    records = [*read_visual_genome(tmp_path, tmp_path / "pictures")]
    assert [record.image for record in records] == ["VG_100K_2/1.jpg", "VG_100K_2/2.jpg", "VG_100K_2/3.jpg"]
    assert [record.objects[0].attributes for record in records] == [("a1",), ("a2",), ("a3",)]
    assert [record.objects[0].name for record in records] == ["tree"] * 3
    assert [record.regions[0].box for record in records] == [(0, 0, 1, 1), (0, 0, 2, 1), (0, 0, 3, 1)]
    assert [record.turns[1:] for record in records] == [(("assistant", "1."),), (), (("assistant", "3."),)]
    assert records[2].where == "image_data.json, row 3"


def test_some_files_are_enough(tmp_path):
    published(tmp_path)
    (tmp_path / "relationships.json").unlink()
    assert len([*read_visual_genome(tmp_path, tmp_path)]) == 3
    (record, *_) = read_visual_genome(tmp_path, tmp_path, parts=["region_descriptions"])
    assert record.regions and not record.objects and not record.turns
    with pytest.raises(ValueError, match="unknown part 'boxes'"):
        [*read_visual_genome(tmp_path, tmp_path, parts=["boxes"])]
    with pytest.raises(ValueError, match=r"holds none of relationships\.json"):
        [*read_visual_genome(tmp_path, tmp_path, parts=["relationships"])]


def test_broken_entries_are_skips(tmp_path):
    published(tmp_path)
    (tmp_path / "objects.json").write_text(json.dumps(
        [dict(image_id=1, objects=[TREE | dict(w=0)]), dict(image_id=2, objects=[dict(object_id=1)]),
         dict(image_id=3, objects=[TREE])]))  # fmt: skip
    skips = Skips(most=0.9)
    (record,) = read_visual_genome(tmp_path, tmp_path, skips)
    assert record.key == "3" and skips.reasons == {"empty box": 1, "not in the published form": 1}
    (tmp_path / "objects.json").write_text(json.dumps([dict(image_id=1)]))
    skips = Skips(most=1)
    assert len([*read_visual_genome(tmp_path, tmp_path, skips)]) == 2
    assert "objects.json, row 1: no 'objects'" in str(skips)


def test_one_picture_at_a_time_is_in_memory(tmp_path):
    many = 3000
    for name, key in (("objects", "objects"), ("image_data", None), ("region_descriptions", "regions")):
        with open(tmp_path / f"{name}.json", "w") as file:
            for n in range(many):
                entry = dict(image_id=n, url=URL) | (
                    {key: [TREE | dict(names=["a" * 3000])]} if key == "objects" else {}
                )
                entry |= (
                    {key: [dict(x=0, y=0, width=1, height=1, phrase="a" * 3000)]} if key == "regions" else {}
                )
                file.write(("," if n else "[") + json.dumps(entry))
            file.write("]")
    tracemalloc.start()
    assert sum(1 for _ in read_visual_genome(tmp_path, tmp_path)) == many
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3_000_000
