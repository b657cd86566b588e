"""The rooms of `Registry` share one namespace: none may take another's name by accident."""

from itertools import combinations

from registry.service import Registry


def test_no_room_hides_what_another_one_defines() -> None:
    rooms = [room for room in Registry.__mro__ if room.__module__.startswith("registry.service.")]
    hidden = {
        (above.__name__, below.__name__, name)
        for above, below in combinations(rooms, 2)
        if not issubclass(above, below)
        for name in vars(above).keys() & vars(below).keys()
        if not name.startswith("__")
    }
    assert not hidden
