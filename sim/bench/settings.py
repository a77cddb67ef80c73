"""What ``run()`` hands to a bench: parameters and randomness."""

import json
import os
import random
from typing import Any

from hdl.config import Config

__all__ = ["input_ports", "parameters", "rng", "seed"]


def _restore(item: dict) -> Any:
    return Config(**item["__config__"]) if set(item) == {"__config__"} else item


def parameters() -> dict[str, Any]:
    """``run(parameters=...)``; a ``Config`` comes back as one."""
    return json.loads(os.environ["SERRANO_BENCH"], object_hook=_restore)


def seed() -> int:
    """Seed of this run."""
    return int(os.environ["SERRANO_BENCH_SEED"])


def rng(*salt: object) -> random.Random:
    """A generator of its own for each ``salt``: one more user does not disturb the others."""
    return random.Random(f"{seed()}/{salt}")


def input_ports() -> list[str]:
    """Names of the design's inputs (``clk`` and ``rst`` not among them)."""
    return os.environ["SERRANO_BENCH_INPUTS"].split()
