"""Scenes in the forms in which real data sets are published (notebook 12).

    scene_records       everything that is true of scenes, as records
    export_coco         pictures and captions files     read back by data.formats.coco
    export_vqa          questions, annotations, pairs   data.formats.vqa
    export_genome       objects, relationships, ...     data.formats.genome
    export_laion        a shard and its table           data.formats.laion
    export_llava        conversations                   data.formats.llava
    export_own          a folder as one's own           data.own

Each writes files as they were published, with what is odd about them, into a folder, and returns the
records that reading them has to give.  So a reader is tried on data whose truth is known, and a cell that
reads scenes reads the real thing as it is.
"""

import csv
import io
import json
import tarfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from vlmcourse.data.formats.vqa import coco_picture
from vlmcourse.data.own import OWN_COLUMNS
from vlmcourse.data.records import BoxedObject, Record, Region, Relationship
from vlmcourse.data.text import IMAGE_WORD
from vlmcourse.world import captions, questions
from vlmcourse.world.instructions import FULL, ordered_captions, turns
from vlmcourse.world.render import render
from vlmcourse.world.scenes import COLOURS, RELATIONS, SHAPES, SIDE, SIZES, Scenes, relation
from vlmcourse.world.truth import Question, Thing, list_things

KIND_NAMES = dict(count="number", existence="yes/no", relation="yes/no", comparison="yes/no")  # else "other"
_FIRST = 458752  # the number of the first picture; those of COCO are as large
_HOME = "https://cs.stanford.edu/people/rak248"


def scene_records(scenes: Scenes, seed: int = 0) -> list[Record]:
    """One record for each scene, with all that is true of it; `image` is not set yet.

    Returns:
        captions: a short one, a full one, and the full one in reading order.
        turns, answers, kind: a question of any kind, its answer, and what ten people said.
        objects: names are shapes, attributes size and colour; boxes from the truth.
        relationships: of each object to each later one. regions: each object described in words.
    """
    asked = questions.ask(scenes, seed=seed)
    people = questions.annotators(scenes, asked, seed=seed)
    styles = (captions.captions(scenes, "short"), captions.captions(scenes, "full"), ordered_captions(scenes))
    records = []
    for number, question in enumerate(asked):
        things = list_things(scenes, number)
        record = Record(
            turns=tuple(turns(question.text, question.answer)),
            captions=tuple(texts[number] for texts in styles),
            answers=people[number],
            objects=tuple(boxed_thing(thing) for thing in things),
            relationships=_relationships(scenes, number, len(things)),
            regions=tuple(Region(_described(thing), thing.box) for thing in things),
            kind=KIND_NAMES.get(question.kind, "other"),
            key=str(_FIRST + number),
        )
        records.append(record)
    return records


def boxed_thing(thing: Thing) -> BoxedObject:
    """A thing as an annotated object: "circle" with the attributes "small" and "red"."""
    return BoxedObject(SHAPES[thing.shape], thing.box, (SIZES[thing.size], COLOURS[thing.colour]))


def _described(thing: Thing) -> str:
    return f"a {SIZES[thing.size]} {COLOURS[thing.colour]} {SHAPES[thing.shape]}"


def _relationships(scenes: Scenes, number: int, count: int) -> tuple[Relationship, ...]:
    found = []
    for first in range(count):
        for second in range(first + 1, count):
            name = RELATIONS[int(relation(scenes[number], first, second)[0])]
            found.append(Relationship(first, name, second))
    return tuple(found)


def encode_picture(image: np.ndarray, kind: str) -> bytes:
    """The bytes of a PNG, or of a JPEG without colours at half size, which blur small things."""
    from PIL import Image

    options = dict(quality=95, subsampling=0) if kind == "JPEG" else {}
    out = io.BytesIO()
    Image.fromarray(image).save(out, kind, **options)
    return out.getvalue()


