"""The real program in a process of its own, as a user or a script runs it."""

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

START = "from cli.main import run; run()"


@dataclass(frozen=True)
class Program:
    """`adapters` with an environment."""

    environment: dict[str, str]

    def __call__(self, *arguments: object, exit_code: int = 0) -> Any:
        """Run a command with --json; what it printed on stdout (on stderr where it should fail), parsed."""
        command = [sys.executable, "-c", START, *map(str, arguments), "--json"]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == exit_code, f"{command}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return json.loads(done.stderr if exit_code else done.stdout)
