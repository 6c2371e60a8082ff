"""COCO Captions: one file with a list of pictures and a list of captions (notebook 12).

    {"images": [{"id": 9, "file_name": "000000000009.jpg", "height": 480, "width": 640, ...}, ...],
     "annotations": [{"id": 661611, "image_id": 9, "caption": "Two cats on a sofa."}, ...], ...}

Five captions or more belong to one picture; they stand anywhere in their list, and some end with a line end.
Source: Chen et al. 2015, arXiv:1504.00325; the list of annotations is described at cocodataset.org.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from vlmcourse.data.formats.reading import json_items, json_rows
from vlmcourse.data.records import Record, Skips, taken_record
from vlmcourse.slots import slot


@slot
def captions_by_image(annotations: Iterable[dict]) -> dict[int, list[str]]:
    """The captions of each picture's number, in the order of the file, each in one line.

    Args:
        annotations: entries of "annotations"; read once, one after the other.
    """
    captions: dict[int, list[str]] = {}
    for annotation in annotations:
        text = " ".join(annotation["caption"].split())
        captions.setdefault(annotation["image_id"], []).append(text)
    return captions


@slot
def coco_record(image: dict, captions: dict[int, list[str]]) -> Record:
    """A picture with all its captions.

    Args:
        image: an entry of "images".
        captions: of every picture, see captions_by_image.
    """
    found = captions.get(image["id"], [])
    return Record(image=image["file_name"], captions=tuple(found), key=str(image["id"]))


def read_coco(annotations: str | Path, pictures: str | Path, skips: Skips | None = None) -> Iterator[Record]:
    """Records of a captions file, such as captions_val2017.json.

    In memory are the captions, some 100 MB for all of COCO's, and no pictures.

    Args:
        pictures: the folder with the pictures, such as val2017.
        skips: counts what cannot be used; see Skips.
    """
    skips = Skips() if skips is None else skips
    entries = json_rows(annotations, "annotations", dict(image_id=int, caption=str), skips)
    captions = captions_by_image(entry for _, entry in entries)
    for number, image in json_items(annotations, "images"):
        where = dict(folder=pictures, file=annotations, number=number, skips=skips)
        if record := taken_record(coco_record, image, captions, **where):
            yield record
    skips.finish()
