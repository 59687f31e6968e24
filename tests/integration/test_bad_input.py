"""Wrong input is refused in words that name the thing and say what to do next, with nothing written anywhere."""

import base64
import os
import shutil
from pathlib import Path

import pytest

from rig.desk import Desk, line_with, wrong
from rig.world import PROGRAMS, said

MIB = 2**20
ED25519 = "AAAAC3NzaC1lZDI1NTE5AAAAIOHz+U0YtjINc54dZiJNclfmEFifF7RXCFlNlTbuZBji"


# TOML with a typo.


@pytest.mark.parametrize(
    ("old", "new", "key", "meant"),
    [
        ("jobs = 2", "jbos = 2", "build.jbos", "jobs"),
        ("action = ", "aktion = ", "defaults.aktion", "action"),
        ('tags = ["dc1"]', 'tag = ["dc1"]', "hosts.web.tag", "tags"),
        ("admins = ", "admin = ", "secrets.admin", "admins"),
        ("[build]", "[biuld]", "biuld", "build"),
    ],
)
def test_a_typo_in_bento_toml_is_named_by_file_line_and_key(
    desk: Desk, old: str, new: str, key: str, meant: str
) -> None:
    wrong(desk.settings, old, new)
    at = line_with(desk.settings, new)
    for command in (("host", "list"), ("deploy",), ("secret", "list")):
        desk.refuses(*command, named=(f"bento.toml:{at}: unknown key '{key}'", f"did you mean {meant}?"))


def test_a_typo_in_the_local_settings_is_named_in_their_file(desk: Desk) -> None:
    wrong(desk.fleet / "bento.local.toml", "keys = ", "kesy = ")
    desk.refuses("deploy", named=("bento.local.toml:2: unknown key 'signing.kesy'", "did you mean keys?"))


@pytest.mark.parametrize(
    ("old", "new", "meant"), [("timeout = ", "timout = ", "timeout"), ("revoked = ", "revokd = ", "revoked")]
)
def test_a_typo_in_the_trust_file_is_named_by_file_line_and_key(desk: Desk, old: str, new: str, meant: str) -> None:
    trust = desk.fleet / "utils/trust.toml"
    wrong(trust, old, new)
    at = line_with(trust, new)
    for command in ("deploy", "status"):
        desk.refuses(command, named=(f"utils/trust.toml:{at}: unknown key '", f"did you mean {meant}?"))


def test_a_typo_in_secrets_toml_is_named_by_file_line_and_key(desk: Desk) -> None:
    declared = desk.fleet / "secrets/secrets.toml"
    with declared.open("a") as file:
        file.write('ownr = "nobody"\n')
    at = line_with(declared, "ownr")
    for command in (("secret", "list"), ("deploy",), ("secret", "add", "web", "../keys/web.pub", "--name", "new")):
        desk.refuses(*command, named=(f"secrets.toml, line {at}, ownr: unknown key", "did you mean owner?"))


@pytest.mark.parametrize("broken", ["jobs = ", "[build", 'jobs = "2', "jobs 2"])
def test_toml_that_cannot_be_read_is_named_by_file_and_line(desk: Desk, broken: str) -> None:
    at = line_with(desk.settings, "jobs")
    wrong(desk.settings, "jobs = 2                   # hosts built at once", broken)
    desk.refuses("host", "list", named=(f"bento.toml:{at}: not valid TOML",))


def test_a_key_twice_is_named_by_file_and_line(desk: Desk) -> None:
    wrong(desk.settings, "jobs = 2", "jobs = 1\njobs = 2")
    desk.refuses("deploy", named=(f"bento.toml:{line_with(desk.settings, 'jobs = 2')}: not valid TOML",))


# Unknown hosts and tags.


@pytest.mark.parametrize(
    ("command", "named"),
    [
        (("host", "show", "wbe"), ("'wbe'", "did you mean web?")),
        (("host", "list", "--on", "wbe"), ("'wbe'", "did you mean web?")),
        (("host", "list", "--on", "web,mail"), ("'mail'",)),
        (("host", "list", "--on", "m*"), ("'m*'",)),
        (("build", "--on", "@dc2"), ("'@dc2'", "did you mean @dc1?")),
        (("deploy", "--on", "wbe"), ("'wbe'", "did you mean web?")),
        (("deploy", "--on", "@dc2"), ("'@dc2'", "did you mean @dc1?")),
        (("status", "--on", "wbe"), ("'wbe'", "did you mean web?")),
        (("secret", "add", "wbe", "bento.toml", "--name", "x"), ("host wbe", "did you mean web?")),
        (("secret", "add", "@dc2", "bento.toml", "--name", "x"), ("@dc2", "did you mean @dc1?")),
        (("secret", "list", "wbe"), ("'wbe'", "did you mean web?")),
        (("secret", "list", "@dc2"), ("'@dc2'", "did you mean @dc1?")),
        (("host", "show", "\x1b[31mred\n"), (r"'\x1b[31mred\n'",)),
        (("secret", "list", "\x1b[31mred\n"), (r"'\x1b[31mred\n'",)),
        (("deploy", "--on", "\x1b[31mred\n"), (r"\x1b[31mred",)),
    ],
)
def test_an_unknown_host_or_tag_is_named_with_the_nearest(
    desk: Desk, command: tuple[str, ...], named: tuple[str, ...]
) -> None:
    desk.refuses(*command, named=named)


