"""Does what the server image installs serve? Starts it as the image does, in a home of its own, and asks.

python docker/try.py FOLDER, where FOLDER is what docker/install made.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

NOTHING_OF = ("torch", "numpy", "safetensors", "pip", "setuptools")
SECONDS = 60


def main(folder: Path) -> None:
    """Ask the installation what it has, serve from it, ask for /readyz."""
    python, program = folder / "bin" / "python", folder / "bin" / "adapters"
    for name in NOTHING_OF:
        found = subprocess.run([python, "-I", "-c", f"import {name}"], capture_output=True)
        assert b"ModuleNotFoundError" in found.stderr, f"{name} can be imported"
    environment = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"}
    with tempfile.TemporaryDirectory() as home:
        environment["ADAPTERS_HOME"] = home
        size = sum(file.lstat().st_size for file in folder.rglob("*")) / 1e6
        print(f"docker: {size:.0f} MB without {', '.join(NOTHING_OF)}")
        _serve(program, environment)


def _serve(program: Path, environment: dict[str, str]) -> None:
    line = [program, "serve", "--port", "0", "--json"]
    with subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        text, began = "", time.monotonic()
        while not text.endswith("}\n"):
            text += (read := process.stdout.readline())
            assert read, "it ended"
        url = json.loads(text)["url"]
        try:
            print(f"docker: /readyz says {_ready(url)} after {time.monotonic() - began:.1f} s")
        finally:
            process.terminate()
            process.wait(SECONDS)
    assert process.returncode == 0, f"it ended with {process.returncode}"


def _ready(url: str) -> str:
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        try:
            with urlopen(f"{url}/readyz", timeout=5) as answer:
                return str(answer.read().decode())
        except HTTPError as error:
            raise AssertionError(error.read()) from error
        except OSError:
            time.sleep(0.05)
    raise AssertionError("nothing answers")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
