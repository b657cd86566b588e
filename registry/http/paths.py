"""What paths and queries name: adapters, references, pages and texts."""

import re
from typing import Annotated

from fastapi import Query
from pydantic import StringConstraints

from registry.domain.reference import AdapterName, Reference, Selector

# A database can't keep NUL, and nothing that is looked for is longer.
Text = Annotated[str, StringConstraints(max_length=1000, pattern=r"^[^\x00]*$")]
Words = Annotated[str, StringConstraints(max_length=10_000, pattern=r"^[^\x00]*$")]
Sha256 = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]
Cursor = Annotated[Text | None, Query(description="where to go on: the `cursor` of the page before")]
Limit = Annotated[int, Query(ge=1, le=1000, description="how many at most")]
MaxRank = Annotated[int | None, Query(ge=1, le=2**31 - 1, description="the largest rank that the caller can serve")]

_NUMBER = re.compile("[0-9]{1,18}", re.ASCII)


def name_of(team: str, name: str) -> AdapterName:
    """The adapter that a path names. Raises InvalidReference."""
    return AdapterName.parse(f"{team}/{name}")


def reference_of(team: str, name: str, ref: str | None) -> Reference:
    """The reference that a path and its `ref` name. Raises InvalidReference."""
    adapter = name_of(team, name)
    return Reference.parse(f"{adapter}@{ref}") if ref else Reference(adapter)


def version_of(team: str, name: str, version: str) -> Reference:
    """The reference behind `versions/{version}`: a number, or anything that may follow an `@`.

    Raises InvalidReference.
    """
    if _NUMBER.fullmatch(version):
        return Reference(name_of(team, name), Selector.VERSION, str(int(version)))
    return reference_of(team, name, version)


def other_of(team: str, name: str, text: str | int) -> Reference:
    """A version of the same adapter, or `team/name@…` in full. Raises InvalidReference."""
    return Reference.parse(text) if isinstance(text, str) and "/" in text else version_of(team, name, str(text))
