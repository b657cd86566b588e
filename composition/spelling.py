"""One spelling for the modules of adapters that were trained inside different wrappers of one base model.

A classifier's adapter says `bert.encoder.layer.0…` where the plain model's says `encoder.layer.0…`, and both mean the
base's tensor `encoder.layer.0….weight`. A composed adapter must use one of the two throughout, or nothing loads it
whole. The shortest wrapping wins.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from composition.adapter import LoadedAdapter, LoadedModule, Scale
from registry.domain.errors import UnsupportedAdapter


@dataclass(frozen=True, slots=True)
class _Wrapping:
    """Module names are `outer` + rest where the base's are `inner` + rest."""

    outer: str
    inner: str

    def respell(self, name: str, target: "_Wrapping") -> str | None:
        """A name of this wrapping in another one, or None if it has no place there."""
        base = self.inner + name[len(self.outer) :]
        if not name.startswith(self.outer) or not base.startswith(target.inner):
            return None
        return target.outer + base[len(target.inner) :]


def spellings(adapters: Iterable[LoadedAdapter]) -> dict[str, str]:
    """The name of each module {key: name} in the result. Raises UnsupportedAdapter if one can't be respelled."""
    adapters = sorted(adapters, key=lambda adapter: adapter.subject)
    wrappings = {adapter.subject: _wrapping(adapter.named) for adapter in adapters}
    target = _target(adapters, wrappings)
    _refuse_lookalikes(adapters)
    names: dict[str, str] = {}
    for adapter in adapters:
        for key, module in adapter.by_key.items():
            name = _spelled(module.name, wrappings[adapter.subject], target)
            if name is None or names.setdefault(key, name) != name:
                reason = f"another input calls the same module {names.get(key, key)!r}"
                raise UnsupportedAdapter(adapter.subject, f"the module name {module.name!r}", reason)
    _check_distinct(names)
    return dict(sorted(names.items(), key=lambda item: item[1]))


def speller(adapters: Iterable[LoadedAdapter]) -> Callable[[LoadedAdapter, str], str]:
    """How the result calls a module of an adapter that has no delta. The function raises UnsupportedAdapter."""
    adapters = tuple(adapters)
    _refuse_lookalikes(adapters)
    wrappings = {adapter.subject: _wrapping(adapter.named) for adapter in adapters}
    target = _target(adapters, wrappings)

    def spell(adapter: LoadedAdapter, module: str) -> str:
        name = _spelled(module, wrappings[adapter.subject], target)
        if name is None:
            reason = "it has no place in the model that another input was trained in"
            raise UnsupportedAdapter(adapter.subject, f"the module {module}", reason)
        return name

    return spell


def _target(adapters: Iterable[LoadedAdapter], wrappings: Mapping[str, "_Wrapping | None"]) -> "_Wrapping | None":
    """The shortest wrapping; if some adapters bring a head that the base doesn't have, the shortest of theirs."""
    known = [(adapter, found) for adapter in adapters if (found := wrappings[adapter.subject]) is not None]
    heads = [found for adapter, found in known if any(item.base_tensor is None for item in adapter.replacements)]
    candidates = heads or [found for _, found in known]
    return min(candidates, key=lambda found: (len(found.outer), found.outer, found.inner), default=None)


def _refuse_lookalikes(adapters: Iterable[LoadedAdapter]) -> None:
    """Without a base to match, `bert.encoder.0` of one input and `encoder.0` of another can't be told to be the same.

    Combining them as two modules would give a file that nothing loads whole, so it is refused.
    """
    unmatched = {
        adapter.subject: {module.name for module in adapter.named if module.base_tensor is None} for adapter in adapters
    }
    everywhere = frozenset[str]().union(*unmatched.values())
    for subject, own in unmatched.items():
        others = everywhere - own
        for name in sorted(own):
            shorter = next((suffix for suffix in _suffixes(name) if suffix in others), None)
            if shorter and any(shorter in names and name not in names for names in unmatched.values()):
                reason = f"another input has {shorter!r}, which may be the same module; register the base to tell"
                raise UnsupportedAdapter(subject, f"the module name {name!r}", reason)


def _suffixes(name: str) -> Iterator[str]:
    while "." in name:
        name = name.partition(".")[2]
        yield name


def _check_distinct(names: Mapping[str, str]) -> None:
    """One name for two tensors of the base, or for two kinds of layer, would leave one of them out of the result."""
    name, count = Counter(names.values()).most_common(1)[0] if names else ("", 0)
    if count > 1:
        reason = "not all of them mean the same tensor of the base by it, or the same kind of layer"
        raise UnsupportedAdapter("the inputs", f"the module name {name!r}", reason)


def _spelled(name: str, wrapping: _Wrapping | None, target: _Wrapping | None) -> str | None:
    if wrapping is None or target is None or wrapping == target:
        return name
    return wrapping.respell(name, target)


def _wrapping(modules: Iterable[LoadedModule | Scale]) -> _Wrapping | None:
    """How an adapter's names relate to the base's; None if they aren't matched, or by a table of other names."""
    found = {_wrapping_of(module.name, module.base_tensor) for module in modules if module.base_tensor}
    return found.pop() if len(found) == 1 else None


def _wrapping_of(name: str, base_tensor: str | None) -> _Wrapping | None:
    outer, inner = name.split("."), (base_tensor or "").removesuffix(".weight").replace("/", ".").split(".")
    if outer[-1] != inner[-1]:
        return None
    while outer and inner and outer[-1] == inner[-1]:
        outer.pop()
        inner.pop()
    return _Wrapping(".".join((*outer, "")), ".".join((*inner, "")))
