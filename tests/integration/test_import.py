"""`bento secret import`, from folders as agenix's and sops-nix's documentation lays them out, with keys made here.

Nix evaluates the rules, Debian's `age` seals and judges. The program `sops` isn't in Debian: rig/sops.py stands in.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_ssh_private_key

from bento_secrets.identities import age_identity_of_seed
from bento_secrets.recipients import Recipient
from rig import make_ssh_key, markers, sops
from rig.keys import KeyKind
from rig.world import PROGRAMS

pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, ("age", "nix-instantiate"))), reason="needs the age and nix-instantiate commands"
)
PLAIN = "correct-horse-battery"
NIX = "experimental-features = nix-command\nsubstitute = false\nbuild-users-group =\n"


def tree(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file's content and time of change."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink())
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


class Acme:
    """A fleet, its hosts' keys, and a folder of another tool beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.fleet, self.theirs = folder, folder / "fleet", folder / "theirs"
        self.programs = folder / "programs"
        self.env = {
            "PATH": f"{PROGRAMS}:{self.programs}:{os.environ['PATH']}",
            "HOME": str(folder / "home"),
            "TMPDIR": str(folder / "tmp"),
            "NIX_CONFIG": NIX,
        }

    def make(self) -> None:
        """The empty fleet."""
        sops.install(self.programs)
        for name in ("home", "tmp", "theirs", "keys"):
            (self.folder / name).mkdir()
        signing = str(self.key("signing"))
        self.bento("init", str(self.fleet), "--fleet", "acme", "--signing-key", signing, cwd=self.folder)

    def copy(self, folder: Path) -> "Acme":
        """The same for one test."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return Acme(folder)

    def key(self, name: str, kind: KeyKind = "ed25519") -> Path:
        """A key pair's private file."""
        path = self.folder / "keys" / name
        return path if path.exists() else make_ssh_key(path, kind, f"{name}@acme", 2048 if kind == "rsa" else None).path

    def public(self, name: str) -> str:
        return self.key(name).with_name(f"{name}.pub").read_text().strip()

    def recipient(self, name: str) -> str:
        """As ssh-to-age gives it."""
        return Recipient.parse(self.public(name)).text

    def host(self, name: str, *tags: str, kind: KeyKind = "ed25519") -> None:
        key = self.key(name, kind)
        self.bento("host", "add", name, "--key-file", f"{key}.pub", *(f"--tag={tag}" for tag in tags))

    def try_bento(self, *args: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        argv = [str(PROGRAMS / "bento"), *args]
        given = {"env": self.env, "cwd": cwd or self.fleet, "stdin": subprocess.DEVNULL}
        return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120, **given)  # type: ignore[call-overload,no-any-return]

    def bento(self, *args: str, code: int = 0, cwd: Path | None = None) -> str:
        """What it printed on stdout, then stderr."""
        done = self.try_bento(*args, cwd=cwd)
        assert done.returncode == code, f"exit {done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def take(self, tool: str, *args: str, code: int = 0) -> str:
        return self.bento("secret", "import", tool, str(self.theirs), *args, code=code)

    def plan(self, tool: str, *args: str) -> dict[str, list[tuple[str | None, str]]]:
        """What a dry run says: by source, target and reason."""
        done = self.try_bento("secret", "import", tool, str(self.theirs), "--dry-run", "--json", *args)
        assert done.returncode == 0, done.stderr
        rows: dict[str, list[tuple[str | None, str]]] = {}
        for row in json.loads(done.stdout)["secrets"]:
            rows.setdefault(row["from"], []).append((row["target"], row["why"]))
        return rows

    def declared(self) -> set[tuple[str, str, str]]:
        rows = json.loads(self.try_bento("secret", "list", "--json").stdout)
        assert all((row["owner"], row["group"], row["mode"]) == ("root", "root", "0400") for row in rows)
        return {(row["target"], row["name"], host["host"]) for row in rows for host in row["hosts"]}

    def opened(self, host: str, name: str, by: str | None = None) -> bytes | None:
        """A host's copy, opened by Debian's age with a host's identity; None if that can't open it."""
        key = self.key(by or host)
        private = load_ssh_private_key(key.read_bytes(), password=None)
        if isinstance(private, Ed25519PrivateKey):
            key = key.with_name(f"{key.name}.derived")
            key.write_text(age_identity_of_seed(private.private_bytes_raw()) + "\n")
        argv = ["age", "-d", "-i", str(key), str(self.fleet / f"secrets/{host}/{name}.age")]
        done = subprocess.run(argv, capture_output=True, check=False)
        return done.stdout if done.returncode == 0 else None

    def seal(self, file: str, *readers: str, content: str = PLAIN, armour: bool = False) -> None:
        """As agenix does: `age` with the SSH keys themselves, and age recipients as they are."""
        path = self.theirs / file
        path.parent.mkdir(parents=True, exist_ok=True)
        argv = ["age", "-e", *(("-a",) if armour else ()), "-o", str(path)]
        argv += [word for one in readers for word in ("-r", one if one.startswith("age1") else self.public(one))]
        subprocess.run(argv, input=content.encode(), check=True)


