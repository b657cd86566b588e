"""The error tree: every class says something, with the fields that it has."""

from collections.abc import Iterator
from dataclasses import fields

import pytest

from registry.domain.errors import AdaptersError

SAMPLES = {str: "x", int: 7}


def below(kind: type[AdaptersError]) -> Iterator[type[AdaptersError]]:
    for one in kind.__subclasses__():
        yield one
        yield from below(one)


@pytest.mark.parametrize("kind", list(below(AdaptersError)), ids=lambda kind: kind.code)
def test_every_error_can_be_made_of_its_fields_and_says_them(kind: type[AdaptersError]) -> None:
    given = {field.name: SAMPLES.get(field.type, "x") for field in fields(kind)}  # type: ignore[call-overload]
    error = kind(**given)
    assert error.message and isinstance(error.hint, str)
    assert error.detail == given
    assert type(error)(*error.__reduce__()[1]).message == error.message
