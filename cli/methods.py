"""The methods that an expression may use, as a document and for people."""

from collections.abc import Iterable, Mapping
from typing import Any

from cli.output import heading, say, table
from cli.text import number
from registry.domain.method import Method, Parameter
from registry.domain.methods import METHODS


def methods_document() -> dict[str, Any]:
    """Every method with its parameters."""
    return {"methods": [_method_document(method) for method in METHODS.values()]}


def _method_document(method: Method) -> dict[str, Any]:
    return {
        "name": method.name,
        "revision": method.revision,
        "written": method.written,
        "summary": method.summary,
        "source": method.source,
        "parameters": [_parameter_document(parameter) for parameter in method.parameters],
        "presets": {name: dict(options) for name, options in method.presets.items()},
    }


def _parameter_document(parameter: Parameter) -> Mapping[str, Any]:
    return {
        "name": parameter.name,
        "type": parameter.type,
        "minimum": parameter.minimum,
        "maximum": parameter.maximum,
        "choices": list(parameter.choices),
        "default": parameter.default,
        "required": parameter.default is None and not parameter.optional,
        "summary": parameter.summary,
    }


def describe_methods() -> None:
    """Print how each method is written, what it does, and its parameters."""
    for method in METHODS.values():
        heading(method.written)
        say(method.summary)
        say(f"Source: {method.source}")
        if rows := _parameter_rows(method.parameters):
            table(["parameter", "values", "default", "meaning"], rows)
        if method.presets:
            say(f"preset={' or '.join(method.presets)} gives the numbers of that tool")


def _parameter_rows(parameters: Iterable[Parameter]) -> list[list[str]]:
    return [
        [p.name, _values(p), _default(p), p.summary]
        for p in parameters
        if p.type != "weights"  # written as coefficients
    ]


def _values(parameter: Parameter) -> str:
    if parameter.choices:
        return ", ".join(parameter.choices)
    return f"{number(parameter.minimum)} to {number(parameter.maximum)}"


def _default(parameter: Parameter) -> str:
    if parameter.default is None:
        return "" if parameter.optional else "required"
    return str(parameter.default)
