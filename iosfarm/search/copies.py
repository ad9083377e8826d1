"""Many copies of one unit side by side: what the device can do of it at most."""

from __future__ import annotations

import json

from iosfarm.ir.device import canonical_json


def copies(canonical: str, count: int) -> str:
    """Canonical JSON of a stage of `count` groups, each the one group of a given stage, reading inputs of its own.

    Raises:
        ValueError: the stage has several groups, or no copies are asked for.
    """
    content = json.loads(canonical)
    (group, *others) = content["groups"]
    if others or count < 1:
        raise ValueError("copies of a stage of one group, one or more")
    inputs = content["inputs"]
    content["groups"] = [
        {**group, "inputs": [copy * len(inputs) + i for i in group["inputs"]]} for copy in range(count)
    ]
    content["inputs"] = inputs * count
    return canonical_json(content)
