"""Chance with a seed that is printed, and how many rounds there are."""

from __future__ import annotations

import os
import random

ROUNDS = 210
"""Kills in all tests of this folder together, by default."""


def chance() -> random.Random:
    """Random numbers. A failed test shows the seed; ``MODELTRAIL_TEST_SEED`` takes it again."""
    given = os.environ.get("MODELTRAIL_TEST_SEED")
    seed = int(given) if given else int.from_bytes(os.urandom(4))
    print(f"MODELTRAIL_TEST_SEED={seed}")  # noqa: T201
    return random.Random(seed)


def rounds(share: int) -> int:
    """How many of ``MODELTRAIL_FAULT_ROUNDS`` a test gets whose share of the 210 is ``share``."""
    wanted = int(os.environ.get("MODELTRAIL_FAULT_ROUNDS", str(ROUNDS)))
    return max(1, round(share * wanted / ROUNDS))
