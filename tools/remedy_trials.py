"""One student, equal steps, one habit in its rows, and what is done about it; three seeds, for notebook 14.

    python tools/remedy_trials.py [arms] [choice]

arms: for each arm and seed what remedies.habit_scores tells about unbiased test scenes, and the CPU seconds
from the rows as sold to the trained student; then the CPU milliseconds of an answer in one pass and in two,
with what the eye needs. The last arm spends the seconds of the swap loss on steps. choice: the trials by
which the remedies' numbers were chosen, about validation scenes, with a seed that is not among the reported
ones: right of all rows, and of those against habit. The card is assets/checkpoints/remedy-trials.json; what
stands on it is not measured again, so take it away to begin anew.
"""

import json
import platform
import sys
import time
from functools import partial

import torch

from vlmcourse.data.assets import assets_folder
from vlmcourse.families import remedies, spoiling
from vlmcourse.families.remedies import REMEDIES, Remedy
from vlmcourse.families.spoiling import TrainingSet
from vlmcourse.models.fusion import Fusion
from vlmcourse.world.scenes import sample

SEEDS, CHOICE = (0, 1, 2), 10
SETTING = {"pictures": 2000, "steps": 230, "rows": 48, "tested": 400, "more steps": 390}
CARD = assets_folder() / "checkpoints" / "remedy-trials.json"
MORE, PASSES = "nothing, more steps", "milliseconds an answer"
ARMS = REMEDIES | {MORE: Remedy()}
ONLY = "image-dependent rows only"
TRIED = {f"{ONLY}, {most}": Remedy(rows=partial(remedies.needs_image, most=most)) for most in (0.5, 0.9)}
TRIED |= {"image-dependent rows more often": REMEDIES["image-dependent rows more often"]}
TRIED |= {f"words dropped, {share}": Remedy(dropped=share) for share in (0.05, 0.1, 0.3)}
TRIED |= {f"swap loss, {weight}": Remedy(swapped=weight) for weight in (0.05, 0.2, 1.0)}
ALPHAS, BETAS = (0, 0.25, 0.5, 1, 2, 4, 8), (0.1, 0.0001)


def tested(split: str, seed: int = 0) -> TrainingSet:
    return spoiling.as_set(sample(split, SETTING["tested"], seed=seed, objects=(2, 2)))


def trained(remedy: Remedy, seed: int, steps: int = SETTING["steps"]) -> tuple[Fusion, float]:
    """A student, and the CPU seconds from its rows as sold on."""
    found, start = spoiling.biased(SETTING["pictures"], seed), time.process_time()
    model, _ = remedies.learn_with(remedy, found, steps, SETTING["rows"], seed)
    return model, time.process_time() - start


def compare(card: dict) -> None:
    """Every arm with every seed, and what an answer costs."""
    test, arms = tested("test"), card.setdefault("arms", {name: {} for name in ARMS})
    for place, seed in enumerate(SEEDS):
        control = None
        for name, remedy in ARMS.items():
            if len(arms[name].get("right", [])) > place:
                continue
            student = control if remedy.alpha else None  # a way to answer, of who learned with nothing
            student = student or trained(remedy, seed, SETTING["more steps" if name == MORE else "steps"])
            control = student if name == "nothing" else control
            told = remedies.habit_scores(remedy, student[0], test)._asdict() | {"seconds": student[1]}
            for what, number in told.items():
                arms[name].setdefault(what, []).append(round(number, 3))
            save(card, f"{name}, seed {seed}: {told}")
    if PASSES not in card:
        card[PASSES] = passes(trained(Remedy(), SEEDS[0], steps=1)[0], test)


def choose(card: dict) -> None:
    """Right about validation scenes, all rows and those against habit, by what was tried."""
    test, tries = tested("validation", CHOICE), card.setdefault("choice", {})
    if "alphas" not in card:
        card["choice of alpha"] = swept(trained(Remedy(), CHOICE)[0], test)
        card["alphas"] = ALPHAS
    for name, remedy in TRIED.items():
        if name not in tries:
            told = remedies.habit_scores(remedy, trained(remedy, CHOICE)[0], test)
            tries[name] = [round(told.right, 3), round(told.against, 3)]
            save(card, f"{name}: {told}")


@torch.no_grad()
def swept(model: Fusion, test: TrainingSet) -> dict[str, list[float]]:
    """Right for each of ALPHAS, by what stands in for no picture and by beta."""
    seen, rows = spoiling.as_tensors(test)
    paper, _ = spoiling.as_tensors(remedies.without_images(test))
    mean = seen.mean(dim=0, keepdim=True).expand_as(seen)
    noise = seen + seen.std() * torch.randn(seen.shape, generator=torch.Generator().manual_seed(0))
    scores, lines = spoiling.answer_scores(model, seen, rows), {}
    for name, spoiled in {"blank": paper, "mean of all": mean, "noise": noise}.items():
        unseen = spoiling.answer_scores(model, spoiled, rows)
        for beta in BETAS:
            each = [remedies.contrast_scores(scores, unseen, alpha, beta).argmax(dim=-1) for alpha in ALPHAS]
            right = [(answer == rows.answer).float().mean().item() for answer in each]
            lines[f"{name}, beta {beta}"] = [round(share, 3) for share in right]
    return lines


def passes(model: Fusion, test: TrainingSet) -> list[float]:
    """CPU milliseconds for an answer in one pass and, for contrastive decoding, in two."""
    each = []
    for remedy in (REMEDIES["nothing"], REMEDIES["contrastive decoding"]):
        start = time.process_time()
        remedies.graded_with(remedy, model, test)
        each.append(round(1000 * (time.process_time() - start) / len(test.rows), 3))
    return each


def save(card: dict, line: str) -> None:
    """Write what is measured so far."""
    CARD.write_text(json.dumps(card, indent=1) + "\n")
    print(line, flush=True)


def main() -> None:
    card = json.loads(CARD.read_text()) if CARD.exists() else {}
    card |= {"command": "python tools/remedy_trials.py", "setting": SETTING, "seeds": SEEDS}
    card |= {"hardware": f"{platform.machine()}, 1 thread"}
    for name in sys.argv[1:] or PARTS:
        PARTS[name](card)
        save(card, name)


PARTS = {"arms": compare, "choice": choose}

if __name__ == "__main__":
    main()