@pytest.fixture(scope="module")
def acme(tmp_path_factory: pytest.TempPathFactory) -> Acme:
    made = Acme(tmp_path_factory.mktemp("acme"))
    made.make()
    made.host("system1", "all")
    made.host("system2", "all", kind="rsa")
    return made


@pytest.fixture(scope="module")
def made_agenix(acme: Acme, tmp_path_factory: pytest.TempPathFactory) -> Acme:
    """agenix's tutorial: users and systems bound by `let`, lists joined, one armoured; and a folder and an age key."""
    acme = acme.copy(tmp_path_factory.mktemp("agenix") / "acme")
    acme.key("user2", "rsa")
    subprocess.run(["age-keygen", "-o", str(acme.key("user1").with_name("age.txt"))], check=True, capture_output=True)
    argv = ["age-keygen", "-y", str(acme.folder / "keys/age.txt")]
    user3 = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()
    (acme.theirs / "secrets.nix").write_text(
        f"""\
let
  user1 = "{acme.public("user1")}";
  user2 = "{acme.public("user2")}";
  user3 = "{user3}";
  users = [ user1 user2 ];

  system1 = "{acme.public("system1")}";
  system2 = "{acme.public("system2")}";
  systems = [ system1 system2 ];
in
{{
  "secret1.age".publicKeys = [ user1 system1 ];
  "secret2.age".publicKeys = users ++ systems;
  "armored-secret.age" = {{
    publicKeys = [ user1 ];
    armor = true;
  }};
  "web/tls/key.age" = {{ publicKeys = [ user1 system2 ]; armor = true; }};
  "token.age".publicKeys = [ user3 system1 ];
}}
"""
    )
    acme.seal("secret1.age", "user1", "system1", content=PLAIN + "1")
    acme.seal("secret2.age", "user1", "user2", "system1", "system2", content=PLAIN + "2")
    acme.seal("armored-secret.age", "user1", armour=True)
    acme.seal("web/tls/key.age", "user1", "system2", content=PLAIN + "3", armour=True)
    acme.seal("token.age", user3, "system1", content=PLAIN + "4")
    return acme


@pytest.fixture
def agenix(made_agenix: Acme, tmp_path: Path) -> Acme:
    return made_agenix.copy(tmp_path / "acme")


def unchanged(acme: Acme, work: Callable[[], object]) -> None:
    """`work` leaves every file of fleet and folder as it was."""
    before = tree(acme.fleet), tree(acme.theirs)
    work()
    assert (tree(acme.fleet), tree(acme.theirs)) == before


def identities(acme: Acme, *names: str) -> list[str]:
    return [word for name in names for word in ("--identity", str(acme.folder / "keys" / name))]


AGENIX_TARGETS = {
    ("system1", "secret1", "system1"),
    ("@all", "secret2", "system1"),
    ("@all", "secret2", "system2"),
    ("system2", "web/tls/key", "system2"),
    ("system1", "token", "system1"),
}


