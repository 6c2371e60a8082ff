"""Five ways to teach nano-vlm something new, equal data and steps, two seeds, for notebook 15.

    python tools/efficient_trials.py

For each way and seed the grades of families/efficient.py about test scenes and CPU seconds; numbers that
learned; memory as the ledger counts it and as it was measured. The card is
assets/checkpoints/efficient-trials.json; what stands on it is not measured again, so take it away to begin
anew.
"""

import json
import platform
import time

import torch

from vlmcourse.data.assets import assets_folder
from vlmcourse.families import efficient
from vlmcourse.families.efficient import ARMS
from vlmcourse.families.nano import load_vlm
from vlmcourse.speak import Speaker

SEEDS = (0, 1)
SETTING = {"steps": 50, "pictures a step": efficient.SIZE, "tested": 150}
CARD = assets_folder() / "checkpoints" / "efficient-trials.json"


def compare(card: dict) -> None:
    """Every arm with every seed."""
    if "before" not in card:
        before = efficient.grades_of(Speaker(load_vlm("nano-vlm")[0]), count=SETTING["tested"])
        card["before"] = {what: round(number, 4) for what, number in before._asdict().items()}
    arms = card.setdefault("arms", {name: {} for name in ARMS})
    for place, seed in enumerate(SEEDS):
        for name, arm in arms.items():
            if len(arm.get("new", [])) > place:
                continue
            start = time.process_time()
            speaker, _ = efficient.teach(name, SETTING["steps"], seed)
            seconds = time.process_time() - start
            grades = efficient.grades_of(speaker, count=SETTING["tested"])._asdict() | {"seconds": seconds}
            for what, number in grades.items():
                arm.setdefault(what, []).append(round(number, 4))
            arm["learned"] = efficient.stored_for(speaker.model)
            arm["activations, counted and measured"] = [round(size) for size in efficient.measured_by(name)]
            arm["peak, counted"] = round(efficient.held_by(name).peak)
            save(card, f"{name}, seed {seed}: {grades}")


def save(card: dict, said: str) -> None:
    CARD.write_text(json.dumps(card, indent=1) + "\n")
    print(said, flush=True)


def main() -> None:
    card = json.loads(CARD.read_text()) if CARD.exists() else {}
    card |= {"command": "python tools/efficient_trials.py", "setting": SETTING, "seeds": list(SEEDS)}
    card |= {"hardware": f"{platform.machine()}, {torch.get_num_threads()} thread"}
    compare(card)
    save(card, str(CARD))


if __name__ == "__main__":
    main()
