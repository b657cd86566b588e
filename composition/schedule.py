"""Where modules are computed and how many at once: a pool of threads on a CPU, groups of equal shapes on a GPU.

What is computed is the caller's business; results come in the order of the items and are the same bits whatever is
chosen here. This room knows no factors and no recipes.
"""

import os
import warnings
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from typing import Generic, TypeVar

import torch

from composition.threads import one_thread
from registry.domain.errors import InvalidSetting, NotEnoughMemory

Item = TypeVar("Item")
Ready = TypeVar("Ready")
Result = TypeVar("Result")

MOST_WORKERS = 8
_AHEAD = 4  # items begun for each thread that the next result doesn't wait for
_SHARE = 4  # a group takes at most so small a part of a GPU's free memory: another is on its way, and estimates err


class SmallerGroups(UserWarning):
    """A group of modules didn't fit into a GPU's memory, and smaller ones are tried."""


@dataclass(frozen=True, slots=True)
class Groups:
    """Bounds of groups. `modules`: how many at most. `planned`: bytes that one may take, by its estimate.

    `limit`: bytes above which a group counts as too large for the memory, as a GPU would say by itself; a CPU, which
    has no such bound, can be given one.
    """

    modules: int = 64
    planned: int | None = None
    limit: int | None = None


def choose_device(name: str) -> torch.device:
    """The device that a setting means; `auto` is the GPU if there is one. Raises InvalidSetting."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InvalidSetting("device", name, "write auto, cpu, cuda or cuda:1") from None
    if device.type not in ("cpu", "cuda"):
        raise InvalidSetting("device", name, "write auto, cpu, cuda or cuda:1")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InvalidSetting("device", name, f"this machine has {torch.cuda.device_count()} CUDA devices")
    return device


def workers_of_machine() -> int:
    """How many threads compute: one for each core that this process may use, within reason."""
    return min(MOST_WORKERS, len(os.sched_getaffinity(0)))


def in_pool(work: Callable[[Item], Result], items: Sequence[Item], workers: int) -> Iterator[Result]:
    """Each item's result, in their order; the first failure in that order is raised, and nothing new begins then.

    No more than a few results wait for whoever takes them.
    """
    with one_thread():
        if min(workers, len(items)) <= 1:
            yield from map(work, items)
            return
        begun: deque[Future[Result]] = deque()
        with ThreadPoolExecutor(workers, "compose", torch.set_num_threads, (1,)) as pool:
            try:
                for item in items:
                    if len(begun) == _AHEAD * workers:
                        yield begun.popleft().result()
                    begun.append(pool.submit(work, item))
                while begun:
                    yield begun.popleft().result()
            finally:
                for future in begun:
                    future.cancel()


@dataclass(frozen=True, slots=True)
class Groupable(Generic[Item, Ready, Result]):
    """What is done with groups of items on one device.

    `bring` starts to copy what a group needs, `work` computes it; either may raise torch.OutOfMemoryError. `cost`:
    bytes that an item takes. `shape`: items of equal shape may share a group. `name`: what errors call an item.
    """

    device: torch.device
    bring: Callable[[Sequence[Item]], Ready]
    work: Callable[[Sequence[Item], Ready], list[Result]]
    cost: Callable[[Item], int]
    shape: Callable[[Item], Hashable]
    name: Callable[[Item], str]


def in_groups(task: Groupable[Item, Ready, Result], items: Sequence[Item], groups: Groups) -> Iterator[list[Result]]:
    """Each group's results, in the order of the items; the next group is brought while one is computed.

    A group that doesn't fit is halved, with a warning, and the later ones are made no larger.
    Raises NotEnoughMemory for an item that doesn't fit alone.
    """
    queue, ahead = deque(planned(task, items, groups)), None
    overlapping = True
    while queue:
        group, ready, ahead = queue.popleft(), ahead, None
        results = None
        try:
            _check(task, group, groups)
            ready = task.bring(group) if ready is None else ready
            ahead = _ahead(task, queue, groups) if overlapping else None
            results = task.work(group, ready)
        except torch.OutOfMemoryError:
            ready, ahead = None, None  # results in smaller groups: outside of this block nothing holds the memory
        if results is not None:
            yield results
            continue
        _free(task.device)
        if len(group) == 1 and not overlapping:
            raise NotEnoughMemory(task.name(group[0]), str(task.device))
        if len(group) > 1:
            half = len(group) // 2
            warnings.warn(f"out of memory on {task.device}: {half} modules at once now", SmallerGroups, stacklevel=2)
            queue = deque(part for later in (group, *queue) for part in _split(later, half))
        else:
            queue.appendleft(group)
        overlapping = len(group) > 1


def planned(task: Groupable[Item, Ready, Result], items: Sequence[Item], groups: Groups) -> Iterator[Sequence[Item]]:
    """Neighbours of one shape together, as many as the plan allows; one at least."""
    room = _room(task.device) if groups.planned is None else groups.planned
    for _, alike in groupby(items, task.shape):
        found = list(alike)
        yield from _split(found, max(1, min(groups.modules, room // max(1, task.cost(found[0])))))


def _split(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _ahead(task: Groupable[Item, Ready, Result], queue: deque[Sequence[Item]], groups: Groups) -> Ready | None:
    """The next group on its way, if there is room for it beside the one that is computed."""
    if not queue:
        return None
    try:
        _check(task, queue[0], groups)
        return task.bring(queue[0])
    except torch.OutOfMemoryError:
        return None


def _check(task: Groupable[Item, Ready, Result], group: Sequence[Item], groups: Groups) -> None:
    needed = sum(map(task.cost, group))
    if groups.limit is not None and needed > groups.limit:
        raise torch.OutOfMemoryError(f"{needed} bytes are needed, {groups.limit} are allowed")


def _room(device: torch.device) -> int:
    return torch.cuda.mem_get_info(device)[0] // _SHARE if device.type == "cuda" else 1 << 28


def _free(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()
