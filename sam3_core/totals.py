"""How several devices stand together: their caches and loads as one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from sam3_core.caller import Lane
from sam3_core.load import LaneLoad, Load, MemoryLoad, PassLoad
from sam3_core.types import CacheInfo, CacheTier


def total_cache(caches: Sequence[CacheInfo]) -> CacheInfo:
    """The sum of each number."""
    return CacheInfo(
        hits=sum(cache.hits for cache in caches),
        misses=sum(cache.misses for cache in caches),
        device=_tier([cache.device for cache in caches]),
        host=_tier([cache.host for cache in caches]),
    )


def total_load(loads: Sequence[Load]) -> Load:
    """The sum of each number; of limits the least, which a pass has to fit everywhere."""
    lanes: dict[Lane, list[LaneLoad]] = {}
    passes: dict[str, list[PassLoad]] = {}
    for load in loads:
        for lane in load.lanes:
            lanes.setdefault(lane.lane, []).append(lane)
        for one in load.passes:
            passes.setdefault(one.kind, []).append(one)
    return Load(
        lanes=tuple(_lane(name, each) for name, each in lanes.items()),
        passes=tuple(_pass(kind, each) for kind, each in passes.items()),
        memory=MemoryLoad(
            used=sum(load.memory.used for load in loads),
            peak=sum(load.memory.peak for load in loads),
            total=sum(load.memory.total for load in loads),
        ),
    )


def _tier(tiers: Sequence[CacheTier]) -> CacheTier:
    return CacheTier(
        bytes=sum(tier.bytes for tier in tiers),
        entries=sum(tier.entries for tier in tiers),
        evictions=sum(tier.evictions for tier in tiers),
    )


def _lane(name: Lane, lanes: Sequence[LaneLoad]) -> LaneLoad:
    return LaneLoad(
        name,
        waiting=sum(lane.waiting for lane in lanes),
        done=sum(lane.done for lane in lanes),
        dropped=sum(lane.dropped for lane in lanes),
        refused=sum(lane.refused for lane in lanes),
    )


def _pass(kind: str, passes: Sequence[PassLoad]) -> PassLoad:
    sizes: Counter[int] = Counter()
    for one in passes:
        sizes.update(dict(one.sizes))
    return PassLoad(
        kind,
        seconds=sum(one.seconds for one in passes),
        sizes=tuple(sorted(sizes.items())),
        limit=min((one.limit for one in passes if one.limit), default=0),
        out_of_memory=sum(one.out_of_memory for one in passes),
    )
