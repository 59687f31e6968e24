"""Generated secrets: what each kind is, what other programs make of it, and where its public half goes."""

import base64
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from bento.admin import public_halves
from bento.cli.main import bento
from bento.errors import BentoError, EnvironmentFailed, InputError
from bento_secrets.admin_identities import load_admin_identities
from bento_secrets.errors import GeneratorFailed, StoreFailed
from bento_secrets.generate import ALPHABETS, KINDS, by_kind, of_command, password
from bento_secrets.names import SecretName
from bento_secrets.recipients import Recipient
from bento_secrets.ssh_keys import SshPublicKey
from bento_secrets.store import SecretStore

NAME = SecretName.parse("a/key")


def made(kind: str, length: int | None = None, alphabet: str | None = None) -> bytes:
    return by_kind(kind, NAME, length, alphabet, weak=False).plaintext.data


def test_each_kind_is_new_each_time() -> None:
    for kind in KINDS:
        assert len({made(kind) for _ in range(20)}) == 20


def test_a_password_has_its_length_and_alphabet_and_every_character_turns_up() -> None:
    for name, characters in [*ALPHABETS.items(), ("xyzXYZ", "xyzXYZ")]:
        counted = Counter("".join(password(64, name).plaintext.data.decode() for _ in range(100)))
        assert counted.keys() == set(characters)
        assert max(counted.values()) < 2 * 6400 / len(characters)
    assert len(made("password")) == 32
    assert made("password", 20).isalnum()


@pytest.mark.parametrize("alphabet", ["", "x", "xyx", "ab cd", "ab\ncd", "aé", "\x7fab"])
def test_an_alphabet_that_would_mislead_is_refused(alphabet: str) -> None:
    with pytest.raises(InputError, match="no alphabet"):
        password(100, alphabet, weak=True)


def test_what_can_be_guessed_is_refused_with_the_length_that_would_do() -> None:
    for kind, length, alphabet in (("password", 13, None), ("password", 24, "digits"), ("hex", 9, None)):
        with pytest.raises(InputError, match="can be guessed") as caught:
            made(kind, length, alphabet)
        enough = int(caught.value.hints[0].split()[2])
        assert enough == length + 1
        made(kind, enough, alphabet)
        by_kind(kind, NAME, length, alphabet, weak=True)
    for length in (0, -1, 5000):
        with pytest.raises(InputError, match="no length"):
            by_kind("hex", NAME, length, None, weak=True)


def test_hex_and_base64_are_of_that_many_bytes() -> None:
    assert len(bytes.fromhex(made("hex").decode())) == 32
    assert len(base64.b64decode(made("base64", 20), validate=True)) == 20


def test_ssh_keygen_reads_the_pair(tmp_path: Path) -> None:
    pair = by_kind("ssh-ed25519", NAME, None, None, weak=False)
    (tmp_path / "key").write_bytes(pair.plaintext.data)
    (tmp_path / "key").chmod(0o600)
    shown = subprocess.run(["ssh-keygen", "-y", "-f", str(tmp_path / "key")], capture_output=True, check=True).stdout
    assert pair.public is not None
    assert shown.split()[:2] == pair.public.split()[:2]
    assert SshPublicKey.parse(pair.public.decode()).comment == "a/key"
    assert not pair.public.endswith(b"\n")


def test_a_wireguard_pair_is_clamped_and_fits() -> None:
    pair = by_kind("wireguard", NAME, None, None, weak=False)
    private = base64.b64decode(pair.plaintext.data)
    assert (private[0] & 7, private[31] & 0x80, private[31] & 0x40) == (0, 0, 0x40)
    public = X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()
    assert pair.public == base64.b64encode(public)


def test_an_age_identity_is_a_file_that_opens_its_recipient(tmp_path: Path) -> None:
    pair = by_kind("age", NAME, None, None, weak=False)
    (tmp_path / "identity").write_bytes(pair.plaintext.data)
    (found,) = load_admin_identities([tmp_path / "identity"], input)
    assert pair.public is not None
    assert found.recipient == Recipient.parse(pair.public.decode())


def test_options_of_another_kind_are_refused() -> None:
    for kind, length, alphabet in (("wireguard", 32, None), ("hex", None, "alnum"), ("rot13", None, None)):
        with pytest.raises(InputError):
            by_kind(kind, NAME, length, alphabet, weak=True)


def test_a_command_gives_its_bytes_and_no_shell_reads_it() -> None:
    binary = bytes(range(256))
    script = "import sys; sys.stdout.buffer.write(bytes(range(256))); sys.stderr.write('talk')"
    assert of_command([sys.executable, "-c", script]).plaintext.data == binary
    assert of_command(["printf", "%s", "$HOME; `id` *"]).plaintext.data == b"$HOME; `id` *"
    assert of_command(["sh", "-c", "printf $((6*7))"]).plaintext.data == b"42"


@pytest.mark.parametrize(
    ("argv", "kind", "why"),
    [
        (["false"], GeneratorFailed, "exit status 1"),
        (["sh", "-c", "echo partial; exit 3"], GeneratorFailed, "exit status 3"),
        (["sh", "-c", "echo partial; kill -9 $$"], GeneratorFailed, "signal 9"),
        (["true"], GeneratorFailed, "wrote nothing"),
        (["echo"], GeneratorFailed, "wrote nothing"),
        (["yes"], GeneratorFailed, "wrote more than"),
        (["/no/such-program"], InputError, "can't be started: no such file"),
        (["nul\0"], InputError, "can't be started"),
    ],
)
def test_a_command_that_fails_makes_no_secret(argv: list[str], kind: type[BentoError], why: str) -> None:
    with pytest.raises(kind, match=why) as caught:
        of_command(argv)
    assert "partial" not in f"{caught.value.hints}"


