"""The clients' own environments: made when a test first asks, from pinned lists, and kept in build/clients.

An environment is made anew when its list changes. One that is `layered` sees the project's packages beneath its own, so
that torch, PEFT and transformers are installed once; the others hold nothing but the client and what it needs.
"""

import fcntl
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
KEPT = HERE.parents[1] / "build" / "clients"


@dataclass(frozen=True, slots=True)
class Environment:
    """A client's Python. `packages` is its list, None for the project's own environment."""

    name: str
    packages: str | None = None
    layered: bool = False

    @property
    def python(self) -> Path:
        """Its interpreter; the environment is made if it isn't there."""
        if self.packages is None:
            return Path(sys.executable)
        wanted = HERE / self.packages
        folder = KEPT / self.name
        KEPT.mkdir(parents=True, exist_ok=True)
        with KEPT.joinpath(f"{self.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # tests run in several processes
            marker = folder / "installed.txt"
            if not marker.exists() or marker.read_bytes() != wanted.read_bytes():
                _make(folder, wanted, layered=self.layered)
                shutil.copyfile(wanted, marker)
        return folder / "bin" / "python"


def _make(folder: Path, packages: Path, *, layered: bool) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    if layered:
        place = sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)})
        Path(place, "project.pth").write_text(sysconfig.get_path("purelib") + "\n")
    _install(folder / "bin" / "python", packages)


def _install(python: Path, packages: Path) -> None:
    """By uv, or where it can't reach the packages (only pip is told of a private index) by pip."""
    quick = ["uv", "pip", "install", "--quiet", "--native-tls", "--link-mode", "copy", "--python", str(python)]
    plain = ["pip", "--python", str(python), "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
    what = ["--no-deps", "--requirement", str(packages)]
    if subprocess.run([sys.executable, "-m", *quick, *what], capture_output=True).returncode:
        subprocess.run([sys.executable, "-m", *plain, *what], check=True)


NEWEST = Environment("hub-2")
HUBS: Mapping[str, Environment] = {
    "2.4.0": NEWEST,
    "1.33.0": Environment("hub-1", "hub-1.txt"),
    "0.36.2": Environment("hub-0", "hub-0.txt"),
}
DIFFUSERS = Environment("diffusers", "diffusers.txt", layered=True)
VLLM = Environment("vllm", "vllm.txt", layered=True)
