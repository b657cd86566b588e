"""A registry where jobs are asked for by people with roles, and a clock that stands."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from registry.domain.expression import parse
from registry.domain.jobs import CompositionOrder, Job, JobKind
from registry.domain.reference import AdapterName
from registry.domain.rights import Role
from registry.service import Registry
from registry.service.access import caller_now
from registry.service.publishing import Submission
from registry.service.working import Claimed
from tests.factories import write_adapter

INTO = AdapterName("ours", "blend")
SUM = "0.5*ours/a + 0.5*ours/b"
# Rules above the database, which needn't be asked of both.
once = pytest.mark.parametrize("backend", ["sqlite"], scope="session", indirect=True)


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


def push(registry: Registry, folder: Path, name: str, seed: int, **config: object) -> None:
    registry.push_folder(write_adapter(folder, seed=seed, **config), Submission(AdapterName.parse(name), ()))


def member(registry: Registry, name: str, **roles: Role) -> Registry:
    """The registry for somebody with a token, and these roles in teams."""
    token = registry.create_token("test", principal=name).token
    for team, role in roles.items():
        registry.set_role(team, name, role)
    with registry.database.reading() as catalog:
        return registry.on_behalf_of(caller_now(catalog, token.id, registry.clock()))


def order(text: str = SUM, **choices: object) -> CompositionOrder:
    return replace(CompositionOrder(INTO, parse(text)), **choices)  # type: ignore[arg-type]


def asked(registry: Registry, text: str = SUM, **choices: object) -> Job:
    job = registry.submit(order(text, **choices)).job
    assert job is not None
    return job


def claimed(registry: Registry, slot: str = "one") -> Claimed:
    found = registry.claim_job(tuple(JobKind), slot=slot)
    assert found is not None
    return found
