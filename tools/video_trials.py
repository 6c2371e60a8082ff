"""Frames and tokens of a frame: what a clip costs, and what is seen of it, for notebook 16.

    python tools/video_trials.py

Four arms go on from nano-video, each with its own number of tokens for a frame, and learn for the same steps
from clips of four and of eight frames. The card is assets/checkpoints/video-trials.json: for each arm and
each number of frames the tokens of a row before its question, the CPU seconds of an answer (the eye's work
with it), and the share of right answers about the first direction of round clips.
"""

import json
import platform
import time
from dataclasses import replace

from vlmcourse.data.assets import assets_folder
from vlmcourse.families import video, watching
from vlmcourse.world import motion

ARMS = {"64": 1, "16": 2, "4": 4, "1": 8}  # tokens of a frame: side of the squares that are pooled
SETTING = {"clips": 240, "frames": [4, 8], "steps": 50, "size": 4, "tested": 60, "asked": [2, 4, 8, 16]}
RATES = {"muon": 0.006, "adamw": 1.2e-3}


def films(speaker) -> list:
    """Clips to learn from, by their number of frames, and what the eye says of them, whatever the arm."""
    found = []
    for frames in SETTING["frames"]:
        clips = motion.sample_clips("train", SETTING["clips"], seed=16, frames=frames, path="round")
        found.append((clips, speaker.features(clips.pictures())))
    return found


def learned(side: int, clips: list):
    """nano-video with frames pooled by this side, after some steps."""
    speaker, _ = video.load_video()
    speaker.model.side, found = side, {}
    for some, features in clips:
        rows = speaker.encode(video.clip_talks(some, 16), some.stamps())
        found[f"{some.frames} frames"] = features, rows
    stage = replace(video.STAGE, steps=SETTING["steps"], rates=RATES, data={"groups": SETTING["clips"]})
    video.tune_video(speaker.model, found, steps=stage.steps, stage=stage, size=SETTING["size"], seed=16)
    return speaker


def main() -> None:
    start, arms, clips = time.process_time(), {}, films(video.load_video()[0])
    for name, side in ARMS.items():
        speaker = learned(side, clips)
        arms[name] = watching.frame_costs(speaker, SETTING["tested"], SETTING["asked"], (side,))
        print(name, [(row["frames"], row["right"]) for row in arms[name]], flush=True)
    card = {"command": "python tools/video_trials.py", "setting": SETTING, "rates": RATES, "arms": arms}
    card |= {"cpu_seconds": round(time.process_time() - start), "hardware": f"{platform.machine()}, 1 thread"}
    path = assets_folder() / "checkpoints" / "video-trials.json"
    path.write_text(json.dumps(card, indent=1) + "\n")
    print(path)


if __name__ == "__main__":
    main()
