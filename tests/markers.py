"""Compare the markers that writers have inserted with the rows that are stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable


def problems(
    acknowledged: Iterable[str], unknown: Iterable[str], stored: Iterable[str]
) -> list[str]:
    """Return a sentence for each write that was lost, doubled or never made."""
    acknowledged, unknown = set(acknowledged), set(unknown)
    count = Counter(stored)
    found = [
        f"LOST: {marker!r} was acknowledged and is not stored."
        for marker in sorted(acknowledged - count.keys())
    ]
    found += [
        f"DOUBLED: {marker!r} is stored {times} times."
        for marker, times in sorted(count.items())
        if times > 1
    ]
    found += [
        f"STRAY: {marker!r} is stored and was never acknowledged."
        for marker in sorted(count.keys() - acknowledged - unknown)
    ]
    return found
