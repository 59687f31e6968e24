"""What stands in clear text in SOPS's files, and what comes back from the program."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from bento_secrets.errors import InputError, OpenFailed
from bento_secrets.importing import limits, sops, sops_files
from bento_secrets.importing.found import Found

SEALED = "ENC[AES256_GCM,data:eA==,iv:eA==,tag:eA==,type:str]"
META = {"age": [{"recipient": "age1aaa", "enc": "x"}, {"recipient": "age1bbb", "enc": "x"}], "mac": SEALED}


def refuse(argv: Sequence[str], *, env: Mapping[str, str], timeout: float, pass_fds: tuple[int, ...] = ()) -> bytes:
    raise AssertionError("nothing is to be opened")


def as_json(tree: dict[str, Any], meta: dict[str, Any] | None = None) -> bytes:
    return json.dumps({**tree, "sops": meta or META}).encode()


def test_json_gives_every_value_and_the_keys() -> None:
    parsed = sops_files.parse("x.json", as_json({"a": {"b": SEALED}, "l": [SEALED], "clear": "x", "n": None, "e": ""}))
    assert parsed is not None
    assert parsed.keys == ("age1aaa", "age1bbb")
    assert parsed.names == (
        (("a", "b"), True),
        (("l", "0"), True),
        (("clear",), False),
        (("n",), False),
        (("e",), False),
    )


def test_yaml_keys_stay_as_written_and_comments_are_passed_over() -> None:
    text = f"on: {SEALED}\n#{SEALED}\n1.0: {SEALED}\nsops:\n  kms: []\n  pgp:\n  - fp: ABCD\n  mac: {SEALED}\n"
    parsed = sops_files.parse("x.yaml", text.encode())
    assert parsed is not None
    assert parsed.keys == ("ABCD",)
    assert parsed.names == ((("on",), True), (("1.0",), True))


def test_a_lists_comments_are_no_members_of_it() -> None:
    comment = SEALED.replace("type:str", "type:comment")
    parsed = sops_files.parse("x.yaml", as_json({"l": [comment, SEALED, comment, {"a": SEALED}]}))
    assert parsed is not None
    assert parsed.names == ((("l", "0"), True), (("l", "1", "a"), True))


@pytest.mark.parametrize("name", ["krb5.keytab", "plain.txt", "noextension"])
def test_other_files_are_one_secret(name: str) -> None:
    parsed = sops_files.parse(name, as_json({"data": SEALED}))
    assert parsed is not None
    assert (parsed.format, parsed.names, parsed.keys) == ("binary", None, ("age1aaa", "age1bbb"))


def test_dotenv_and_ini_are_one_secret_too_as_for_sops_nix() -> None:
    flat = "age__list_0__map_recipient=age1aaa\n{0}age__list_0__map_enc=--\\nage1no==\\n\n{0}pgp__list_0__map_fp=ABCD\n"
    dotenv = f"PASSWORD={SEALED}\nsops_{flat.format('sops_')}sops_mac={SEALED}\nrecipient=x\n"
    ini = f"[web]\nmac = x\n[sops]\n{flat.format('').replace('=', ' = ', 1)}mac = {SEALED}\n"
    for name, text in (("x.env", dotenv), (".env", dotenv), ("x.ini", ini)):
        parsed = sops_files.parse(name, text.encode())
        assert parsed is not None
        assert (parsed.names, parsed.keys) == (None, ("age1aaa", "ABCD"))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.yaml", b"a: b\n"),
        ("x.yaml", b"sops: not a map\n"),
        ("x.yaml", b"sops:\n  note: mentioned\n"),
        ("x.json", b'{"a": "sops"}'),
        ("x.json", b'["sops"]'),
        ("flake.nix", b"{ sops = 1; }"),
        ("x.bin", b"\x00sops"),
        ("x.env", b"sops_note=1\n"),
        ("x.ini", b"[web]\nmac = 1\n"),
        ("x.env", b"\xff\xfe"),
    ],
)
def test_files_of_other_kinds_are_none_of_it(name: str, content: bytes) -> None:
    assert sops_files.parse(name, content) is None


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("x.yaml", b"a: [\nsops: {}", "no valid YAML"),
        ("x.yaml", b"a: 1\n---\nsops: {mac: x}", "more than one document"),
        ("x.yaml", b"a: &x [1]\nb: *x\nsops: {mac: x}", "aliases"),
        ("x.yaml", b"sops: " + b"[" * 5000, "inside each other"),
        ("x.yaml", b"sops:\n " + b"? " * 1_000_000, "inside each other"),
        ("x.yaml", b"sops:\n" + b"- x\n" * 200_000, "words and marks"),
        ("x.yaml", b"# sops" * 1_000_000, "more than 4194304 bytes"),
        ("x.json", b'{"sops": ', "no valid JSON"),
        ("x.json", b'{"sops": ' + b"[" * 100_000, "no valid JSON"),
        ("x.json", as_json({"a": {"b": eval("[" * 30 + "]" * 30)}}).replace(b"[]", b"[1]"), "inside each other"),  # noqa: S307
        ("x.json", as_json({}, {"age": [{"recipient": str(n)} for n in range(2000)], "mac": ""}), "more than 1024"),
    ],
)
def test_what_cant_be_read_is_said(name: str, content: bytes, why: str) -> None:
    with pytest.raises(InputError, match=why):
        sops_files.parse(name, content)


def test_several_key_groups_are_a_problem() -> None:
    one = {"age": [{"recipient": "age1aaa"}]}
    parsed = sops_files.parse("x.json", as_json({"a": SEALED}, {"key_groups": [one, one], "mac": "x"}))
    assert parsed is not None
    assert parsed.problem is not None
    parsed = sops_files.parse("x.json", as_json({"a": SEALED}, {"key_groups": [one], "mac": "x"}))
    assert parsed is not None
    assert (parsed.problem, parsed.keys) == (None, ("age1aaa",))
    age, pgp = "list_0__map_age__list_0__map_recipient", "list_1__map_pgp__list_0__map_fp"
    flat = f"sops_key_groups__{age}=a\nsops_key_groups__{pgp}=b\nsops_mac=x\n"
    parsed = sops_files.parse("x.env", flat.encode())
    assert parsed is not None
    assert parsed.problem is not None


def test_a_folder_gives_what_it_holds_in_order_and_passes_links_and_git_over(tmp_path: Path) -> None:
    (tmp_path / "secrets/web").mkdir(parents=True)
    (tmp_path / ".git").mkdir()
    (tmp_path / ".sops.yaml").write_bytes(as_json({"a": SEALED}))
    (tmp_path / ".git/x.json").write_bytes(as_json({"a": SEALED}))
    (tmp_path / "flake.nix").write_text("{ }")
    (tmp_path / "secrets/a.json").write_bytes(as_json({"b": {"c": SEALED}, "plain": "x"}))
    (tmp_path / "secrets/web/keytab").write_bytes(as_json({"data": SEALED}))
    (tmp_path / "secrets/broken.yaml").write_text("sops: [")
    (tmp_path / "link.json").symlink_to("secrets/a.json")
    found = [(one.source, one.name, one.problem) for one in sops.find(tmp_path)]
    assert found == [
        ("secrets/a.json: b/c", "b/c", None),
        ("secrets/a.json: plain", "plain", "it isn't encrypted in the file"),
        ("secrets/broken.yaml", "broken.yaml", "it is no valid YAML, or more than one document"),
        ("secrets/web/keytab", "keytab", None),
    ]
    assert [one.source for one in sops.find(tmp_path / "secrets/a.json")] == ["a.json: b/c", "a.json: plain"]


def test_nothing_there_is_an_error(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(InputError):
            sops.find(path)


def test_too_many_files_or_secrets_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.json").write_bytes(as_json({"a": SEALED, "b": SEALED}))
    monkeypatch.setattr("bento_secrets.importing.sops.IMPORT_LIMITS", limits.ImportLimits(MAX_SECRETS=1))
    with pytest.raises(InputError, match="more than 1 secrets"):
        sops.find(tmp_path)
    monkeypatch.setattr("bento_secrets.importing.agenix.IMPORT_LIMITS", limits.ImportLimits(MAX_ENTRIES=0))
    with pytest.raises(InputError, match="more than 0 files"):
        sops.find(tmp_path)


def opened(tree: Any, *ways: tuple[str, ...]) -> list[bytes]:
    calls = []

    def run(argv: Sequence[str], *, env: Mapping[str, str], timeout: float, pass_fds: tuple[int, ...] = ()) -> bytes:
        calls.append(argv)
        return json.dumps(tree).encode() if not isinstance(tree, bytes) else tree

    wanted = [Found("f", Path("/x/f.json"), "n", (), way) for way in ways]
    plain = [one.data for one in sops.open_all(wanted, run, (), lambda _: "")]
    assert calls == [["sops", "--decrypt", "--output-type", "json", "/x/f.json"]]  # once a file
    return plain


def test_values_come_back_as_they_were_written() -> None:
    tree = {"s": "pä\n", "n": 5432, "t": True, "l": ["x", {"y": "z"}], "m": {"0": "digit"}}
    ways = [("s",), ("n",), ("t",), ("l", "1", "y"), ("m", "0")]
    assert opened(tree, *ways) == ["pä\n".encode(), b"5432", b"true", b"z", b"digit"]
    assert opened(b'{"f": 1.50, "e": 1e3}', ("f",), ("e",)) == [b"1.50", b"1e3"]


@pytest.mark.parametrize(
    ("tree", "way"),
    [
        ({"a": "x"}, ("b",)),
        ({"a": "x"}, ("a", "b")),
        ({"a": ["x"]}, ("a", "5")),
        ({"a": ["x"]}, ("a", "y")),
        ({"a": None}, ("a",)),
        ({"a": {"b": "x"}}, ("a",)),
        (b'{"a": "\\ud800"}', ("a",)),
        (b"not json", ("a",)),
        (b"[" * 100_000, ("a",)),
    ],
)
def test_what_sops_didnt_give_is_an_error(tree: Any, way: tuple[str, ...]) -> None:
    with pytest.raises(OpenFailed):
        opened(tree, way)


def test_a_protected_key_is_asked_for_and_reaches_sops_in_memory_only(key_folder: Path) -> None:
    seen = []

    def run(argv: Sequence[str], *, env: Mapping[str, str], timeout: float, pass_fds: tuple[int, ...] = ()) -> bytes:
        (descriptor,) = pass_fds
        assert env == {"SOPS_AGE_KEY_FILE": f"/proc/self/fd/{descriptor}"}
        assert "memfd:" in str(Path(f"/proc/self/fd/{descriptor}").readlink())
        seen.append(Path(env["SOPS_AGE_KEY_FILE"]).read_text())
        return b"content"

    wanted = [Found("f", Path("/x/f"), "n", ())]
    assert sops.open_all(wanted, run, [key_folder / "locked"], lambda _: "a passphrase")[0].data == b"content"
    assert seen[0].startswith("AGE-SECRET-KEY-1")
    with pytest.raises(InputError, match="needs its passphrase"):
        sops.open_all(wanted, refuse, [key_folder / "locked"], lambda _: "")
    with pytest.raises(InputError, match=r"passphrase of .* is wrong"):
        sops.open_all(wanted, refuse, [key_folder / "locked"], lambda _: "another")


def test_an_identity_file_that_sops_cant_use_is_refused_before_it_runs(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("age1public\n")
    with pytest.raises(InputError, match="no identity"):
        sops.open_all([Found("f", tmp_path, "n", ())], refuse, [tmp_path / "key"], lambda _: "")
