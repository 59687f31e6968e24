"""A public half belongs to the secret that its host has, whatever command changed that; never to another one."""

import base64
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from bento.admin import public_halves
from bento.cli.main import bento
from bento.errors import InputError
from bento_secrets.identities import load_ssh_identity
from bento_secrets.sealing import open_sealed
from bento_secrets.store import SecretStore


def run(fleet: Path, *arguments: str) -> str:
    result = CliRunner().invoke(bento, ["--dir", str(fleet), *arguments], input="typed")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.output


def wireguard(fleet: Path, target: str, *options: str) -> None:
    run(fleet, "secret", "generate", target, "wg", "--kind", "wireguard", *options)


def halves(fleet: Path, key_folder: Path) -> dict[str, bool]:
    """Each host's public half: whether it is that of the secret the host opens."""
    found = {}
    for host, key in (("web", "ed25519"), ("post", "ed25519b")):
        file, sealed = fleet / f"utils/public/{host}/wg.pub", fleet / f"secrets/{host}/wg.age"
        if not file.exists():
            continue
        private = (
            open_sealed(sealed.read_bytes(), [load_ssh_identity(key_folder / key)]).data if sealed.exists() else b""
        )
        try:
            public = X25519PrivateKey.from_private_bytes(base64.b64decode(private)).public_key().public_bytes_raw()
        except ValueError:
            public = b""
        found[host] = file.read_bytes() == base64.b64encode(public)
    return found


def retag(fleet: Path, host: str, tags: str) -> None:
    settings = (fleet / "bento.toml").read_text()
    head, table = settings.split(f"[hosts.{host}]")
    old = next(line for line in table.splitlines() if line.startswith("tags"))
    (fleet / "bento.toml").write_text(f"{head}[hosts.{host}]{table.replace(old, f'tags = [{tags}]', 1)}")


def test_a_removed_pair_takes_its_public_half_with_it(fleet: Path, key_folder: Path) -> None:
    wireguard(fleet, "@dc")
    assert halves(fleet, key_folder) == {"web": True, "post": True}
    assert "removed utils/public/web/wg.pub" in run(fleet, "secret", "remove", "@dc", "wg")
    assert halves(fleet, key_folder) == {}


def test_a_host_that_falls_back_to_its_tags_pair_gets_that_public_half(fleet: Path, key_folder: Path) -> None:
    wireguard(fleet, "@dc")
    wireguard(fleet, "web")
    assert halves(fleet, key_folder) == {"web": True, "post": True}
    said = run(fleet, "secret", "remove", "web", "wg", "--identity", str(key_folder / "rsa"))
    assert "wrote utils/public/web/wg.pub" in said
    assert halves(fleet, key_folder) == {"web": True, "post": True}


@pytest.mark.parametrize("command", ["add", "edit", "generate"])
def test_new_content_takes_the_public_half_of_the_old_away(
    fleet: Path, key_folder: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wireguard(fleet, "@dc")
    if command == "add":
        assert "removed utils/public/post/wg.pub" in run(
            fleet, "secret", "add", "@dc", "-", "--name", "wg", "--replace"
        )
    elif command == "edit":
        monkeypatch.setenv("EDITOR", f"{sys.executable} -c \"import sys; open(sys.argv[1], 'w').write('typed')\"")
        monkeypatch.delenv("VISUAL", raising=False)
        run(fleet, "secret", "edit", "@dc", "wg", "--identity", str(key_folder / "rsa"))
    else:
        run(fleet, "secret", "generate", "@dc", "wg", "--replace")
    assert halves(fleet, key_folder) == {}


def test_a_host_that_gets_its_own_secret_loses_its_tags_public_half(fleet: Path, key_folder: Path) -> None:
    wireguard(fleet, "@dc")
    run(fleet, "secret", "add", "web", "-", "--name", "wg")
    assert halves(fleet, key_folder) == {"post": True}


def test_what_is_refused_leaves_the_public_halves(fleet: Path, key_folder: Path) -> None:
    wireguard(fleet, "@dc")
    with pytest.raises(InputError, match="exists already"):
        run(fleet, "secret", "add", "@dc", "-", "--name", "wg")
    with pytest.raises(InputError, match="no secret wg for web"):
        run(fleet, "secret", "remove", "web", "wg")
    retag(fleet, "post", "")
    run(fleet, "secret", "rekey", "--identity", str(key_folder / "rsa"))
    retag(fleet, "post", '"dc"')
    with pytest.raises(InputError, match="nothing was changed"):
        run(fleet, "secret", "rekey", "--identity", str(key_folder / "ed25519b"))
    assert halves(fleet, key_folder) == {"web": True}


def test_the_public_half_comes_and_goes_with_the_tag(fleet: Path, key_folder: Path) -> None:
    retag(fleet, "post", "")
    wireguard(fleet, "@dc")
    assert halves(fleet, key_folder) == {"web": True}
    retag(fleet, "post", '"dc"')
    assert "wrote utils/public/post/wg.pub" in run(fleet, "secret", "rekey", "--identity", str(key_folder / "rsa"))
    assert halves(fleet, key_folder) == {"web": True, "post": True}
    retag(fleet, "post", "")
    assert "removed utils/public/post/wg.pub" in run(fleet, "secret", "rekey")
    assert halves(fleet, key_folder) == {"web": True}


def test_a_new_host_key_keeps_the_public_halves_right(fleet: Path, key_folder: Path) -> None:
    wireguard(fleet, "@dc")
    key = (key_folder / "pem.pub").read_text().strip()
    run(fleet, "host", "rekey", "web", "--key", key, "--identity", str(key_folder / "rsa"))
    assert (fleet / "utils/public/web/wg.pub").read_bytes() == (fleet / "utils/public/post/wg.pub").read_bytes()


def test_a_cut_between_store_and_public_half_is_healed_by_the_next_rekey(
    fleet: Path, key_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    retag(fleet, "post", "")
    wireguard(fleet, "@dc")
    retag(fleet, "post", '"dc"')

    class Cut(BaseException):
        """The power fails."""

    def cut(*_: object) -> None:
        raise Cut

    with monkeypatch.context() as patch:
        patch.setattr(public_halves, "write_public", cut)
        with pytest.raises(Cut):
            run(fleet, "secret", "rekey", "--identity", str(key_folder / "rsa"))
    assert halves(fleet, key_folder) == {"web": True}
    assert "wrote utils/public/post/wg.pub" in run(fleet, "secret", "rekey")
    assert halves(fleet, key_folder) == {"web": True, "post": True}


def test_generate_takes_max_age_and_force_means_the_mode_only(fleet: Path) -> None:
    with pytest.raises(InputError, match="every user") as caught:
        run(fleet, "secret", "generate", "web", "token", "--mode", "0444")
    assert "or say that you mean it: --force" in caught.value.hints
    with pytest.raises(InputError, match="can be guessed"):
        run(fleet, "secret", "generate", "web", "token", "--mode", "0444", "--force", "--length", "4")
    with pytest.raises(InputError, match="every user"):
        run(fleet, "secret", "generate", "web", "token", "--mode", "0444", "--weak", "--length", "4")
    both = ("--force", "--weak", "--length", "4", "--max-age", "90d")
    run(fleet, "secret", "generate", "web", "token", "--mode", "0444", *both)
    (declared,) = SecretStore(fleet / "secrets").read().declarations
    assert (declared.mode, declared.max_age) == ("0444", "90d")
