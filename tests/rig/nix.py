"""The environment that real Nix runs in: no network, no daemon, no build users, a home of its own."""

import os
from pathlib import Path

ALONE = f"build-hook = {Path(__file__).with_name('no-builders')}\n"  # it has no other machines to build on
_CONFIG = f"""\
experimental-features = nix-command flakes
substitute = false
substituters =
sandbox = false
build-users-group =
{ALONE}"""


def nix_env(home: Path, channel: Path | None = None) -> dict[str, str]:
    """A whole environment (nothing of the caller's but PATH). `channel` is what `<nixpkgs>` means."""
    home.mkdir(parents=True, exist_ok=True)
    env = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "HOME": str(home), "NIX_CONFIG": _CONFIG}
    if channel is not None:
        env["NIX_PATH"] = f"nixpkgs={channel}"
    return env
