"""`bento secret import sops`, from a folder as sops-nix's documentation lays it out, which `sops` itself has sealed."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from rig import markers, sops
from rig.acme import PLAIN, Acme, identities, tree, unchanged

pytestmark = pytest.mark.programs("age", "nix-instantiate")

KEYTAB = b"\5\2\0\xff" + PLAIN.encode() + b"\r\n"


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
    example: dict[str, Any] = {
        "example-key": PLAIN,
        "myservice": {"my_subdir": {"my_secret": PLAIN + "\n"}},
        "port": 5432,
        "note_unencrypted": "hello",
    }
    for name, content in {
        "secrets/example.yaml": example,
        "secrets/azmidi/other.json": {"github_token": PLAIN + "2"},
        "secrets/azmidi/app.env": {"PASSWORD": PLAIN + "3"},
        "secrets/azmidi/app.ini": {"db": {"password": PLAIN + "4"}},
    }.items():
        sops.seal(acme.theirs / name, content, root=acme.theirs)
    sops.seal(acme.theirs / "krb5.keytab", KEYTAB, [alice, bob, azmidi, nosaxa])
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
        assert sops_nix.opened(host, "krb5.keytab") == KEYTAB
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
    sops.seal(file, {"extra": PLAIN}, [sops_nix.recipient("alice")])
    pgp = "sops:\n    pgp:\n        - fp: 0FD60C8C3B664ACEB1796CE02B318DF330331003\n          enc: x\n"
    file.write_text(file.read_text().replace("sops:\n", pgp))
    assert sops_nix.plan("sops")["secrets/pgp.yaml: extra"][0][0] is None
    mapped = "0fd60c8c3b664aceb1796ce02b318df330331003=system1"
    assert sops_nix.plan("sops", "--map", mapped)["secrets/pgp.yaml: extra"][0][0] == "system1"


def test_sops_files_for_ssh_keys_as_they_are_go_to_the_hosts_of_these_keys(sops_nix: Acme) -> None:
    readers = [sops_nix.public("alice"), sops_nix.public("azmidi")]  # each with its comment
    sops.seal(sops_nix.theirs / "secrets/native.yaml", {"native": PLAIN}, readers)
    assert sops_nix.plan("sops")["secrets/native.yaml: native"] == [("azmidi", "sealed to azmidi's key")]
    sops_nix.take("sops", *identities(sops_nix, "alice"))
    assert sops_nix.opened("azmidi", "native") == PLAIN.encode()


def test_sops_comments_and_empty_values_are_no_secrets_and_keys_stay_as_written(sops_nix: Acme) -> None:
    readers = [sops_nix.recipient("alice"), sops_nix.recipient("azmidi")]
    text = f"# {PLAIN}\nnothing:\nempty: ''\n'1.0': {PLAIN}\nmany:\n- first\n# between\n- second: true\n"
    sops.seal(sops_nix.theirs / "secrets/odd.yaml", text.encode(), readers)
    taken = {source: why for source, why in sops_nix.plan("sops").items() if source.startswith("secrets/odd.yaml")}
    assert {source: target for source, [(target, _)] in taken.items()} == {
        "secrets/odd.yaml: nothing": None,
        "secrets/odd.yaml: empty": None,
        "secrets/odd.yaml: 1.0": "azmidi",
        "secrets/odd.yaml: many/0": "azmidi",
        "secrets/odd.yaml: many/1/second": "azmidi",
    }
    sops_nix.take("sops", *identities(sops_nix, "alice"))
    assert sops_nix.opened("azmidi", "1.0") == PLAIN.encode()
    assert sops_nix.opened("azmidi", "many/0") == b"first"
    assert sops_nix.opened("azmidi", "many/1/second") == b"true"


@pytest.mark.parametrize("name", ["shared.yaml", "shared.json", "shared.env", "shared.ini", "shared.bin"])
def test_sops_files_that_take_several_groups_are_left_out(sops_nix: Acme, name: str) -> None:
    groups = [[sops_nix.recipient("alice")], [sops_nix.recipient("azmidi")]]
    rule = {"key_groups": [{"age": one} for one in groups], "shamir_threshold": 2}
    (sops_nix.theirs / ".sops.yaml").write_text(json.dumps({"creation_rules": [rule]}))
    tree: Any = {"db": {"password": PLAIN}} if name.endswith(".ini") else {"password": PLAIN}
    content = PLAIN.encode() if name.endswith(".bin") else tree
    sops.seal(sops_nix.theirs / name, content, root=sops_nix.theirs)
    (row,) = [row for source, row in sops_nix.plan("sops").items() if source.startswith(name)]
    assert row == [(None, "it takes keys of several groups together (Shamir's scheme) to open it")]


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
