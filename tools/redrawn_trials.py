"""Which layer of the eye, and which projector, smollm-dinov2 should have: chosen on training drawings alone.

    python tools/redrawn_trials.py

Of the combinations that recipes/redrawn.py learns from, some are held out once more, by the rule that held
out the split "heldout": each two of their parts are still seen together, never all three. A projector learns
from the others, as drawn and once moved by chance, and says words of those held out. What counts is in how
many drawings all five words are right. No language model runs for it, and the split "heldout" is not opened.
Beside it, smollm-openmoji, whose eye is CLIP's, is asked about the very drawings and moves on which the card
of smollm-dinov2 is measured.

What the eye says is computed in bf16 and kept in runs/redrawn-trials. The card, which notebook 17 shows, is
assets/checkpoints/redrawn-trials.json; what stands on it is not measured again, so take it away to begin
anew.
"""

import json
import platform
from pathlib import Path

import numpy as np
import torch

from vlmcourse.data import openmoji
from vlmcourse.data.assets import assets_folder
from vlmcourse.data.redrawing import UNMOVED, redraw, some_moves
from vlmcourse.families import redrawn
from vlmcourse.interop.summary import load_summary
from vlmcourse.world.render import to_tensor

SETTING = {"rounds": 2, "held out": 250, "hidden": 64, "drop": 0.2, "steps": 1500}
KEPT = Path(__file__).parents[1] / "runs" / "redrawn-trials"
CARD = assets_folder() / "checkpoints" / "redrawn-trials.json"
OTHERS = (  # at the best layer, one number changed
    dict(hidden=32), dict(hidden=128), dict(drop=0.0), dict(drop=0.5), dict(steps=750), dict(steps=3000),
)  # fmt: skip


@torch.no_grad()
def streams(number: int, rows: np.ndarray) -> torch.Tensor:
    """(layer, drawing, summary): what every layer says of the drawings, as drawn or in a round of moves."""
    path = KEPT / f"round-{number}.pt"
    if path.exists():
        return torch.load(path, weights_only=True)
    eye, found = load_summary(), []
    moves = some_moves(len(openmoji.load("train")), number)
    for start in range(0, len(rows), 10):
        part = rows[start : start + 10]
        images = redraw("train", part, [moves[row] for row in part] if number else UNMOVED)
        with torch.autocast("cpu", torch.bfloat16):
            found.append(eye.streams(to_tensor(images)).half())
    KEPT.mkdir(parents=True, exist_ok=True)
    torch.save(torch.cat(found, 1), path)
    print(f"round {number} is seen", flush=True)
    return torch.cat(found, 1)


def words_right(
    seen: list[torch.Tensor], held: np.ndarray, hidden: int, drop: float, steps: int
) -> list[float]:
    """Share of held out drawings whose five words are right, in each round."""
    parts, lists = openmoji.load("train").parts, redrawn.word_lists()
    spoken = [redrawn.words_of(parts[row]) for row in redrawn.people()]
    chosen = [[names.index(word) for names, word in zip(lists, said, strict=True)] for said in spoken]
    chosen, fit = torch.tensor(chosen), torch.from_numpy(~held)
    torch.manual_seed(0)
    vectors = [torch.zeros(len(names), 1) for names in lists]
    projector = redrawn.ChoosingProjector(seen[0].shape[-1], hidden, vectors)
    features = torch.cat([one[fit] for one in seen])[:, None]
    redrawn.choose_words(projector, features, chosen[fit].repeat(len(seen), 1), steps=steps, drop=drop)
    shares = []
    for one in seen:
        said = torch.stack([s.argmax(1) for s in projector.scores(one[~fit][:, None])], 1)
        shares.append((said == chosen[~fit]).all(1).float().mean().item())
    return shares


def main() -> None:
    """Every layer, then other projectors at the best one."""
    card = json.loads(CARD.read_text()) if CARD.exists() else {}
    card |= {"command": "python tools/redrawn_trials.py", "setting": SETTING}
    card |= {"hardware": f"{platform.machine()}, {torch.get_num_threads()} thread"}
    rows, parts = redrawn.people(), openmoji.load("train").parts
    held = openmoji.hold_out([parts[row] for row in rows], SETTING["held out"])
    rounds = [streams(number, rows) for number in range(SETTING["rounds"])]
    fixed = {name: SETTING[name] for name in ("hidden", "drop", "steps")}

    def compare(of: str, name: str, layer: int, **other: float) -> None:
        if name not in card.setdefault(of, {}):
            seen = [each[layer].float() for each in rounds]
            card[of][name] = [round(share, 3) for share in words_right(seen, held, **fixed | other)]
            CARD.write_text(json.dumps(card, indent=1) + "\n")
            print(name, card[of][name], flush=True)

    if "CLIP's eye" not in card:
        card["CLIP's eye"] = redrawn.measure_clip()
        CARD.write_text(json.dumps(card, indent=1) + "\n")
    for layer in range(len(rounds[0])):
        compare("layers", str(layer), layer)
    best = int(max(card["layers"], key=lambda layer: sum(card["layers"][layer])))
    for other in OTHERS:
        ((name, number),) = other.items()
        compare("others", f"{name} {number}", best, **other)


if __name__ == "__main__":
    main()
