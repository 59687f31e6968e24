"""age-encryption (typage), installed from npm by its pinned hashes into a folder of its own, and run by Node."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent


def install(folder: Path) -> Path:
    """Install into `folder`; the script to run. Raises CalledProcessError with npm's words."""
    for name in ("package.json", "package-lock.json", "typage.mjs"):
        shutil.copy(_HERE / name, folder / name)
    npm = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--cache", str(folder / "cache")]
    subprocess.run(npm, cwd=folder, check=True, capture_output=True, timeout=200)
    return folder / "typage.mjs"


def run(script: Path, tasks: list[dict[str, Any]]) -> list[Any]:
    """What each task gave."""
    given = json.dumps(tasks).encode()
    ran = subprocess.run(["node", str(script)], input=given, capture_output=True, check=True, timeout=100)
    results: list[Any] = json.loads(ran.stdout)
    assert len(results) == len(tasks)
    return results
