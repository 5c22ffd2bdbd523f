"""Ways to damage a file, chosen by a seeded random generator."""

from __future__ import annotations

import random
from collections.abc import Callable

Damage = Callable[[bytearray, random.Random], bytes]


def cut(data: bytearray, rng: random.Random) -> bytes:
    """The file ends early."""
    return bytes(data[: rng.randrange(len(data))])


def flip_bits(data: bytearray, rng: random.Random) -> bytes:
    """Up to 40 bits are wrong, half of the times all in the header."""
    span = len(data) if rng.random() < 0.5 else min(len(data), 600)
    for _ in range(rng.randint(1, 40)):
        data[rng.randrange(span)] ^= 1 << rng.randrange(8)
    return bytes(data)


def blank(data: bytearray, rng: random.Random) -> bytes:
    """A stretch is zeros, as a disk gives what it has lost."""
    start = rng.randrange(len(data))
    length = rng.randint(1, max(1, len(data) // 4))
    data[start : start + length] = bytes(len(data[start : start + length]))
    return bytes(data)


def repeat(data: bytearray, rng: random.Random) -> bytes:
    """A stretch comes twice."""
    start, end = sorted((rng.randrange(len(data)), rng.randrange(len(data))))
    return bytes(data[:end] + data[start:end] + data[end:])


def drop(data: bytearray, rng: random.Random) -> bytes:
    """A stretch is missing."""
    start = rng.randrange(len(data))
    return bytes(data[:start] + data[start + rng.randint(1, 2000) :])


def enlarge_numbers(data: bytearray, rng: random.Random) -> bytes:
    """Four bytes are the largest numbers that there are: sizes, counts, offsets."""
    for _ in range(rng.randint(1, 5)):
        at = rng.randrange(max(1, len(data) - 8))
        data[at : at + 4] = rng.choice([b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\0"])
    return bytes(data)


def noise(data: bytearray, rng: random.Random) -> bytes:
    """A stretch is random."""
    start = rng.randrange(len(data))
    length = rng.randint(1, 3000)
    data[start : start + length] = rng.randbytes(len(data[start : start + length]))
    return bytes(data)


DAMAGES: tuple[Damage, ...] = (cut, flip_bits, blank, repeat, drop, enlarge_numbers, noise)


def damaged(data: bytes, seed: str) -> bytes:
    """The same seed gives the same damage; one file in five is damaged twice."""
    rng = random.Random(seed)
    for _ in range(2 if rng.random() < 0.2 else 1):
        data = rng.choice(DAMAGES)(bytearray(data), rng) if data else data
    return data
