"""docs/huggingface.md: what it shows works as it stands there."""

import re
import shutil
import subprocess
from pathlib import Path

from registry.domain.reference import Reference
from registry.domain.rights import Role
from tests.factories import EXAMPLES, minilm_folder
from tests.http.conftest import Server
from tests.hub.clients import Client

PAGE = Path(__file__).parents[2] / "docs" / "huggingface.md"
BLOCK = re.compile(r"^```(console|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def run_in_shell(text: str, client: Client, folder: Path) -> None:
    token, url = client.settings["HF_TOKEN"], client.settings["HF_ENDPOINT"]
    text = text.replace("http://127.0.0.1:8321", url).replace("adp_…", token)
    programs = client.environment.python.parent
    variables = {**client.variables, "PATH": f"{programs}:/usr/bin:/bin"}
    done = subprocess.run(
        ["bash", "-euc", text], cwd=folder, env=variables, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"


def test_what_the_page_shows_works(minilm: Server, newest: Client, tmp_path: Path) -> None:
    minilm.registry.create_team("research")
    minilm.registry.set_role("research", "ann-owner", Role.OWNER)
    shutil.copytree(EXAMPLES / "minilm-sentiment-r8", tmp_path / "my-adapter")
    (tmp_path / "all-MiniLM-L6-v2").symlink_to(minilm_folder())
    blocks = BLOCK.findall(PAGE.read_text())
    assert len(blocks) >= 7
    for language, text in blocks:
        if language == "console":
            run_in_shell(text, newest, tmp_path)
        else:
            newest.do("page.run", text=text, folder=tmp_path)
    assert (tmp_path / "support" / "adapter_config.json").exists()
    assert minilm.registry.find_version(Reference.parse("research/support@production")).number == 1
    assert minilm.registry.find_version(Reference.parse("research/german")).number == 1
