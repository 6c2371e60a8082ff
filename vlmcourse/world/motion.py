"""Clips: short films in which one thing moves and all others rest (notebook 16).

    clips = motion.sample_clips("train", 1000, frames=4)    # the same thousand on every machine
    clips.pictures()                                        # uint8 (clip, frame, 64, 64, 3)
    clips.questions(), clips.answers()                      # "Which way does the red circle move?", "left"
    clips.still(), clips.shuffled()                         # two controls, as pictures

What a reader may know from where things stand decides what chance is, so there are two paths, and `tracks`
lists every way to go along each:

    straight   from one side of a square to the other. One frame alone says nothing of the direction: 1/4.
               Frames in any order still show the axis, but not the sense: 1/2.
    round      round a square, back to where it began; asked is the first direction. One frame says nothing,
               and four, eight or sixteen frames in any order say nothing either: 1/4. Two frames show
               opposite corners: 1/2.

The square stands anywhere, whatever the direction, and the others keep out of all of it. Every step is a
multiple of three pixels, so that a thing never leaves the pixels of its split (see scenes.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int64, UInt8

from vlmcourse.models.frames import timestamps
from vlmcourse.world import chance, scenes
from vlmcourse.world.pointing import BOXED, write_box
from vlmcourse.world.render import render
from vlmcourse.world.scenes import MOST, PLACES, RADII, SIDE, Scenes, settle
from vlmcourse.world.truth import Thing, Who, list_things

MOVES = ("left", "right", "up", "down")
_STEPS = np.array([(-1, 0), (1, 0), (0, -1), (0, 1)])  # x and y of a step in each of MOVES
PATHS = ("straight", "round")
REACH = np.array([9, 9, 6])  # pixels from the middle of the square to its sides, by the size of what moves
SECONDS, MOST_FRAMES = 4, 64  # of a clip
_QUESTIONS = dict(straight="Which way does the {} move?", round="Which way does the {} move first?")


def tracks(path: str, frames: int) -> Float[np.ndarray, "direction way frame 2"]:
    """Every way along a path in each of MOVES: x and y, from -1 to 1 about the middle of the square.

    Straight ways differ in their lane; there are as many lanes as frames. Round ways turn to either side.

    Raises:
        ValueError: for another path, or fewer than two frames or too many.
    """
    if path not in PATHS:
        raise ValueError(f"unknown path {path!r}; choose one of {', '.join(PATHS)}")
    if not 2 <= frames <= MOST_FRAMES:
        raise ValueError(f"a clip has 2 to {MOST_FRAMES} frames, not {frames}")
    if path == "straight":
        along = np.linspace(-1, 1, frames)
        ways = [(along, np.full(frames, lane)) for lane in along]
    else:
        corner = 4 * np.arange(frames) / frames
        along = np.interp(corner, range(5), [-1, 1, 1, -1, -1])
        aside = np.interp(corner, range(5), [-1, -1, 1, 1, -1])
        ways = [(along, aside), (along, -aside)]
    ahead, across = _STEPS[:, None, None], np.abs(_STEPS[:, None, None, ::-1])
    along, aside = (np.stack(part)[None, ..., None] for part in zip(*ways, strict=True))
    return ahead * along + across * aside


@dataclass(frozen=True)
class Clips:
    """A batch of clips; `clips[3]` and `clips[10:20]` are Clips again. The thing that moves is object 0."""

    scenes: Scenes  # all frames, one clip behind the other
    frames: int  # of each clip
    path: str
    direction: Int64[np.ndarray, "clip"]  # index into MOVES

    def __len__(self) -> int:
        return len(self.direction)

    def __getitem__(self, which: int | slice | Sequence[int] | np.ndarray) -> "Clips":
        rows = np.atleast_1d(np.arange(len(self))[which])
        frames = rows[:, None] * self.frames + np.arange(self.frames)
        return replace(self, scenes=self.scenes[frames.ravel()], direction=self.direction[rows])

    def __repr__(self) -> str:
        return f"Clips({len(self)} of {self.scenes.split}, {self.frames} frames, {self.path})"

    @property
    def rate(self) -> float:
        """Frames a second: every clip takes four seconds, however many frames show it."""
        return self.frames / SECONDS

    def stamps(self) -> list[str]:
        """What to write before each frame: "<0.0 seconds>", "<1.0 seconds>", ..."""
        return timestamps(range(self.frames), self.rate)

    def things(self, clip: int) -> list[list[Thing]]:
        """The objects of each frame of one clip."""
        return [list_things(self.scenes, clip * self.frames + frame) for frame in range(self.frames)]

    def moving(self) -> list[Who]:
        """What moves, described by colour and shape; no other thing of its clip is called so."""
        first = slice(None, None, self.frames)
        looks = zip(self.scenes.shape[first, 0], self.scenes.colour[first, 0], strict=True)
        return [Who(int(shape), int(colour)) for shape, colour in looks]

    def questions(self) -> list[str]:
        """One for each clip."""
        return [_QUESTIONS[self.path].format(who) for who in self.moving()]

    def answers(self) -> list[str]:
        """One of MOVES for each clip."""
        return [MOVES[number] for number in self.direction]

    def pictures(self) -> UInt8[np.ndarray, "clip frame 64 64 3"]:
        """The frames, RGB."""
        return render(self.scenes).reshape(len(self), self.frames, SIDE, SIDE, 3)

    def shuffled(self, seed: int = 0) -> UInt8[np.ndarray, "clip frame 64 64 3"]:
        """A control: the frames of each clip in another order, every order equally likely."""
        draw = chance.uniform(self._keys("shuffled", seed), self.frames)
        return self.pictures()[np.arange(len(self))[:, None], draw.argsort(axis=1)]

    def still(self, seed: int = 0) -> UInt8[np.ndarray, "clip frame 64 64 3"]:
        """A control: one frame of each clip, any of them equally likely, in the places of all."""
        draw = chance.uniform(self._keys("still", seed), 1)
        kept = (draw * self.frames).astype(int).repeat(self.frames, axis=1)
        return self.pictures()[np.arange(len(self))[:, None], kept]

    def _keys(self, purpose: str, seed: int) -> np.ndarray:
        return chance.derive(self.scenes.key[:: self.frames], purpose, seed)


def sample_clips(
    split: str = "train",
    count: int = 1,
    start: int = 0,
    *,
    seed: int = 0,
    frames: int = 4,
    path: str = "straight",
    objects: tuple[int, int] = (1, 2),
) -> Clips:
    """Clips number start, start+1, ... of a split; clip i does not depend on how many are asked for.

    With other frames, a clip is the same film, seen more or less often.

    Args:
        split, count, start, seed: see scenes.sample.
        frames: of each clip, from 2 on.
        path: "straight" or "round", see above.
        objects: fewest and most in a clip, the moving one among them; each count equally likely.

    Raises:
        ValueError: as scenes.sample and tracks.
    """
    ways = tracks(path, frames)
    if max(objects) == MOST:
        raise ValueError(
            f"a clip has 1 to {MOST - 1} objects, since one of them needs room to move; got {objects}"
        )
    base = scenes.sample(split, count, start, seed=seed, objects=objects)
    base = scenes.distinct_looks(replace(base, key=chance.derive(base.key, "clips")))
    radius, reach = RADII[base.size], REACH[base.size[:, 0]]
    radius[:, 0] += reach  # the moving thing needs the whole square
    x, y = settle(base.key, split, radius, base.present, base.word)
    draw = chance.uniform(chance.derive(base.key, path), 2)
    direction, way = (draw * ways.shape[:2]).astype(int).T
    offsets = _on_the_split(ways[direction, way] * reach[:, None, None])
    clip, frame = np.divmod(np.arange(count * frames), frames)
    x, y = x[clip], y[clip]
    x[:, 0] += offsets[clip, frame, 0]
    y[:, 0] += offsets[clip, frame, 1]
    return Clips(replace(base[clip], x=x, y=y), frames, path, direction)


def ask_when(clips: Clips, seed: int = 0) -> list[tuple[str, str] | None]:
    """For each clip where the moving thing is at the time of one frame: (question, answer).

    None for a clip in which it stays in one quarter of the picture, so that the time does not matter, or
    where it is in a clear quarter in no frame.

    Args:
        seed: another seed asks for another time.
    """
    draws, asked = chance.uniform(clips._keys("when", seed), 1)[:, 0], []
    for clip, (who, draw) in enumerate(zip(clips.moving(), draws, strict=True)):
        places = [things[0].position for things in clips.things(clip)]
        clear = [frame for frame, place in enumerate(places) if place is not None]
        if len({places[frame] for frame in clear}) < 2:
            asked.append(None)
            continue
        frame = clear[int(draw * len(clear))]
        at = clips.stamps()[frame].strip("<>")
        asked.append((f"Where is the {who} at {at}?", PLACES[places[frame]]))
    return asked


def point_when(clips: Clips, seed: int = 0) -> list[tuple[str, str]]:
    """For each clip the box of the moving thing at the time of one frame: (question, answer).

    Args:
        seed: another seed asks for another time.
    """
    draws, asked = chance.uniform(clips._keys("point", seed), 1)[:, 0], []
    for clip, (who, draw) in enumerate(zip(clips.moving(), draws, strict=True)):
        frame = int(draw * clips.frames)
        thing = list_things(clips.scenes, clip * clips.frames + frame)[0]
        asked.append((f"Where is the {who} at {clips.stamps()[frame].strip('<>')}?{BOXED}", write_box(thing)))
    return asked


def true_direction(frames: Sequence[Sequence[Thing]], who: Who) -> str | None:
    """Which of MOVES a thing goes first, from what the frames show; None if it rests or is not one.

    Along the longer axis, where it goes askew.
    """
    seen = [who.only(things) for things in frames]
    if None in seen:
        return None
    for thing in seen[1:]:
        right, down = thing.x - seen[0].x, thing.y - seen[0].y
        if right or down:
            axis = [right, -right, down, -down]
            return MOVES[(1, 0, 3, 2)[int(np.argmax(axis))]]
    return None


def _on_the_split(offsets: np.ndarray) -> np.ndarray:
    """The nearest multiples of three, the same for both senses."""
    return (np.sign(offsets) * 3 * np.floor(np.abs(offsets) / 3 + 0.5)).astype(int)