# What may not go into a host's tree.


@pytest.mark.parametrize("command", ["build", "deploy"])
def test_a_host_without_its_folder_is_named(desk: Desk, command: str) -> None:
    shutil.rmtree(desk.fleet / "hosts/db")
    desk.refuses(command, "--on", "db", named=("hosts/db", "mkdir -p hosts/db"))


@pytest.mark.parametrize(
    ("target", "said_target"),
    [
        ("/etc/shadow", "/etc/shadow"),
        ("../../../keys/web", "keys/web"),
        ("/", "to /"),
        ("../../..", "out of the fleet"),
    ],
)
def test_a_symlink_out_of_the_fleet_is_named_and_nothing_behind_it_read(
    desk: Desk, target: str, said_target: str
) -> None:
    (desk.fleet / "hosts/web/extra").symlink_to(target)
    desk.refuses("deploy", "--on", "web", named=("hosts/web/extra", "leads out of the fleet", said_target))


def test_a_symlink_out_of_the_fleet_by_way_of_one_inside_is_seen(desk: Desk) -> None:
    (desk.fleet / "utils/away").symlink_to("/etc")
    (desk.fleet / "hosts/web/utils").symlink_to("../../utils")
    desk.refuses("deploy", "--on", "web", named=("utils/away", "leads out of the fleet, to /etc"))


def test_a_symlink_into_the_secret_store_is_refused(desk: Desk) -> None:
    (desk.fleet / "hosts/web/secrets").symlink_to("../../secrets/web")
    desk.refuses("deploy", "--on", "web", named=("hosts/web/secrets", "secrets/"))


AGE_KEY = "AGE-SECRET-KEY-1" + "Q" * 58


def private_files(key: str) -> dict[str, str]:
    """What a person might leave lying there, from an SSH key's text."""
    indented = key.replace("\n", "\n    ")
    return {
        "an SSH key": key,
        "an SSH key in Nix code": f"{{ key = ''\n    {indented}''; }}",
        "an age identity": f"# created\n{AGE_KEY}\n",
        "an age identity in Nix code": f'{{ key = "{AGE_KEY}"; }}',
        "a TLS key": "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIAAAAAAAAAAA\n-----END PRIVATE KEY-----\n",
    }


@pytest.mark.parametrize("content", private_files(""))
@pytest.mark.parametrize("command", [("build",), ("build", "dry-build"), ("deploy",)], ids=" ".join)
def test_a_private_key_in_a_hosts_folder_is_refused_before_it_reaches_a_nix_store(
    desk: Desk, content: str, command: tuple[str, ...]
) -> None:
    folder = desk.fleet / "hosts/web/deep"
    folder.mkdir()
    (folder / "file").write_text(private_files((desk.folder / "keys/web").read_text())[content])
    desk.refuses(
        *command,
        "--on",
        "web",
        named=("hosts/web/deep/file", "would become world-readable in the Nix store", "bento secret add"),
    )


def test_a_comment_that_only_mentions_a_private_key_is_no_key(desk: Desk) -> None:
    """The refusals above would mean nothing if everything were refused."""
    note = '# -----BEGIN OPENSSH PRIVATE KEY----- or AGE-SECRET-KEY-1… go into "bento secret add"\n'
    (desk.fleet / "hosts/web/note.nix").write_text(note)
    done = desk.bento("deploy", path=str(PROGRAMS))
    assert "would become world-readable" not in said(done)


# Secrets.