def _write_pictures(folder: Path, names: Sequence[str], scenes: Scenes) -> None:
    for name, image in zip(names, render(scenes), strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(encode_picture(image, "JPEG" if name.endswith(".jpg") else "PNG"))


def _write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def export_coco(scenes: Scenes, folder: str | Path, seed: int = 0) -> list[Record]:
    """annotations/captions_train2017.json and train2017/000000458752.png, ...

    Captions stand in no order, and every third ends with a line end, as some of COCO's do.
    """
    folder, records, images, annotations = Path(folder), [], [], []
    for number, full in enumerate(scene_records(scenes, seed)):
        name = f"{int(full.key):012d}.png"
        records.append(Record(name, captions=full.captions, key=full.key))
        images.append(dict(license=1, file_name=name, height=SIDE, width=SIDE, id=int(full.key)))
        for place, text in enumerate(full.captions):
            odd = "\n" * (place == 2)
            entry = dict(image_id=int(full.key), id=3 * number + place, caption=text + odd)
            annotations.append((place, entry))
    annotations.sort(key=lambda pair: pair[0])  # all first captions, then all second ones
    whole = dict(info=dict(description="Scenes", year=2026), licenses=[dict(id=1, name="MIT", url="")])
    whole |= dict(images=images, annotations=[entry for _, entry in annotations])
    _write_json(folder / "annotations" / "captions_train2017.json", whole)
    _write_pictures(folder / "train2017", [record.image for record in records], scenes)
    return records


def export_vqa(
    scenes: Scenes,
    folder: str | Path,
    seed: int = 0,
    twin_scenes: Scenes | None = None,
    twin_answers: Sequence[Question] = (),
) -> list[Record]:
    """v2_OpenEnded_mscoco_train2014_questions.json, v2_mscoco_train2014_annotations.json and the pictures.

    Annotations stand in the order of the questions turned round.

    Args:
        twin_scenes, twin_answers: what `twins.twins` makes of the scenes and of `questions.ask(scenes,
            seed=seed)`; they follow the others, and v2_mscoco_train2014_complementary_pairs.json lists them.
    """
    folder, full = Path(folder), scene_records(scenes, seed)
    batches = [(scenes, full)]
    if twin_scenes is not None:
        others = _twin_records(full, twin_scenes, twin_answers, seed)
        batches.append((twin_scenes, others))
        pairs = [[_question_id(one), _question_id(two)] for one, two in zip(full, others, strict=True)]
        _write_json(folder / "v2_mscoco_train2014_complementary_pairs.json", pairs)
    records, asked, annotated = [], [], []
    for batch, rows in batches:
        shown = [coco_picture("train2014", int(row.key)) for row in rows]
        _write_pictures(folder, shown, batch)
        for row, image in zip(rows, shown, strict=True):
            key = _question_id(row)
            records.append(Record(image, row.turns, answers=row.answers, kind=row.kind, key=str(key)))
            asked.append(dict(image_id=int(row.key), question=_question(row), question_id=key))
            annotated.append(_annotation(row, key))
    shared = dict(info=dict(version="2.0"), data_type="mscoco", data_subtype="train2014", license={})
    questions_file = shared | dict(task_type="Open-Ended", questions=asked)
    _write_json(folder / "v2_OpenEnded_mscoco_train2014_questions.json", questions_file)
    annotations_file = shared | dict(annotations=annotated[::-1])
    _write_json(folder / "v2_mscoco_train2014_annotations.json", annotations_file)
    return records[::-1]


def _twin_records(
    full: Sequence[Record], twin_scenes: Scenes, twin_answers: Sequence[Question], seed: int
) -> list[Record]:
    """The same questions about the edited scenes."""
    people = questions.annotators(twin_scenes, twin_answers, seed=seed)
    records = []
    for one, new, said in zip(full, twin_answers, people, strict=True):
        asked = tuple(turns(new.text, new.answer))
        records.append(replace(one, turns=asked, answers=said, key=str(int(one.key) + len(full))))
    return records


def _question(record: Record) -> str:
    return record.turns[0][1].removeprefix(IMAGE_WORD)


def _question_id(record: Record) -> int:
    """The picture's number with the number of the question about it behind."""
    return 1000 * int(record.key)


def _annotation(record: Record, key: int) -> dict:
    answers = []
    for number, said in enumerate(record.answers, 1):
        sure = "yes" if said == record.turns[1][1] else "maybe"
        answers.append(dict(answer=said, answer_confidence=sure, answer_id=number))
    return dict(
        question_type=" ".join(_question(record).lower().split()[:2]),
        multiple_choice_answer=record.turns[1][1],
        answers=answers,
        image_id=int(record.key),
        answer_type=record.kind,
        question_id=key,
    )


def export_genome(scenes: Scenes, folder: str | Path, seed: int = 0) -> list[Record]:
    """image_data.json, objects.json, attributes.json, relationships.json, region_descriptions.json,
    question_answers.json, both alias files, and VG_100K_2/458752.jpg, ...

    As in the real files, predicates of relationships come in capitals, some objects have "name" and some
    "names", every second relationship names an object that was merged away, and the number of a picture is
    "image_id" or "id".
    """
    folder, records = Path(folder), []
    files: dict[str, list] = {}
    for full in scene_records(scenes, seed):
        image, number = f"VG_100K_2/{full.key}.jpg", int(full.key)
        url = f"{_HOME}/{image}"
        entries = _genome_entries(full)
        meta = dict(image_id=number, url=url, width=SIDE, height=SIDE, coco_id=None, flickr_id=None)
        files.setdefault("image_data", []).append(meta)
        for name, key in (
            ("objects", "objects"),
            ("attributes", "attributes"),
            ("relationships", "relationships"),
        ):
            files.setdefault(name, []).append({"image_id": number, key: entries[name], "image_url": url})
        for name, key in (("region_descriptions", "regions"), ("question_answers", "qas")):
            files.setdefault(name, []).append({"id": number, key: entries[name]})
        kept = ("turns", "objects", "relationships", "regions", "key")
        records.append(Record(image, **{name: getattr(full, name) for name in kept}))
    for name, content in files.items():
        _write_json(folder / f"{name}.json", content)
    (folder / "object_alias.txt").write_text("circle,disc,round\nstar,asterisk\n")
    (folder / "relationship_alias.txt").write_text("left of,to the left of\nbelow,under,beneath\n")
    _write_pictures(folder, [record.image for record in records], scenes)
    return records


def _genome_entries(full: Record) -> dict[str, list]:
    """What the files say of one picture."""
    first = 10 * int(full.key)
    objects, attributes = [], []
    for place, one in enumerate(full.objects):
        left, top, right, bottom = one.box
        box = dict(x=left, y=top, w=right - left, h=bottom - top)
        shared = box | dict(object_id=first + place, names=[one.name], synsets=[])
        objects.append(shared | dict(merged_object_ids=[first + 5 + place]))
        attributes.append(shared | dict(attributes=list(one.attributes)))
    related = []
    for place, one in enumerate(full.relationships):
        merged = 5 * (place % 2)  # the number that the object had before it was merged
        subject = dict(object_id=first + merged + one.subject, name=full.objects[one.subject].name)
        other = dict(object_id=first + one.object, names=[full.objects[one.object].name])
        predicate = one.predicate.upper().replace("BELOW", "UNDER")
        entry = dict(predicate=predicate, relationship_id=first + place, synsets=[])
        related.append(entry | dict(subject=subject, object=other))
    regions = []
    for place, one in enumerate(full.regions):
        left, top, right, bottom = one.box
        box = dict(x=left, y=top, width=right - left, height=bottom - top)
        regions.append(box | dict(region_id=first + place, image_id=int(full.key), phrase=one.text))
    asked = dict(qa_id=first, image_id=int(full.key), question=_question(full), answer=full.turns[1][1])
    return dict(
        objects=objects,
        attributes=attributes,
        relationships=related,
        region_descriptions=regions,
        question_answers=[asked | dict(a_objects=[], q_objects=[])],
    )


def export_laion(
    scenes: Scenes,
    folder: str | Path,
    seed: int = 0,
    similarity: Sequence[float] | np.ndarray | None = None,
    dead: int = 5,
) -> list[Record]:
    """00000.tar and 00000.parquet as img2dataset writes them; every `dead`-th link could not be fetched.

    Args:
        similarity: of picture and caption, for each scene; None writes no such column.

    Returns:
        records of the shard; their `image` is the picture's bytes.
    """
    import pyarrow
    import pyarrow.parquet

    folder, records, table = Path(folder), [], []
    folder.mkdir(parents=True, exist_ok=True)
    rows = zip(captions.captions(scenes, "full", seed=seed), render(scenes), strict=True)
    with tarfile.open(folder / "00000.tar", "w") as tar:
        for number, (text, image) in enumerate(rows):
            key, alive = f"{number:09d}", (number + 1) % dead != 0
            facts = dict(url=f"https://example.org/{key}.jpg", NSFW="UNLIKELY", punsafe=0.0)
            facts |= {} if similarity is None else dict(similarity=float(similarity[number]))
            meta = facts | dict(key=key, caption=text) | _fetched(alive)
            table.append(meta)
            if alive:
                picture = encode_picture(image, "JPEG")
                _add_file(tar, f"{key}.jpg", picture)
                _add_file(tar, f"{key}.json", json.dumps(meta, indent=4).encode())
                _add_file(tar, f"{key}.txt", text.encode())
                facts["nsfw"] = facts.pop("NSFW")
                records.append(Record(picture, captions=(text,), facts=facts, key=key))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(table), folder / "00000.parquet")
    return records


