# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a long run does to valid inputs: small lies about lengths and values, and damage of all sizes."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

MUTATIONS_MAX = 4
"""Mutations of one input at most: more leave nothing a parser would get beyond its first check with."""


def flip_bits(data: bytearray, rng: random.Random) -> None:
    """One to four bits anywhere."""
    for _ in range(rng.randint(1, 4)):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def set_byte(data: bytearray, rng: random.Random) -> None:
    """A byte becomes one of the values parsers branch at, or any."""
    data[rng.randrange(len(data))] = rng.choice((0, 1, 0x20, 0x2C, 0x3D, 0x7F, 0x80, 0xFF, rng.randrange(256)))


def extreme_number(data: bytearray, rng: random.Random) -> None:
    """Two to four bytes become a number arithmetic goes wrong at, or one near the length of the input."""
    width = rng.choice((2, 3, 4))
    at = rng.randrange(len(data))
    top = 1 << 8 * width
    value = rng.choice((0, 1, top - 1, top >> 1, (top >> 1) - 1, len(data) - at, len(data) - at + 1, len(data)))
    data[at : at + width] = (value % top).to_bytes(width, "big")


def nudge(data: bytearray, rng: random.Random) -> None:
    """A byte becomes a little more or less: lengths that are off by one."""
    at = rng.randrange(len(data))
    data[at] = (data[at] + rng.choice((-4, -1, 1, 4))) & 0xFF


def insert(data: bytearray, rng: random.Random) -> None:
    """Random bytes, or many times the same one, in between."""
    at = rng.randrange(len(data) + 1)
    count = rng.randint(1, 40)
    data[at:at] = rng.randbytes(count) if rng.random() < 0.5 else bytes([rng.randrange(256)]) * count


def remove(data: bytearray, rng: random.Random) -> None:
    """A stretch is missing, everything behind it moves."""
    at = rng.randrange(len(data))
    del data[at : at + rng.randint(1, 48)]


def repeat(data: bytearray, rng: random.Random) -> None:
    """A stretch comes again somewhere."""
    at = rng.randrange(len(data))
    block = bytes(data[at : at + rng.randint(1, 96)])
    to = rng.randrange(len(data) + 1)
    data[to:to] = block * rng.choice((1, 1, 2, 10))


def cut(data: bytearray, rng: random.Random) -> None:
    """The end is missing."""
    del data[rng.randrange(len(data)) :]


Mutation = Callable[[bytearray, random.Random], None]

MUTATIONS: tuple[Mutation, ...] = (flip_bits, set_byte, extreme_number, nudge, insert, remove, repeat, cut)


def mutate(corpus: Sequence[bytes], rng: random.Random) -> bytes:
    """An input: one of the corpus after up to four mutations, two of it joined, or (rarely) random bytes."""
    kind = rng.random()
    if kind < 0.02:
        return rng.randbytes(rng.randrange(200))
    data = bytearray(rng.choice(corpus))
    if kind < 0.10:
        other = rng.choice(corpus)
        data[rng.randrange(len(data) + 1) :] = other[rng.randrange(len(other) + 1) :]
    # None at all sometimes: what is valid has to be taken however often it comes.
    for _ in range(rng.randint(0, MUTATIONS_MAX)):
        if data:
            rng.choice(MUTATIONS)(data, rng)
    return bytes(data)