def test_agenix_dry_run_shows_the_plan_and_writes_and_opens_nothing(agenix: Acme) -> None:
    for file in agenix.theirs.rglob("*.age"):
        file.write_bytes(b"not to be opened")  # so that it couldn't be
    unchanged(agenix, lambda: agenix.plan("agenix"))
    assert agenix.plan("agenix") == {
        "armored-secret.age": [(None, "it is sealed to no host of this fleet")],
        "secret1.age": [("system1", "sealed to system1's key")],
        "secret2.age": [("@all", "sealed to just the hosts of @all")],
        "token.age": [("system1", "sealed to system1's key")],
        "web/tls/key.age": [("system2", "sealed to system2's key")],
    }
    shown = agenix.take("agenix", "--dry-run")
    assert "armored-secret.age" in shown
    assert "skipped" in shown
    assert "(4 secrets)" in shown  # user1 is nobody of this fleet
    assert "user1@acme" in shown
    assert "nothing was opened or written" in shown


def test_agenix_import_gives_each_host_its_own(agenix: Acme) -> None:
    before = tree(agenix.theirs)
    said = agenix.take("agenix", *identities(agenix, "user1", "age.txt"))
    assert tree(agenix.theirs) == before
    assert agenix.declared() == AGENIX_TARGETS
    assert agenix.opened("system1", "secret1") == (PLAIN + "1").encode()
    assert agenix.opened("system1", "secret2") == agenix.opened("system2", "secret2") == (PLAIN + "2").encode()
    assert agenix.opened("system2", "web/tls/key") == (PLAIN + "3").encode()
    assert agenix.opened("system1", "token") == (PLAIN + "4").encode()
    assert agenix.opened("system1", "secret2", by="system2") is None
    assert agenix.opened("system1", "secret1", by="user1") is None
    assert "skipped armored-secret.age: it is sealed to no host of this fleet" in said
    assert "owner, group and mode" in said
    assert "next: bento deploy" in said


def test_agenix_again_changes_nothing_and_says_why(agenix: Acme) -> None:
    agenix.take("agenix", *identities(agenix, "user1", "age.txt"))
    unchanged(agenix, lambda: agenix.take("agenix", *identities(agenix, "user1", "age.txt")))
    said = agenix.take("agenix")
    assert "skipped secret2.age: system1 has one of that name already, declared for @all" in said
    assert "nothing to import" in said


def test_agenix_opens_with_an_rsa_key_and_with_a_hosts_own(agenix: Acme) -> None:
    for file in ("secret1.age", "token.age", "web/tls/key.age"):
        (agenix.theirs / file).unlink()
    agenix.take("agenix", *identities(agenix, "user2"))
    assert agenix.declared() == {one for one in AGENIX_TARGETS if one[1] == "secret2"}


@pytest.mark.parametrize("names", [("user1",), ("stranger",), ("age.txt",)])
def test_agenix_with_an_identity_that_doesnt_open_all_writes_nothing(agenix: Acme, names: Sequence[str]) -> None:
    agenix.key("stranger")
    unchanged(agenix, lambda: agenix.take("agenix", *identities(agenix, *names), code=1))
    said = agenix.take("agenix", *identities(agenix, *names), code=1)
    assert "could not be opened" in said
    assert PLAIN not in said


def test_agenix_without_identity_asks_for_one(agenix: Acme) -> None:
    unchanged(agenix, lambda: agenix.take("agenix", code=2))
    assert "hint: name the private half" in agenix.take("agenix", code=2)


def test_agenix_one_damaged_file_and_nothing_is_written(agenix: Acme) -> None:
    file = agenix.theirs / "token.age"
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    unchanged(agenix, lambda: agenix.take("agenix", *identities(agenix, "user1", "age.txt"), code=1))