def _fetched(alive: bool) -> dict[str, Any]:
    if alive:
        return dict(status="success", error_message=None, width=SIDE, height=SIDE)
    return dict(status="failed_to_download", error_message="HTTP Error 404", width=None, height=None)


def _add_file(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def export_llava(scenes: Scenes, folder: str | Path, seed: int = 0) -> list[Record]:
    """llava_instruct_scenes.json and the pictures in scenes/.

    A question and a caption about each picture; "<image>" stands before the first question and behind that of
    every second scene, and every fifth row is text alone.
    """
    folder, records, rows = Path(folder), [], []
    for number, full in enumerate(scene_records(scenes, seed)):
        said = [*full.turns, ("user", FULL), ("assistant", full.captions[1])]
        row = dict(id=full.key, image=f"scenes/{full.key}.png")
        if number % 5 == 4:
            said = [("user", "Which relations do you know?"), ("assistant", f"{', '.join(RELATIONS)}.")]
            row = dict(id=full.key, model="")
        records.append(Record(row.get("image"), tuple(said), key=full.key))
        published = []
        for role, text in said:
            text = text.removeprefix(IMAGE_WORD) if role == "user" else text
            published.append({"from": "human" if role == "user" else "gpt", "value": text})
        if "image" in row:
            first = published[0]
            before = f"{IMAGE_WORD}\n{first['value']}"
            first["value"] = f"{first['value']}\n{IMAGE_WORD}" if number % 2 else before
        rows.append(row | dict(conversations=published))
    _write_json(folder / "llava_instruct_scenes.json", rows)
    _write_pictures(folder, [f"scenes/{one.key}.png" for one in records], scenes)
    return records


def export_own(scenes: Scenes, folder: str | Path, seed: int = 0, file: str = "train.jsonl") -> list[Record]:
    """A file of {id, image, instruction, output}, .jsonl or .csv, and the pictures beside it."""
    folder, records, rows = Path(folder), [], []
    folder.mkdir(parents=True, exist_ok=True)
    stem = Path(file).stem
    for full in scene_records(scenes, seed):
        image = f"pictures/{stem}-{full.key}.png"
        records.append(Record(image, full.turns, key=full.key))
        texts = (full.key, image, _question(full), full.turns[1][1])
        rows.append(dict(zip(("id", *OWN_COLUMNS), texts, strict=True)))
    with open(folder / file, "w", encoding="utf-8", newline="") as out:
        if file.endswith(".csv"):
            table = csv.DictWriter(out, ["id", *OWN_COLUMNS])
            table.writeheader()
            table.writerows(rows)
        else:
            out.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    _write_pictures(folder, [record.image for record in records], scenes)
    return records
