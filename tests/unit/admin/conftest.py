"""A fleet on disk with two hosts, a signing key and a secret store."""

from pathlib import Path

import pytest
from unit.desk import Desk
from unit.samples import FLEET, key_file, public

from bento_secrets.store import SecretStore


@pytest.fixture
def fleet_root(tmp_path: Path) -> Path:
    root = tmp_path / "fleet"
    for folder in ("hosts/web", "hosts/db", "utils"):
        (root / folder).mkdir(parents=True)
    key_file(tmp_path / "signing", 1, pub=True)
    (root / "bento.toml").write_text(
        f"""\
# The fleet of a test.
[publish]
to = "{tmp_path}/publish"

[signing]
keys = ["{tmp_path}/signing"]   # the admin's

# Its hosts.
[hosts.web]
keys = ["{public(11).line} root@web"]   # ed25519
tags = ["front"]
[hosts.db]
keys = [
  "{public(12).line}",  # today's
  "{public(13).line}",  # tomorrow's
]
"""
    )
    (root / "utils/trust.toml").write_text(
        f"""\
format = 1
fleet = "{FLEET}"
signers = ["{public(1).line}"]
[[servers]]
address = "localhost"
host_keys = ["{public(3).line}"]
"""
    )
    for host in ("web", "db"):
        (root / "hosts" / host / "configuration.nix").write_text("{ }\n")
    SecretStore(root / "secrets").create()
    return root


@pytest.fixture
def desk(fleet_root: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    (fleet_root / "utils/common.nix").write_text("{ a = 1; }\n")
    (fleet_root / "hosts/web/more").mkdir()
    (fleet_root / "hosts/web/more/one.nix").write_text("{ b = 1; }\n")
    (fleet_root / "hosts/web/utils").symlink_to("../../utils")
    (fleet_root / "hosts/web/here.nix").symlink_to("more/one.nix")
    return Desk(fleet_root, monkeypatch)
