"""One student, equal steps, training sets with one fault each and mended ones, three seeds, for notebook 12.

    python tools/data_trials.py

The card is assets/checkpoints/data-trials.json: the share of right answers about clean test scenes for each
seed, by set; rows and pictures of each set; CPU seconds.
"""

import json
import platform
import time

from vlmcourse.data.assets import assets_folder
from vlmcourse.families import spoiling
from vlmcourse.world.scenes import sample

SEEDS = (0, 1, 2)
SETTING = {"pictures": 2000, "steps": 230, "rows": 48, "tested": 400}


def sets(seed: int):
    """(name, training set), one at a time: clean, each fault, and what mends it."""
    count = SETTING["pictures"]
    yield "clean", spoiling.clean(count, seed)
    for name, (make, mend) in spoiling.MENDED.items():
        found = make(count, seed)
        yield name, found
        yield f"{name}, mended", mend(found)


def main() -> None:
    start, right, sizes = time.process_time(), {}, {}
    test = spoiling.as_set(sample("test", SETTING["tested"], objects=(2, 2)))
    for seed in SEEDS:
        for name, found in sets(seed):
            model, _ = spoiling.learn_from(found, SETTING["steps"], SETTING["rows"], seed)
            share = spoiling.graded(model, test).float().mean().item()
            right.setdefault(name, []).append(round(share, 4))
            sizes[name] = [len(found.rows), len(found.images)]
            print(seed, name, sizes[name], right[name][-1], flush=True)
    card = {"command": "python tools/data_trials.py", "setting": SETTING, "seeds": SEEDS, "right": right}
    card |= {"rows and pictures": sizes, "cpu_seconds": round(time.process_time() - start)}
    card |= {"hardware": f"{platform.machine()}, 1 thread"}
    path = assets_folder() / "checkpoints" / "data-trials.json"
    path.write_text(json.dumps(card, indent=1) + "\n")
    print(path)


if __name__ == "__main__":
    main()
