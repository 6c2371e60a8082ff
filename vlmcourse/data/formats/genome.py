"""Visual Genome: objects, attributes, relationships, regions and questions, each in a file of its own.

Every file is a list with one entry for each picture (notebook 12):

    image_data           {"image_id": 1, "url": "https://…/VG_100K_2/1.jpg", "width": 800, "height": 600, …}
    objects              {"image_id": 1, "objects": [{"object_id": 1058549, "names": ["trees"], "x": 0,
                             "y": 0, "w": 799, "h": 557, "synsets": ["tree.n.01"],
                             "merged_object_ids": []}, …]}
    attributes           {"image_id": 1, "attributes": [{"object_id": 1058549, "attributes": ["green"], …},
                             …]}
    relationships        {"image_id": 1, "relationships": [{"predicate": "ON",
                             "subject": {"object_id": …, "name": "shade", …},
                             "object": {"object_id": …, "names": ["street"], …}}, …]}
    region_descriptions  {"id": 1, "regions": [{"phrase": "a green clock", "x": 421, "y": 57, "width": 82,
                             "height": 139, "region_id": 1382, "image_id": 1}, …]}
    question_answers     {"id": 1, "qas": [{"question": "What is green?", "answer": "The clock.", …}, …]}

What differs between versions and rows: "image_id" or "id"; "object_id" or "id"; "names", "name" or
"object_names"; "attributes" may be absent; relationships name objects that were merged into others or are
not listed at all; predicates come in any case.  Names are what people wrote, synsets what WordNet calls it;
the files object_alias.txt and relationship_alias.txt list words that mean the same, the first of a line
stands for all.  The picture's file is the end of its url.
Source: Krishna et al. 2016, arXiv:1602.07332, section 2; the data readme of the project's page.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vlmcourse.data.formats.reading import bounded_lines, json_items
from vlmcourse.data.records import BoxedObject, Record, Region, Relationship, RowError, Skips, taken_record
from vlmcourse.data.text import IMAGE_WORD
from vlmcourse.slots import slot

GENOME_LISTS = dict(
    objects="objects",
    attributes="attributes",
    relationships="relationships",
    region_descriptions="regions",
    question_answers="qas",
)  # file: the list in each entry
Aliases = Mapping[str, str]


@slot
def parse_aliases(lines: Sequence[str]) -> dict[str, str]:
    """For every word of an alias file the first word of its line.

    A word that stands in several lines goes with the first of them.
    """
    aliases: dict[str, str] = {}
    for line in lines:
        words = [word.strip().lower() for word in line.split(",")]
        for word in filter(None, words):
            aliases.setdefault(word, words[0])
    return aliases


def object_number(published: Mapping[str, Any]) -> int:
    """ "object_id", which old files call "id"."""
    return published["object_id"] if "object_id" in published else published["id"]


def first_name(published: Mapping[str, Any], aliases: Aliases) -> str:
    """The first of an object's names in lower case, or the word that stands for it."""
    names = published.get("names") or published.get("object_names") or [published["name"]]
    name = names[0].strip().lower()
    return aliases.get(name, name)


@slot
def genome_objects(
    objects: Sequence[dict], attributes: Sequence[dict], aliases: Aliases
) -> tuple[BoxedObject, ...]:
    """The objects of a picture, each with the attributes that were given to it.

    Args:
        objects, attributes: of one picture; joined by the object's number. Attributes are in lower case,
            none twice, in the order of the file; those of objects that are not listed are left out.
        aliases: of object names.

    Returns:
        boxes of left, top, right and bottom: published are x, y, width and height.
    """
    of: dict[int, list[str]] = {}
    for entry in attributes:
        words = [word.strip().lower() for word in entry.get("attributes") or []]
        of.setdefault(object_number(entry), []).extend(words)
    found = []
    for one in objects:
        box = (one["x"], one["y"], one["x"] + one["w"], one["y"] + one["h"])
        words = tuple(dict.fromkeys(of.get(object_number(one), [])))
        found.append(BoxedObject(first_name(one, aliases), box, words, tuple(one.get("synsets") or ())))
    return tuple(found)


@slot
def genome_relationships(
    relationships: Sequence[dict], objects: Sequence[dict], aliases: Aliases
) -> tuple[Relationship, ...]:
    """What holds between the objects of a picture, as places in `objects`.

    An object that was merged into another stands for that one. A relationship with an object that is not
    listed is left out. Predicates are in lower case, and the word that stands for all of their alias.

    Args:
        relationships, objects: of one picture, as published.
        aliases: of predicates.
    """
    place: dict[int, int] = {}
    for number, one in enumerate(objects):
        for name in (*(one.get("merged_object_ids") or ()), object_number(one)):
            place[name] = number
    found = []
    for one in relationships:
        ends = [place.get(object_number(one[end])) for end in ("subject", "object")]
        predicate = one["predicate"].strip().lower()
        if None not in ends:
            found.append(Relationship(ends[0], aliases.get(predicate, predicate), ends[1]))
    return tuple(found)


