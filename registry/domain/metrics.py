"""What may be recorded as measured: finite numbers under short names."""

import math
from collections.abc import Mapping

from registry.domain.errors import WrongUsage
from registry.domain.texts import MAX_KEY, check_text


def check_metrics(metrics: Mapping[str, float], dataset: str | None) -> None:
    """Refuse what is no measurement. Raises WrongUsage."""
    for name, value in metrics.items():
        if not math.isfinite(value):
            raise WrongUsage(f"the metric {name!r} is {value}, not a finite number")
    if not metrics:
        raise WrongUsage("an evaluation needs at least one metric: name=value")
    for text in (dataset or "", *metrics):
        check_text("the name of a metric or dataset", text, MAX_KEY)
