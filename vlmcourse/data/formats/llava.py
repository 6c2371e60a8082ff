"""LLaVA-Instruct: one list of conversations (notebook 12).

    [{"id": "000000033471", "image": "coco/train2017/000000033471.jpg", "conversations": [
         {"from": "human", "value": "<image>\\nWho is in the boat?"},
         {"from": "gpt", "value": "Two people with a dog."}, ...]}, ...]

"<image>" stands before or behind the first question, with a line end between.  In the mixture of LLaVA-1.5,
40,688 of 665,298 rows are text alone: they have no "image", and often a "model".  A conversation may begin
with the assistant; LLaVA's own code drops that turn.
Source: Liu et al. 2023, arXiv:2304.08485; counts from LLaVA's issue 657; docs/Finetune_Custom_Data.md there.
"""

from collections.abc import Iterator
from pathlib import Path

from vlmcourse.data.formats.reading import json_items
from vlmcourse.data.records import Record, Skips, image_first, taken_record
from vlmcourse.slots import slot

SPEAKERS = dict(human="user", gpt="assistant", system="system")


@slot
def llava_record(row: dict) -> Record:
    """A conversation in the course's form.

    human is user and gpt is assistant; "<image>" stands in front of its turn, without a line end; answers of
    the assistant before the first question are dropped. A row without "image" is text alone.
    """
    turns = []
    for said in row["conversations"]:
        role = SPEAKERS[said["from"]]
        if role == "assistant" and not any(before == "user" for before, _ in turns):
            continue
        turns.append((role, image_first(said["value"]) if role == "user" else said["value"]))
    return Record(image=row.get("image"), turns=tuple(turns), key=str(row["id"]))


def read_llava(path: str | Path, pictures: str | Path, skips: Skips | None = None) -> Iterator[Record]:
    """Records of a file such as llava_instruct_150k.json; in memory is one row at a time."""
    skips = Skips() if skips is None else skips
    for number, row in json_items(path):
        where = dict(folder=pictures, file=path, number=number, skips=skips)
        if record := taken_record(llava_record, row, **where):
            yield record
    skips.finish()