@slot
def genome_regions(regions: Sequence[dict]) -> tuple[Region, ...]:
    """Phrases with the boxes they describe; here width and height are spelt out."""
    found = []
    for one in regions:
        box = (one["x"], one["y"], one["x"] + one["width"], one["y"] + one["height"])
        found.append(Region(one["phrase"].strip(), box))
    return tuple(found)


@slot
def genome_turns(qas: Sequence[dict]) -> tuple[tuple[str, str], ...]:
    """All questions about a picture as one conversation; the picture stands before the first of them."""
    turns = []
    for number, one in enumerate(qas):
        turns.append(("user", IMAGE_WORD * (number == 0) + one["question"].strip()))
        turns.append(("assistant", one["answer"].strip()))
    return tuple(turns)


def genome_record(
    image: dict, parts: Mapping[str, Sequence[dict]], aliases: tuple[Aliases, Aliases] = ({}, {})
) -> Record:
    """A picture with all that was annotated.

    Args:
        image: an entry of image_data.
        parts: lists of one picture by file, see GENOME_LISTS; what is not there counts as empty.
        aliases: of objects and of predicates.
    """
    part = {name: parts.get(name) or [] for name in GENOME_LISTS}
    related = genome_relationships(part["relationships"], part["objects"], aliases[1])
    lost = len(part["relationships"]) - len(related)
    return Record(
        image="/".join(image["url"].split("/")[-2:]),
        turns=genome_turns(part["question_answers"]),
        objects=genome_objects(part["objects"], part["attributes"], aliases[0]),
        relationships=related,
        regions=genome_regions(part["region_descriptions"]),
        key=str(_image_number(image)),
        facts={"relationships left out": lost} if lost else {},
    )


def read_visual_genome(
    folder: str | Path,
    pictures: str | Path,
    skips: Skips | None = None,
    *,
    parts: Sequence[str] = tuple(GENOME_LISTS),
) -> Iterator[Record]:
    """Records of the files in `folder`, as far as they are there; at least image_data.json has to be.

    All files are read side by side.  They list pictures in the same order, so one picture is in memory at a
    time; whatever comes early waits.

    Args:
        pictures: the folder in which VG_100K and VG_100K_2 lie.
        parts: which files to read, see GENOME_LISTS.

    Raises:
        ValueError: if no such file is there, or a part is unknown.
    """
    skips, folder = Skips() if skips is None else skips, Path(folder)
    if unknown := set(parts) - set(GENOME_LISTS):
        raise ValueError(f"unknown part {min(unknown)!r}; there are {', '.join(GENOME_LISTS)}")
    there = [name for name in parts if (folder / f"{name}.json").is_file()]
    if not there:
        raise ValueError(f"{folder} holds none of {', '.join(f'{name}.json' for name in parts)}")
    aliases = (read_aliases(folder / "object_alias.txt"), read_aliases(folder / "relationship_alias.txt"))
    sources = {name: _Waiting(folder / f"{name}.json", GENOME_LISTS[name]) for name in there}
    file = folder / "image_data.json"
    for number, image in json_items(file):

        def parse(image: dict = image) -> Record:
            wanted = _image_number(image)
            found = {name: source.of(wanted) for name, source in sources.items()}
            return genome_record(image, found, aliases)

        if record := taken_record(parse, folder=pictures, file=file, number=number, skips=skips):
            yield record
    skips.finish()


def read_aliases(path: str | Path) -> dict[str, str]:
    """Aliases of a file, see parse_aliases; none if there is no such file."""
    if not Path(path).is_file():
        return {}
    return parse_aliases([line for _, line in bounded_lines(path, Skips(most=1))])


def _image_number(entry: Mapping[str, Any]) -> int:
    return entry["image_id"] if "image_id" in entry else entry["id"]


class _Waiting:
    """The lists of one file by picture; those that come early wait."""

    def __init__(self, path: Path, key: str):
        self.path, self.key, self.entries, self.early = path, key, json_items(path), {}

    def of(self, image: int) -> list[dict]:
        """The list of one picture; empty if the file has none."""
        while image not in self.early:
            number, entry = next(self.entries, (0, None))
            if entry is None:
                return []
            try:
                self.early[self._number(entry)] = entry[self.key]
            except (KeyError, TypeError) as error:
                place = f"{self.path.name}, row {number}"
                raise RowError("not in the published form", f"{place}: no {error}") from error
        return self.early.pop(image)

    def _number(self, entry: dict) -> int:
        if "image_id" in entry or "id" in entry:
            return _image_number(entry)
        return entry[self.key][0]["image_id"]  # some entries are known by what they list
