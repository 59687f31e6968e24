"""`bento secret import agenix`, from a folder as agenix's documentation lays it out. Nix evaluates its rules."""

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from rig import markers
from rig.acme import PLAIN, Acme, identities, tree, unchanged
from rig.cuts import stride
from rig.world import PROGRAMS

pytestmark = pytest.mark.programs("age", "nix-instantiate")


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


def test_agenix_what_an_old_reader_can_still_open_must_rotate(agenix: Acme) -> None:
    settings = agenix.fleet / "bento.toml"
    settings.write_text(settings.read_text().replace("admins = []", f'admins = ["{agenix.public("user1")}"]'))
    assert "2 must be changed" in agenix.take("agenix", *identities(agenix, "user1", "age.txt"))
    findings = json.loads(agenix.bento("secret", "check", "--json", code=1))
    # user2 could open secret2, and an age key of nobody the token; user1 is an admin now
    assert {(one["kind"], one["name"]) for one in findings} == {("must rotate", "secret2"), ("must rotate", "token")}


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


@pytest.mark.programs("strace")
@pytest.mark.parametrize(
    ("call", "fault", "step"),
    [("rename,renameat,renameat2", "signal=KILL", stride(2)), ("fsync", "error=ENOSPC", stride(6))],
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
        done = subprocess.run(argv, env=agenix.env, cwd=agenix.fleet, capture_output=True, check=False, timeout=200)
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