def test_agenix_a_hosts_old_key_can_be_named(agenix: Acme) -> None:
    agenix.seal("old.age", "user1", "replaced")
    rules = agenix.theirs / "secrets.nix"
    extra = f'\n  "old.age".publicKeys = [ user1 "{agenix.public("replaced")}" ];\n}}\n'
    rules.write_text(rules.read_text().rstrip().removesuffix("}") + extra)
    assert agenix.plan("agenix")["old.age"] == [(None, "it is sealed to no host of this fleet")]
    named = f"{agenix.public('replaced')}=system1"
    assert agenix.plan("agenix", "--map", named)["old.age"] == [("system1", "sealed to system1's key")]
    agenix.take("agenix", "--map", named, *identities(agenix, "user1", "age.txt"))
    assert agenix.opened("system1", "old") == PLAIN.encode()
    assert agenix.opened("system1", "old", by="replaced") is None


@pytest.mark.parametrize(
    ("mapped", "why"),
    [
        ("nothing", "doesn't read KEY=HOST"),
        ("=system1", "doesn't read KEY=HOST"),
        ("KEY=sytem1", "did you mean system1?"),
        ("age1unknown=system1", "nothing there is sealed to age1unknown"),
    ],
)
def test_a_wrong_map_is_refused(agenix: Acme, mapped: str, why: str) -> None:
    said = agenix.take("agenix", "--dry-run", "--map", mapped.replace("KEY", agenix.public("user1")), code=2)
    assert why in said


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        ("builtins.readFile /etc/passwd", "restricted mode"),
        ("builtins.readFile ../outside/default.nix", "restricted mode"),
        ("builtins.readFile ./link", "restricted mode"),
        ("import ../outside", "restricted mode"),
        ("import <outside>", "was not found"),
        ("toString (builtins.attrNames (builtins.readDir /.))", "restricted mode"),
        ('builtins.readFile (builtins.fetchurl "http://127.0.0.1:9/x")', "restricted mode"),
        ('builtins.readFile (builtins.fetchTarball "http://127.0.0.1:9/x.tar")', "restricted mode"),
        ('builtins.readFile (builtins.fetchGit "file:///etc")', "restricted mode"),
        ('builtins.readFile (derivation { name = "x"; system = "none"; builder = "/x"; })', "x.drv"),
        ("throw ''that''", "that"),
        ("let loop = loop; in loop", "infinite recursion"),
    ],
)
def test_rules_that_reach_outside_their_folder_are_refused(agenix: Acme, rule: str, why: str) -> None:
    (agenix.folder / "outside").mkdir()
    (agenix.folder / "outside/default.nix").write_text(f'"{agenix.public("system1")}"')
    (agenix.theirs / "link").symlink_to("../outside/default.nix")
    (agenix.theirs / "secrets.nix").write_text(f'{{ "secret1.age".publicKeys = [ ({rule}) ]; }}')
    agenix.env["NIX_PATH"] = f"outside={agenix.folder}/outside"
    said = agenix.take("agenix", "--dry-run", code=1)
    assert said.startswith("error: nix-instantiate failed")
    assert why in " ".join(said.split())


def test_rules_may_read_their_own_folder_and_what_is_named(agenix: Acme) -> None:
    shared = agenix.folder / "sha red"
    shared.mkdir()
    (shared / "keys.nix").write_text(f'[ "{agenix.public("system1")}" ]')
    (agenix.theirs / "own.nix").write_text(f'[ "{agenix.public("system2")}" ]')
    (agenix.theirs / "secrets.nix").write_text(
        '{ "secret1.age".publicKeys = import ./own.nix ++ import (../. + "/sha red/keys.nix"); }'
    )
    assert "--also-read" in agenix.take("agenix", "--dry-run", code=1)
    assert agenix.plan("agenix", "--also-read", str(shared))["secret1.age"][0][0] == "@all"


def test_evaluating_rules_puts_nothing_into_the_nix_store_and_shows_no_environment(agenix: Acme) -> None:
    (agenix.theirs / "secrets.nix").write_text(
        '{ "secret1.age".publicKeys = [ "${./secret1.age}" ("home=" + builtins.getEnv "HOME") ]; }'
    )
    done = agenix.try_bento("secret", "import", "agenix", str(agenix.theirs), "--dry-run", "--json")
    first, second = [one["key"] for one in json.loads(done.stdout)["strangers"]]
    assert first.startswith("/nix/store/")
    assert not Path(first).exists()
    assert second == "home="


