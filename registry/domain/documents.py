"""The JSON shapes of records: what `--json` prints. A server answers with the same ones.

A digest is written sha256:<hex>, a time in ISO 8601.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from registry.domain.gates import Approval, Gate, requirement_document
from registry.domain.records import (
    Adapter,
    Alias,
    AliasMove,
    BaseModel,
    BasePlace,
    Evaluation,
    Event,
    ExampleResults,
    Lineage,
    Member,
    Namespace,
    Parent,
    Provenance,
    Token,
    Version,
    VersionBase,
)
from registry.domain.rights import Caller, Scope
from registry.domain.spec import AdapterSummary, ModuleSpec


def base_of_version(base: VersionBase) -> dict[str, Any]:
    return {"name": base.name, "fingerprint": base.fingerprint, "evidence": base.evidence.value}


def summary_document(summary: AdapterSummary) -> dict[str, Any]:
    return {
        "format": summary.format,
        "peft_type": summary.peft_type,
        "rank": summary.rank,
        "alpha": summary.alpha,
        "ranks": summary.ranks,
        "targets": list(summary.targets),
        "variants": list(summary.variants),
        "dtype": summary.dtype,
        "parameters": summary.parameters,
        "base_name": summary.base_name,
        "task_type": summary.task_type,
    }


def version_document(version: Version, *, files: bool = False) -> dict[str, Any]:
    """A version as it stands in lists; with its files where a single one is shown."""
    document = {
        "name": str(version.adapter),
        "version": version.number,
        "commit": version.commit,
        "digest": f"sha256:{version.digest}",
        "serving_name": version.serving_name,
        "status": version.status.value,
        "status_reason": version.status_reason,
        "base": base_of_version(version.base),
        **summary_document(version.summary),
        "size": version.size,
        "author": version.author,
        "message": version.message,
        "metadata": version.metadata,
        "created_at": version.created_at.isoformat(),
    }
    if files:
        document["files"] = [{"path": f.path, "size": f.size, "sha256": f.sha256} for f in version.files]
    return document


def shown_document(
    version: Version, *, aliases: Iterable[Alias], evaluations: Iterable[Evaluation], lineage: Lineage
) -> dict[str, Any]:
    """Everything that is known of a version: what `show` prints. `aliases` are those that point to it."""
    return version_document(version, files=True) | {
        "aliases": {alias.name: alias.seq for alias in aliases},
        "evaluations": [evaluation_document(evaluation) for evaluation in evaluations],
        "lineage": lineage_document(lineage),
    }


def adapter_document(adapter: Adapter, newest: Version | None) -> dict[str, Any]:
    return {
        "name": str(adapter.name),
        "description": adapter.description,
        "metadata": adapter.metadata,
        "commit": adapter.head,
        "latest": adapter.latest,
        "versions": adapter.versions,
        "aliases": adapter.aliases,
        "base": base_of_version(newest.base) if newest else None,
        "rank": newest.summary.rank if newest else None,
        "newest": version_document(newest) if newest else None,
        "holds": adapter.holds,
        "created_at": adapter.created_at.isoformat(),
        "updated_at": adapter.updated_at.isoformat(),
    }


def module_document(module: ModuleSpec) -> dict[str, Any]:
    return {
        "name": module.name,
        "kind": module.kind,
        "rank": module.rank,
        "alpha": module.alpha,
        "scaling": module.scaling,
        "in_features": module.in_features,
        "out_features": module.out_features,
        "dtype": module.dtype,
        "variants": list(module.variants),
        "base_tensor": module.base_tensor,
    }


def alias_document(alias: Alias) -> dict[str, Any]:
    return {
        "name": str(alias.adapter),
        "alias": alias.name,
        "version": alias.version,
        "seq": alias.seq,
        "actor": alias.actor,
        "updated_at": alias.updated_at.isoformat(),
    }


def move_document(move: AliasMove) -> dict[str, Any]:
    return {
        "name": str(move.adapter),
        "alias": move.alias,
        "seq": move.seq,
        "kind": move.kind.value,
        "before": move.before,
        "after": move.after,
        "actor": move.actor,
        "reason": move.reason,
        "at": move.at.isoformat(),
    }


def evaluation_document(evaluation: Evaluation) -> dict[str, Any]:
    return {
        "name": str(evaluation.adapter),
        "version": evaluation.version,
        "dataset": evaluation.dataset,
        "dataset_sha256": evaluation.dataset_sha256,
        "metrics": evaluation.metrics,
        "examples": examples_document(evaluation.examples),
        "actor": evaluation.actor,
        "at": evaluation.at.isoformat(),
    }


def examples_document(examples: ExampleResults | None) -> dict[str, Any] | None:
    return {"sha256": examples.sha256, "size": examples.size, "count": examples.count} if examples else None


def base_document(base: BaseModel) -> dict[str, Any]:
    return {
        "fingerprint": base.fingerprint,
        "names": list(base.names),
        "format": base.format,
        "model_type": base.model_type,
        "tensors": base.tensors,
        "parameters": base.parameters,
        "size": base.size,
        "quantised_of": base.quantised_of,
        "succeeds": base.succeeds,
        "created_at": base.created_at.isoformat(),
    }


def shown_base_document(base: BaseModel, places: Iterable[BasePlace]) -> dict[str, Any]:
    """A base with the lines that hold its files."""
    published = [{"name": str(place.name), "commit": place.commit} for place in places]
    return {**base_document(base), "published": published}


def parent_document(parent: Parent) -> dict[str, Any]:
    return {"name": str(parent.adapter), "version": parent.version, "digest": f"sha256:{parent.digest}"}


def provenance_document(line: Provenance) -> dict[str, Any]:
    return {
        "commit": line.commit,
        "actor": line.actor,
        "at": line.at.isoformat(),
        "recipe_digest": line.recipe_digest,
        "recipe": line.recipe,
        "parents": [parent_document(parent) for parent in line.parents],
    }


def lineage_document(lineage: Lineage) -> dict[str, Any]:
    return {
        "name": str(lineage.adapter),
        "version": lineage.version,
        "digest": f"sha256:{lineage.digest}",
        "provenance": [provenance_document(line) for line in lineage.provenance],
        "descendants": [parent_document(descendant) for descendant in lineage.descendants],
    }


def team_document(team: Namespace) -> dict[str, Any]:
    return {"name": team.name, "visibility": team.visibility, "created_at": team.created_at.isoformat()}


def member_document(member: Member) -> dict[str, Any]:
    return {
        "team": member.team,
        "principal": member.principal,
        "role": member.role.value,
        "since": member.since.isoformat(),
    }


def token_document(token: Token) -> dict[str, Any]:
    return {
        "id": token.id,
        "principal": token.principal,
        "name": token.name,
        "scopes": [scope.value for scope in token.scopes],
        "teams": None if token.teams is None else list(token.teams),
        "created_at": token.created_at.isoformat(),
        "expires_at": _time(token.expires_at),
        "used_at": _time(token.used_at),
        "revoked_at": _time(token.revoked_at),
    }


def caller_document(caller: Caller) -> dict[str, Any]:
    """Who asks, with the rights that it has now; `teams` None is no limit."""
    return {
        "name": caller.name,
        "operator": caller.operator,
        "scopes": [scope.value for scope in Scope if scope in caller.scopes],
        "teams": None if caller.teams is None else sorted(caller.teams),
        "roles": {team: role.value for team, role in sorted(caller.roles.items())},
    }


def event_document(event: Event) -> dict[str, Any]:
    return {
        "cursor": event.cursor,
        "kind": event.kind,
        "name": str(event.adapter) if event.adapter else None,
        "actor": event.actor,
        "at": _time(event.at),
        "payload": event.payload,
    }


def _time(at: datetime | None) -> str | None:
    return at.isoformat() if at else None


def gate_document(gate: Gate) -> dict[str, Any]:
    """A gate as a JSON value."""
    return {
        "name": str(gate.adapter),
        "alias": gate.alias,
        "requirements": [requirement_document(line) for line in gate.requirements],
        "approvals": gate.approvals,
        "actor": gate.actor,
        "at": gate.at.isoformat(),
    }


def approval_document(approval: Approval) -> dict[str, Any]:
    """An approval as a JSON value."""
    return {
        "name": str(approval.adapter),
        "version": approval.version,
        "alias": approval.alias,
        "principal": approval.principal,
        "comment": approval.comment,
        "at": approval.at.isoformat(),
    }
