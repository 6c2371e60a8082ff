"""The report cards of all shipped models that can be asked, and the README's table of them.

    python tools/report_cards.py                 measure all, write assets/checkpoints/report-cards.json
    python tools/report_cards.py nano-vlm        measure these anew, keep the others
    python tools/report_cards.py --table         only write the table into the README, from what was measured

Each card is what `vlmcourse evaluate NAME --json FILE` writes. That of smollm-openmoji, which learned from
drawings and never saw a scene, is what `evaluate --data FOLDER` writes of a folder with drawings of
combinations that it never saw.
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from vlmcourse.data import openmoji
from vlmcourse.data.assets import assets_folder
from vlmcourse.evaluation.report import Report
from vlmcourse.families import drawings
from vlmcourse.families.making import can_be_asked
from vlmcourse.families.report_card import load_answering, report_on_pictures, report_on_scenes
from vlmcourse.recipes.book import RECIPES

CARDS = assets_folder() / "checkpoints" / "report-cards.json"
README = Path(__file__).parents[1] / "README.md"
COUNTS = {
    "smollm-scenes": 16,
    "nano-video": 40,
}  # scenes for each kind of question; 200 where a model is small
DRAWN = 60  # drawings that smollm-openmoji is asked about
LEFT_OUT = ("an answer",)  # milliseconds of whatever machine measured
START, END = "<!-- report cards: tools/report_cards.py -->", "<!-- end of report cards -->"
COLUMNS = {
    "answers": "all kinds",
    "new combinations": "new combinations",
    "twins": "twins, both right",
    "empty image": "an empty image",
    "POPE, adversarial": "POPE, adversarial",
    "CHAIR_i": "CHAIR_i",
    "captions": "captions, true and complete",
    "in the box": "occlusion in the box",
    "attention there": "attention in the box",
    "calibration": "calibration error",
}


def askable() -> list[str]:
    """Shipped models that can be asked, as the recipes have them."""
    stages = [(recipe, stage) for recipe in RECIPES.values() for stage in recipe.stages if stage.ships]
    return [stage.ships for recipe, stage in stages if can_be_asked(recipe)]


def drawn_folder(folder: Path, count: int) -> Path:
    """Drawings of combinations never seen, with their questions, as a folder of one's own pictures."""
    chosen = np.linspace(0, openmoji.HELDOUT, count, endpoint=False).astype(int)
    drawn = openmoji.load("heldout")[chosen]
    rows = []
    for number, (image, about) in enumerate(
        zip(drawn.images, drawings.drawing_questions(drawn), strict=True)
    ):
        Image.fromarray(image).save(folder / f"{number}.png")
        rows += [{"image": f"{number}.png", "instruction": q.question, "output": q.answer} for q in about]
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    (folder / "drawings.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def measured(name: str) -> Report:
    """The report card of a shipped model."""
    model = load_answering(name)
    if name != "smollm-openmoji":
        return report_on_scenes(model, name, COUNTS.get(name, 200))
    with tempfile.TemporaryDirectory() as folder:
        return report_on_pictures(model, name, drawn_folder(Path(folder), DRAWN))


def kept(report: Report) -> dict:
    """What stays of a report: its data, and (value, low, high) by name, rounded."""
    lines = [line for line in report.lines if line.name not in LEFT_OUT]
    numbers = {
        line.name: [None if n is None else round(n, 4) for n in (line.value, line.low, line.high)]
        for line in lines
    }
    return {"data": report.data, "lines": numbers}


def table(cards: dict) -> str:
    """The README's table, a row for each model that was asked about scenes; best answers first."""
    of_scenes = {name: card["lines"] for name, card in cards.items() if "all kinds" in card["lines"]}
    order = sorted(of_scenes, key=lambda name: -of_scenes[name]["all kinds"][0])
    rows = ["| model | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for name in order:
        cells = [shown(heading, of_scenes[name].get(line)) for heading, line in COLUMNS.items()]
        rows.append(f"| `{name}` | " + " | ".join(cells) + " |")
    few = [f"`{name}` by {count} scenes for each kind, the others by 200" for name, count in COUNTS.items()]
    rows += ["", f"{'; '.join(few)}. {about_drawings(cards)}".strip()]
    rows += about_any_size(cards)
    return "\n".join(rows)


def about_any_size(cards: dict) -> list[str]:
    """What the model that takes pictures of any size makes of pages; nothing if it is not among them."""
    lines = cards.get("nano-native", {}).get("lines")
    if lines is None:
        return []
    found = {name: f"{numbers[0]:.1%}" for name, numbers in lines.items()}
    seen = (
        f"`nano-native`, asked about pages of twelve sizes: {found['pages, as they are']} right as they are, "
        f"{found['pages, in 16 tokens']} in 16 tokens, {found['pages, empty']} about empty pages."
    )
    read = f"Letters wrong: {found['letters wrong']}, on squashed pages {found['letters wrong, squashed']}."
    told = f"It points into the box of what is asked for in {found['points into the box']}"
    return ["", f"{seen} {read} {told}, the mean box in {found['always the mean box']}."]


def about_drawings(cards: dict) -> str:
    """What the model that never saw a scene answers about drawings; nothing if it is not among them."""
    if "smollm-openmoji" not in cards:
        return ""
    lines, name = cards["smollm-openmoji"]["lines"], "the same answer"
    right, blank, other = (
        f"{lines[key][0]:.1%}" for key in (name, f"{name}, an empty image", f"{name}, another image")
    )
    asked = f"`smollm-openmoji`, asked about {DRAWN} drawings of combinations that it never saw"
    return f"{asked}: {right} right word for word, {blank} on an empty image, {other} beside another drawing."


def shown(heading: str, numbers: list | None) -> str:
    """A cell: a percentage, for answers with half the width of its interval; "-" where nothing was said."""
    if numbers is None:
        return "-"
    value, low, high = numbers
    if line_is_times(heading):
        return f"{value:.1f} x"
    if heading == "answers":
        return f"{value:.1%} ± {(high - low) / 2:.1%}"
    return f"{value:.1%}"


def line_is_times(heading: str) -> bool:
    """Whether a column says how many times, not a share."""
    return COLUMNS[heading].endswith("in the box")


def write_table(cards: dict) -> None:
    """Put the table between its marks in the README."""
    text = README.read_text(encoding="utf-8")
    before, rest = text.split(START)
    after = rest.split(END)[1]
    README.write_text(f"{before}{START}\n\n{table(cards)}\n\n{END}{after}", encoding="utf-8")


def main(arguments: list[str]) -> None:
    cards = json.loads(CARDS.read_text())["cards"] if CARDS.is_file() else {}
    names = [] if "--table" in arguments else arguments or askable()
    for name in names:
        cards[name] = kept(measured(name))
        cards = {name: cards[name] for name in askable() if name in cards}
        card = {"command": "python tools/report_cards.py", "cards": cards}
        CARDS.write_text(json.dumps(card, indent=1) + "\n")
        print(name, json.dumps(cards[name]["lines"]), flush=True)
    write_table(cards)


if __name__ == "__main__":
    main(sys.argv[1:])