def test_no_plaintext_and_no_identity_is_left_anywhere(agenix: Acme) -> None:
    agenix.take("agenix", *identities(agenix, "user1", "age.txt"))
    places = [agenix.fleet, agenix.theirs, agenix.folder / "home", agenix.folder / "tmp"]
    assert markers.hits(PLAIN.encode(), *places) == []
    (agenix.folder / "tmp/control").write_text(PLAIN)
    assert markers.hits(PLAIN.encode(), *places) == [agenix.folder / "tmp/control"]


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
@pytest.mark.parametrize(
    ("call", "fault", "step"), [("rename,renameat,renameat2", "signal=KILL", 1), ("fsync", "error=ENOSPC", 3)]
)
def test_cut_anywhere_it_leaves_all_or_nothing_and_the_rerun_heals(
    agenix: Acme, call: str, fault: str, step: int
) -> None:
    theirs, empty = tree(agenix.theirs), agenix.folder / "empty"
    shutil.copytree(agenix.fleet, empty)
    command = [str(PROGRAMS / "bento"), "secret", "import", "agenix", str(agenix.theirs)]
    command += identities(agenix, "user1", "age.txt")
    seen = []
    for number in range(1, 100, step):
        strace = ["strace", "-qq", "-o", "/dev/null", "-e", f"inject={call}:{fault}:when={number}"]
        argv = [*strace, *command]
        done = subprocess.run(argv, env=agenix.env, cwd=agenix.fleet, capture_output=True, check=False, timeout=120)
        after = agenix.declared()
        assert after in (set(), AGENIX_TARGETS)
        agenix.take("agenix", *identities(agenix, "user1", "age.txt"))
        assert agenix.declared() == AGENIX_TARGETS
        assert agenix.opened("system1", "secret1") == (PLAIN + "1").encode()
        assert not (agenix.fleet / "secrets/.staged").exists()
        if done.returncode == 0:
            break
        seen.append(bool(after))
        assert PLAIN.encode() not in done.stdout + done.stderr
        assert markers.hits(PLAIN.encode(), agenix.fleet, agenix.folder / "tmp", agenix.folder / "home") == []
        shutil.rmtree(agenix.fleet)
        shutil.copytree(empty, agenix.fleet)
    assert seen == sorted(seen)  # once committed, always there
    assert {False, True} == set(seen)
    assert tree(agenix.theirs) == theirs


@pytest.fixture(scope="module")
def made_sops_nix(acme: Acme, tmp_path_factory: pytest.TempPathFactory) -> Acme:
    """sops-nix's usage example: keys of an admin and servers in .sops.yaml, secrets/*.yaml, a folder for one server."""
    acme = acme.copy(tmp_path_factory.mktemp("sops") / "acme")
    argv = ["age-keygen", "-o", str(acme.folder / "keys/admin.txt")]
    subprocess.run(argv, check=True, capture_output=True)
    argv = ["age-keygen", "-y", str(acme.folder / "keys/admin.txt")]
    bob = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()
    acme.host("nosaxa", "servers")
    acme.host("azmidi", "servers")
    nosaxa, azmidi, alice = (acme.recipient(name) for name in ("nosaxa", "azmidi", "alice"))
    (acme.theirs / ".sops.yaml").write_text(
        f"""\
keys:
  - &admin_alice {alice}
  - &admin_bob {bob}
  - &server_azmidi {azmidi}
  - &server_nosaxa {nosaxa}
creation_rules:
  - path_regex: secrets/[^/]+\\.(yaml|json|env|ini)$
    key_groups:
    - age:
      - *admin_alice
      - *admin_bob
      - *server_azmidi
      - *server_nosaxa
  - path_regex: secrets/azmidi/[^/]+\\.(yaml|json|env|ini)$
    key_groups:
    - age:
      - *admin_alice
      - *admin_bob
      - *server_azmidi
"""
    )
    both, one = [alice, bob, azmidi, nosaxa], [alice, bob, azmidi]
    example: dict[str, Any] = {
        "example-key": PLAIN,
        "myservice": {"my_subdir": {"my_secret": PLAIN + "\n"}},
        "port": 5432,
        "note_unencrypted": "hello",
    }
    sops.seal(acme.theirs / "secrets/example.yaml", example, both, {"kms": [], "pgp": []})
    sops.seal(acme.theirs / "secrets/azmidi/other.json", {"github_token": PLAIN + "2"}, one)
    sops.seal(acme.theirs / "secrets/azmidi/app.env", {"PASSWORD": PLAIN + "3"}, one)
    sops.seal(acme.theirs / "secrets/azmidi/app.ini", {"db": {"password": PLAIN + "4"}}, one)
    sops.seal(acme.theirs / "krb5.keytab", PLAIN.encode(), both)
    (acme.theirs / "configuration.nix").write_text("{ sops.defaultSopsFile = ./secrets/example.yaml; }")
    return acme