def run(fleet: Path, *arguments: str) -> str:
    result = CliRunner().invoke(bento, ["--dir", str(fleet), "secret", "generate", *arguments])
    if result.exception is not None:
        raise result.exception
    return result.output


def public(fleet: Path) -> dict[str, bytes]:
    folder = fleet / "utils" / "public"
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def opened(fleet: Path, host: str, name: str, key: Path) -> bytes:
    from bento_secrets.identities import load_ssh_identity
    from bento_secrets.sealing import open_sealed

    return open_sealed((fleet / "secrets" / host / f"{name}.age").read_bytes(), [load_ssh_identity(key)]).data


def test_the_hosts_of_a_tag_get_one_pair_and_its_public_half(fleet: Path, key_folder: Path) -> None:
    output = run(fleet, "@dc", "wg/key", "--kind", "wireguard", "--owner", "systemd-network")
    private = opened(fleet, "web", "wg/key", key_folder / "ed25519")
    assert private == opened(fleet, "post", "wg/key", key_folder / "ed25519b")
    assert public(fleet).keys() == {"web/wg/key.pub", "post/wg/key.pub"}
    fits = X25519PrivateKey.from_private_bytes(base64.b64decode(private)).public_key().public_bytes_raw()
    assert set(public(fleet).values()) == {base64.b64encode(fits)}
    assert "sealed wg/key for post, web" in output
    assert "wrote utils/public/web/wg/key.pub" in output
    assert private.decode().strip() not in output
    (declared,) = SecretStore(fleet / "secrets").read().declarations
    assert declared.owner == "systemd-network"
    mode = (fleet / "utils/public/web/wg/key.pub").stat().st_mode
    assert mode & 0o777 == 0o644


def test_a_tag_leaves_the_own_pair_of_a_host_alone(fleet: Path) -> None:
    run(fleet, "web", "key", "--kind", "age")
    own = public(fleet)
    run(fleet, "@dc", "key", "--kind", "age")
    assert public(fleet)["web/key.pub"] == own["web/key.pub"]
    assert public(fleet)["post/key.pub"] != own["web/key.pub"]


def test_replacing_a_pair_replaces_both_halves_and_a_password_takes_the_public_one_away(fleet: Path) -> None:
    run(fleet, "web", "key", "--kind", "ssh-ed25519")
    before = public(fleet)
    with pytest.raises(InputError, match="exists already"):
        run(fleet, "web", "key", "--kind", "ssh-ed25519")
    assert public(fleet) == before
    run(fleet, "web", "key", "--kind", "ssh-ed25519", "--replace")
    assert public(fleet).keys() == before.keys()
    assert public(fleet) != before
    run(fleet, "web", "key", "--replace")
    assert public(fleet) == {}


def test_a_cut_leaves_no_public_half_of_a_private_one_that_no_host_has(
    fleet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(fleet, "web", "key", "--kind", "ssh-ed25519")

    class Cut(BaseException):
        """The power fails."""

    def cut(*_: object, **__: object) -> None:
        raise Cut

    for broken in (Cut, StoreFailed):
        monkeypatch.setattr(SecretStore, "add", cut if broken is Cut else _full)
        with pytest.raises(broken):
            run(fleet, "web", "key", "--kind", "ssh-ed25519", "--replace")
        assert public(fleet) == {}
    monkeypatch.undo()
    monkeypatch.setattr(public_halves, "write_public", cut)
    with pytest.raises(Cut):
        run(fleet, "web", "key", "--kind", "ssh-ed25519", "--replace")
    assert public(fleet) == {}


def _full(*_: object, **__: object) -> None:
    raise StoreFailed("no space left on device")


def test_a_public_half_follows_no_symlink_and_says_what_is_in_its_way(fleet: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (fleet / "utils" / "public").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(EnvironmentFailed, match=r"utils/public/web/key\.pub"):
        run(fleet, "web", "key", "--kind", "age")
    assert os.listdir(tmp_path / "elsewhere") == []  # noqa: PTH208


def test_exec_takes_a_command_line_without_a_shell(fleet: Path, key_folder: Path) -> None:
    run(fleet, "web", "token", "--exec", "printf '%s' 'two words; $HOME'")
    assert opened(fleet, "web", "token", key_folder / "ed25519") == b"two words; $HOME"
    assert public(fleet) == {}
    for wrong in ("'unclosed", "", "  "):
        with pytest.raises(InputError, match="--exec"):
            run(fleet, "web", "other", "--exec", wrong)
    with pytest.raises(InputError, match="makes the whole secret"):
        run(fleet, "web", "other", "--exec", "true", "--length", "40")


@pytest.mark.parametrize("shells", ["|", "&&", ";", "2>/dev/null", ">>"])
def test_exec_takes_no_shells_line_for_arguments(fleet: Path, tmp_path: Path, shells: str) -> None:
    with pytest.raises(InputError, match="runs no shell") as caught:
        run(fleet, "web", "token", "--exec", f"touch {tmp_path / 'ran'} {shells} tr -d x")
    assert "sh -c" in caught.value.hints[0]
    assert not (tmp_path / "ran").exists()
    run(fleet, "web", "token", "--exec", f"printf %s '{shells}' \"x {shells} y\" a&b=c")


def test_nothing_is_run_for_a_target_that_is_not_there(fleet: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="wbe"):
        run(fleet, "wbe", "token", "--exec", f"touch {tmp_path / 'ran'}")
    assert not (tmp_path / "ran").exists()