def test_a_secret_that_exists_is_kept(desk: Desk) -> None:
    desk.refuses(
        *("secret", "add", "web", "-", "--name", "tls/site.key"),
        stdin=b"another",
        named=("tls/site.key", "web", "exists already", "--replace"),
    )


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("..", "'..'"),
        ("../../etc/shadow", "'../../etc/shadow'"),
        ("/abs", "'/abs'"),
        ("a//b", "'a//b'"),
        ("a/", "'a/'"),
        ("a/../b", "'a/../b'"),
        ("a/b/c/d/e", "'a/b/c/d/e'"),
        (".hidden", "'.hidden'"),
        ("", "''"),
        ("a b", "'a b'"),
        ("x" * 65, "'" + "x" * 65 + "'"),
        ("bell\x07", r"'bell\x07'"),
        ("red\x1b[31m", r"'red\x1b[31m'"),
        ("two\nlines", r"'two\nlines'"),
        ("naïve", r"'na\xefve'"),
        ("right\u202eleft", r"'right\u202eleft'"),
    ],
)
def test_a_bad_secret_name_is_shown_with_control_characters_escaped(desk: Desk, name: str, shown: str) -> None:
    desk.refuses("secret", "add", "web", "-", "--name", name, stdin=b"x", named=(shown, "is no secret name"))


@pytest.mark.parametrize("name", ["TLS/site.key", "tls/SITE.key", "tls", "tls/site.key/part"])
def test_names_that_differ_by_case_or_are_each_others_folder_are_refused(desk: Desk, name: str) -> None:
    for target in ("web", "@dc1"):
        desk.refuses("secret", "add", target, "-", "--name", name, stdin=b"x", named=("tls/site.key", name, "web"))


def test_a_too_large_secret_is_refused(desk: Desk) -> None:
    large = desk.folder / "large"
    large.write_bytes(bytes(16 * MIB + 1))
    desk.refuses("secret", "add", "web", "../large", named=("../large", f"{16 * MIB} bytes"))
    desk.refuses("secret", "add", "web", "-", "--name", "x", stdin=large.read_bytes(), named=(f"{16 * MIB} bytes",))
    large.write_bytes(bytes(16 * MIB))
    assert desk.bento("secret", "add", "web", "../large").returncode == 0


def unreadable(desk: Desk) -> dict[str, str]:
    """Files that even root can't read, by what is wrong with them."""
    (desk.folder / "folder").mkdir()
    (desk.folder / "circle").symlink_to("circle")
    (desk.folder / "gone").symlink_to("nowhere")
    return {
        "missing": "../missing",
        "folder": "../folder",
        "circle": "../circle",
        "gone": "../gone",
        "below a file": "bento.toml/x",
    }


UNREADABLE = ["missing", "folder", "circle", "gone", "below a file"]


@pytest.mark.parametrize("kind", UNREADABLE)
def test_a_file_to_seal_that_cannot_be_read_is_named(desk: Desk, kind: str) -> None:
    file = unreadable(desk)[kind]
    desk.refuses("secret", "add", "web", file, "--name", "x", named=(file,))


@pytest.mark.parametrize("kind", UNREADABLE)
def test_a_key_file_that_cannot_be_read_is_named(desk: Desk, kind: str) -> None:
    file = unreadable(desk)[kind]
    desk.refuses("host", "add", "new", "--key-file", file, named=(file,))


def test_a_file_name_with_control_characters_is_shown_escaped(desk: Desk) -> None:
    desk.refuses("secret", "add", "web", "../red\x1b[31m", "--name", "x", named=(r"../red\x1b[31m",))
    desk.refuses("host", "add", "new", "--key-file", "../red\x1b[31m", named=(r"../red\x1b[31m",))


@pytest.mark.parametrize("name", ["bento.toml", "bento.local.toml", "utils/trust.toml", "secrets/secrets.toml"])
@pytest.mark.parametrize("kind", ["a folder", "not UTF-8", "not there"])
def test_a_file_of_the_fleet_that_cannot_be_read_is_named(desk: Desk, name: str, kind: str) -> None:
    file = desk.fleet / name
    file.unlink()
    if kind == "a folder":
        file.mkdir()
    elif kind == "not UTF-8":
        file.write_bytes(b"\xff\xfe")
    named = () if (name, kind) == ("bento.local.toml", "not there") else (name,)
    desk.refuses("deploy", named=named)