@pytest.fixture
def sops_nix(made_sops_nix: Acme, tmp_path: Path) -> Acme:
    return made_sops_nix.copy(tmp_path / "acme")


SHARED = ["example-key", "myservice/my_subdir/my_secret", "port", "krb5.keytab"]
SOPS_TARGETS = {
    *(("@servers", name, host) for name in SHARED for host in ("azmidi", "nosaxa")),
    *(("azmidi", name, "azmidi") for name in ("github_token", "app.env", "app.ini")),
}


def test_sops_dry_run_shows_the_plan_without_the_program(sops_nix: Acme) -> None:
    (sops_nix.programs / "sops").unlink()
    unchanged(sops_nix, lambda: sops_nix.plan("sops"))
    servers, own = ("@servers", "sealed to just the hosts of @servers"), ("azmidi", "sealed to azmidi's key")
    assert sops_nix.plan("sops") == {
        "krb5.keytab": [servers],
        "secrets/azmidi/app.env": [own],
        "secrets/azmidi/app.ini": [own],
        "secrets/azmidi/other.json: github_token": [own],
        "secrets/example.yaml: example-key": [servers],
        "secrets/example.yaml: myservice/my_subdir/my_secret": [servers],
        "secrets/example.yaml: note_unencrypted": [(None, "it isn't encrypted in the file")],
        "secrets/example.yaml: port": [servers],
    }
    assert "nobody of this fleet: age1" in sops_nix.take("sops", "--dry-run")
    unchanged(sops_nix, lambda: sops_nix.take("sops", code=1))
    assert "the program sops is not installed" in sops_nix.take("sops", code=1)


@pytest.mark.parametrize("way", ["age file", "ssh key", "sops's own"])
def test_sops_import_gives_each_host_its_own(sops_nix: Acme, way: str) -> None:
    before = tree(sops_nix.theirs)
    arguments = {"age file": identities(sops_nix, "admin.txt"), "ssh key": identities(sops_nix, "alice")}.get(way, [])
    if way == "sops's own":
        sops_nix.env["SOPS_AGE_KEY_FILE"] = str(sops_nix.folder / "keys/admin.txt")
    sops_nix.take("sops", *arguments)
    assert tree(sops_nix.theirs) == before
    assert sops_nix.declared() == SOPS_TARGETS
    for host in ("azmidi", "nosaxa"):
        assert sops_nix.opened(host, "example-key") == PLAIN.encode()
        assert sops_nix.opened(host, "myservice/my_subdir/my_secret") == f"{PLAIN}\n".encode()
        assert sops_nix.opened(host, "port") == b"5432"
        assert sops_nix.opened(host, "krb5.keytab") == PLAIN.encode()
    assert sops_nix.opened("azmidi", "github_token") == f"{PLAIN}2".encode()
    assert sops_nix.opened("azmidi", "app.env") == f"PASSWORD={PLAIN}3\n".encode()
    assert sops_nix.opened("azmidi", "app.ini") == f"[db]\npassword = {PLAIN}4\n".encode()
    assert sops_nix.opened("azmidi", "github_token", by="nosaxa") is None
    places = [sops_nix.fleet, sops_nix.theirs, sops_nix.folder / "home", sops_nix.folder / "tmp"]
    assert markers.hits(PLAIN.encode(), *places) == []
    assert markers.hits(b"AGE-SECRET-KEY-1", *places) == []


