"""Monitoring: how the registry fares, in figures."""

from registry.domain.figures import Figures
from registry.service.core import UseCases


class Monitoring(UseCases):
    """Look at what waits and what is under way."""

    def figures(self) -> Figures:
        """What waits, what is under way, what went wrong, in all teams. For operators. Raises NotAllowed."""
        self.require_operator("read", "the registry's figures")
        with self.database.reading() as catalog:
            return catalog.gauges.read(self.clock())
