"""The JSON shapes of a caller and of a checked audit log."""

from collections.abc import Sequence
from typing import Any

from registry.domain.rights import Caller, Scope


def caller_document(caller: Caller) -> dict[str, Any]:
    """Who asks, with the rights that it has now; `teams` None is no limit."""
    return {
        "name": caller.name,
        "operator": caller.operator,
        "scopes": [scope.value for scope in Scope if scope in caller.scopes],
        "teams": None if caller.teams is None else sorted(caller.teams),
        "roles": {team: role.value for team, role in sorted(caller.roles.items())},
    }


def audit_document(lines: int, broken: Sequence[int]) -> dict[str, Any]:
    """The outcome of recomputing the audit log's chain; `broken` are the cursors of lines that were changed."""
    return {"lines": lines, "broken": list(broken), "intact": not broken}
