"""Chance that can be looked up: random numbers as a pure function of a key (first used in notebook 02).

Scene 7 of a seed must be the same scene whether it is drawn alone or among a million, in this process or in
another.  A generator with a state cannot promise that; a hash of (seed, split, number) can.

Source: SplitMix64 mixes, Steele et al. 2014, "Fast splittable pseudorandom number generators".
"""

import zlib

import numpy as np
from jaxtyping import Float64, UInt64

Keys = UInt64[np.ndarray, "*shape"] | np.uint64
STEP = np.uint64(0x9E3779B97F4A7C15)


def check_shares(**shares: float) -> None:
    """Raise ValueError, with its name, for a share outside [0, 1]."""
    for name, share in shares.items():
        if not 0 <= share <= 1:
            raise ValueError(f"{name} is a share between 0 and 1, got {share}")


def mix(numbers: Keys) -> Keys:
    """Scramble uint64 numbers one to one, so that neighbours land far apart."""
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))


def derive(keys: Keys, *purpose: int | str) -> Keys:
    """New uint64 keys from old ones (any shape): a different purpose gives unrelated keys."""
    for part in purpose:
        number = zlib.crc32(part.encode()) if isinstance(part, str) else part % 2**64
        with np.errstate(over="ignore"):
            keys = mix(keys + STEP) ^ mix(np.full(1, number, np.uint64) * STEP + STEP).reshape(())
    return keys


def uniform(keys: UInt64[np.ndarray, "key"], draws: int) -> Float64[np.ndarray, "key {draws}"]:
    """`draws` numbers in [0, 1) for each key."""
    with np.errstate(over="ignore"):
        counters = mix(keys + STEP)[:, None] + STEP * np.arange(1, draws + 1, dtype=np.uint64)
        return (mix(counters) >> np.uint64(11)) * 2.0**-53