def test_sops_with_the_wrong_identity_writes_nothing(sops_nix: Acme) -> None:
    wrong = identities(sops_nix, "stranger")
    sops_nix.key("stranger")
    unchanged(sops_nix, lambda: sops_nix.take("sops", *wrong, code=1))
    said = sops_nix.take("sops", *wrong, code=1)
    assert "no master key was able to decrypt" in said
    assert PLAIN not in said


def test_sops_a_changed_file_fails_its_mac_and_nothing_is_written(sops_nix: Acme) -> None:
    file = sops_nix.theirs / "secrets/example.yaml"
    file.write_text(file.read_text().replace("note_unencrypted: hello", "note_unencrypted: hullo"))
    unchanged(sops_nix, lambda: sops_nix.take("sops", *identities(sops_nix, "admin.txt"), code=1))


def test_what_a_failed_sops_printed_isnt_shown(sops_nix: Acme) -> None:
    program = sops_nix.programs / "sops"
    program.write_text(f"#!/bin/sh\necho {PLAIN}\nexit 1\n")
    said = sops_nix.take("sops", code=1)
    assert PLAIN not in said
    assert "sops failed: exit code 1" in said


def test_sops_the_same_name_in_two_files_is_taken_once_for_a_host(sops_nix: Acme) -> None:
    readers = [sops_nix.recipient("alice"), sops_nix.recipient("azmidi")]
    sops.seal(sops_nix.theirs / "secrets/second.yaml", {"example-key": "another", "Port": "1"}, readers)
    plan = sops_nix.plan("sops")
    taken = "azmidi has one of that name already, from secrets/example.yaml: example-key"
    assert plan["secrets/second.yaml: example-key"] == [(None, taken)]
    assert plan["secrets/second.yaml: Port"][0][0] is None
    sops_nix.take("sops", *identities(sops_nix, "alice"))
    assert sops_nix.opened("azmidi", "example-key") == PLAIN.encode()


def test_sops_one_file_can_be_named(sops_nix: Acme) -> None:
    sops_nix.theirs /= "secrets/azmidi/other.json"
    sops_nix.take("sops", *identities(sops_nix, "admin.txt"))
    assert sops_nix.declared() == {("azmidi", "github_token", "azmidi")}


def test_sops_a_pgp_fingerprint_can_stand_for_a_host(sops_nix: Acme) -> None:
    file = sops_nix.theirs / "secrets/pgp.yaml"
    pgp = [{"fp": "0FD60C8C3B664ACEB1796CE02B318DF330331003", "enc": "x"}]
    sops.seal(file, {"extra": PLAIN}, [sops_nix.recipient("alice")], {"pgp": pgp})
    assert sops_nix.plan("sops")["secrets/pgp.yaml: extra"][0][0] is None
    mapped = "0fd60c8c3b664aceb1796ce02b318df330331003=system1"
    assert sops_nix.plan("sops", "--map", mapped)["secrets/pgp.yaml: extra"][0][0] == "system1"


def test_an_admin_of_the_fleet_is_no_stranger_and_can_open_what_was_imported(sops_nix: Acme) -> None:
    settings = sops_nix.fleet / "bento.toml"
    alice = sops_nix.public("alice")
    text = settings.read_text()
    settings.write_text(text.replace("admins = []", f'admins = ["{alice}"]'))
    assert settings.read_text() != text
    done = sops_nix.try_bento("secret", "import", "sops", str(sops_nix.theirs), "--dry-run", "--json")
    assert sops_nix.recipient("alice") not in [one["key"] for one in json.loads(done.stdout)["strangers"]]
    sops_nix.take("sops", *identities(sops_nix, "alice"))
    assert sops_nix.opened("nosaxa", "example-key", by="alice") == PLAIN.encode()
