"""How a run that went wrong ends: what is said on stderr, and the exit code."""

import json
import traceback
from typing import Any

import click

from cli.text import clean
from registry.domain.errors import AdaptersError, Failure, WrongUsage

INTERRUPTED = 130  # 128 + SIGINT, as shells count


def report(error: Exception, *, as_json: bool, debug: bool, color: bool | None = None) -> int:
    """Say on stderr what went wrong and what to do next; returns the exit code."""
    if debug and not isinstance(error, click.ClickException | click.Abort):
        traceback.print_exception(error)
    code, document, hint = _describe(error)
    if as_json:
        click.echo(json.dumps(document, default=str), err=True)
    else:
        message = clean(document["message"], keep="\n")
        click.echo(f"{click.style('error:', fg='red', bold=True)} {message}", err=True, color=color)
        if hint:
            click.echo(clean(hint), err=True)
    return code


def _describe(error: Exception) -> tuple[int, dict[str, Any], str]:
    """Exit code, the error as a document, and one line of what to do next."""
    if isinstance(error, AdaptersError):
        document = {"error": error.code, "message": error.message, "detail": error.detail}
        return error.exit_code, document, error.hint
    if isinstance(error, click.Abort):
        return INTERRUPTED, _document("interrupted", "interrupted; what was not finished left nothing behind"), ""
    if isinstance(error, click.ClickException):
        path = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "adapters"
        document = _document(WrongUsage.code, error.format_message(), command=path)
        return WrongUsage.exit_code, document, f"`{path} --help` explains it"
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return Failure.exit_code, _document(Failure.code, f"{where}{error.strerror}"), ""
    message = f"unexpected {type(error).__name__}: {error}"
    hint = "this is a fault of the program; run again with ADAPTERS_DEBUG=1 to see where, and report it"
    return Failure.exit_code, _document("unexpected", message), hint


def _document(code: str, message: str, **detail: str) -> dict[str, Any]:
    return {"error": code, "message": message, "detail": detail}