def test_a_file_of_the_tree_that_vanishes_while_it_is_read_is_named(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bento.admin import pack
    from bento.errors import InputError

    scandir = os.scandir
    brief = desk.fleet / "hosts/web/brief.nix"
    brief.write_text("{ }\n")

    class Then:
        """A folder whose file goes away just after it was listed."""

        def __init__(self, path: Path) -> None:
            with scandir(path) as found:
                self.entries = list(found)

        def __enter__(self) -> list[os.DirEntry[str]]:
            brief.unlink()
            return self.entries

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(pack.os, "scandir", Then)
    with pytest.raises(InputError, match=r"hosts/web/brief\.nix"):
        pack.collect(desk.fleet / "hosts/web", desk.fleet, "web")


def test_a_file_that_vanishes_between_looking_and_packing_is_named(tmp_path: Path) -> None:
    from bento.adapters.tree import Entry, write_tar
    from bento.errors import InputError

    gone = tmp_path / "gone.nix"
    with (tmp_path / "tar").open("wb") as out, pytest.raises(InputError, match=r"gone\.nix"):
        write_tar([Entry("gone.nix", gone, is_folder=False, executable=False)], out)


# Keys and names of hosts.


def blob(kind: str, *fields: bytes) -> str:
    """A public key's line from its parts."""
    parts = b"".join(len(part).to_bytes(4, "big") + part for part in (kind.encode(), *fields))
    return f"{kind} {base64.b64encode(parts).decode()}"


def number(size: int) -> bytes:
    """An odd positive number of `size` bytes, as SSH writes it."""
    return b"\x00" + b"\xff" * size


KEYS = {
    "DSA": (blob("ssh-dss", number(128), number(20), number(128), number(128)), "ssh-dss"),
    "ECDSA": (blob("ecdsa-sha2-nistp256", b"nistp256", b"\x04" + b"\x01" * 64), "ecdsa-sha2-nistp256"),
    "weak RSA": (blob("ssh-rsa", b"\x01\x00\x01", number(128)), "1024 bits"),
    "a point of order 1": (blob("ssh-ed25519", b"\x01" + b"\0" * 31), "no sound point"),
    "a point of order 2": (blob("ssh-ed25519", b"\xec" + b"\xff" * 30 + b"\x7f"), "no sound point"),
    "a point of order 4": (blob("ssh-ed25519", b"\0" * 32), "no sound point"),
    "a point that isn't canonical": (blob("ssh-ed25519", b"\xee" + b"\xff" * 30 + b"\x7f"), "no sound point"),
    "a short point": (blob("ssh-ed25519", b"\x01" * 31), "damaged"),
    "half a line": ("ssh-ed25519", "ssh-ed25519 key"),
    "no base64": ("ssh-ed25519 AAAA!", "damaged"),
    "another type than it says": (f"ssh-rsa {ED25519}", "another type"),
    "a certificate": (f"ssh-ed25519-cert-v01@openssh.com {ED25519}", "no type of SSH public key"),
}


@pytest.mark.parametrize(("line", "named"), KEYS.values(), ids=KEYS)
def test_a_host_key_that_nothing_can_be_sealed_to_is_refused(desk: Desk, line: str, named: str) -> None:
    desk.refuses("host", "add", "shop", "--key", line, named=(named,))
    (desk.folder / "file.pub").write_text(line + " root@shop\n")
    desk.refuses("host", "add", "shop", "--key-file", "../file.pub", named=(named,))


def test_a_key_written_into_bento_toml_by_hand_is_held_to_the_same_rules(desk: Desk) -> None:
    with desk.settings.open("a") as file:
        file.write(f'\n[hosts.shop]\nkeys = ["{KEYS["a point of order 4"][0]}"]\n')
    at = line_with(desk.settings, "[hosts.shop]") + 1
    desk.refuses("deploy", named=(f"bento.toml:{at}", "shop", "no sound point"))


def test_a_private_key_is_not_taken_for_a_hosts_and_not_repeated(desk: Desk) -> None:
    private = (desk.folder / "keys/spare").read_text()
    for args in (("--key", private), ("--key-file", "../keys/spare"), ("--key", AGE_KEY)):
        text = desk.refuses("host", "add", "shop", *args, named=("private key",))
        assert not any(len(line) > 20 and line in text for line in private.splitlines())
        assert AGE_KEY not in text


def test_a_key_that_another_host_has_is_refused(desk: Desk) -> None:
    desk.refuses("host", "add", "shop", "--key-file", "../keys/web.pub", named=("web",))


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("root", "'root'"),
        ("sshd", "'sshd'"),
        ("nobody", "'nobody'"),
        ("Web", "'Web'"),
        ("x" * 32, "'" + "x" * 32 + "'"),
        ("1st", "'1st'"),
        ("web.example.org", "'web.example.org'"),
        ("a/b", "'a/b'"),
        ("..", "'..'"),
        ("@dc1", "'@dc1'"),
        ("", "''"),
        ("red\x1b[31m", r"'red\x1b[31m'"),
    ],
)
def test_a_bad_host_name_is_refused(desk: Desk, name: str, shown: str) -> None:
    desk.refuses("host", "add", name, "--key-file", "../keys/spare.pub", named=(shown,))


def test_a_host_that_is_there_already_is_kept(desk: Desk) -> None:
    desk.refuses("host", "add", "web", "--key-file", "../keys/spare.pub", named=("web", "bento host show web"))


def test_the_same_host_with_a_good_key_is_taken(desk: Desk) -> None:
    """The refusals above would mean nothing if everything were refused."""
    done = desk.bento("host", "add", "x" * 31, "--key-file", "../keys/spare.pub")
    assert done.returncode == 0, said(done)
