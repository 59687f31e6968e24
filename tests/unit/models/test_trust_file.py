"""trust.toml: every mistake is named by file, line and key; a host never ends up trusting nobody or anybody."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.samples import complaint_of, public, quick

from bento.errors import InputError
from bento.models.trust import parse_fleet_name, parse_trust, read_trust

GOOD = f"""\
format = 1
fleet = "acme"
signers = ["{public(1).line} admin", "{public(2).line}"]
revoked = []

[[servers]]
address = "bento.example.org"
port = 2222
host_keys = ["{public(3).line}"]
timeout = 5
"""


def complaint(text: str) -> InputError:
    with pytest.raises(InputError) as error:
        parse_trust(text, "trust.toml")
    return error.value


def test_a_good_file_is_read_whole() -> None:
    trust = parse_trust(GOOD)
    assert trust.fleet == "acme"
    assert [key.blob for key in trust.signers] == [public(1).blob, public(2).blob]
    (server,) = trust.servers
    assert (server.address, server.port, server.timeout) == ("bento.example.org", 2222, 5)
    assert [key.blob for key in server.host_keys] == [public(3).blob]


def test_port_and_timeout_have_defaults() -> None:
    (server,) = parse_trust(GOOD.replace("port = 2222\n", "").replace("timeout = 5\n", "")).servers
    assert (server.port, server.timeout) == (22, 20)


def test_mirrors_keep_their_order() -> None:
    mirror = GOOD[GOOD.index("[[servers]]") :].replace("bento.example.org", "mirror.example.org")
    assert [one.address for one in parse_trust(GOOD + mirror).servers] == ["bento.example.org", "mirror.example.org"]


def test_a_revoked_signer_is_no_signer_whatever_its_comment() -> None:
    trust = parse_trust(GOOD.replace("revoked = []", f'revoked = ["{public(1).line} another comment"]'))
    assert [key.blob for key in trust.signers] == [public(2).blob]


@pytest.mark.parametrize("option", ['valid-before=\\"20200101\\"', "cert-authority", 'namespaces=\\"git\\"'])
def test_a_signer_is_a_key_and_nothing_before_it_so_none_has_a_time_at_which_it_ends(option: str) -> None:
    assert "'signers'" in complaint(GOOD.replace(f'"{public(1).line} admin"', f'"{option} {public(1).line}"')).message


def test_revoking_everybody_is_refused() -> None:
    both = f'revoked = ["{public(1).line}", "{public(2).line}"]'
    error = complaint(GOOD.replace("revoked = []", both))
    assert error.message.startswith("trust.toml:3: 'signers'")
    assert error.hints


@pytest.mark.parametrize(
    ("old", "new", "place", "key"),
    [
        ('"acme"', '"ac me"', "trust.toml:2", "'fleet'"),
        ('"acme"', "7", "trust.toml:2", "'fleet'"),
        ("format = 1", "format = 2", "trust.toml:1", "'format'"),
        ("format = 1", "format = true", "trust.toml:1", "'format'"),
        ("format = 1", 'format = "1"', "trust.toml:1", "'format'"),
        (public(1).line, "ssh-ed25519 AAAA", "trust.toml:3", "'signers'"),
        ("revoked = []", "revoked = [1]", "trust.toml:4", "'revoked'"),
        ("revoked = []", 'revoked = "x"', "trust.toml:4", "'revoked'"),
        ("port = 2222", "port = 0", "trust.toml:8", "'servers.port'"),
        ("port = 2222", "port = 65536", "trust.toml:8", "'servers.port'"),
        ("port = 2222", 'port = "22"', "trust.toml:8", "'servers.port'"),
        ("timeout = 5", "timeout = 0", "trust.toml:10", "'servers.timeout'"),
        ("timeout = 5", "timeout = 1.5", "trust.toml:10", "'servers.timeout'"),
        ('"bento.example.org"', '""', "trust.toml:7", "'servers.address'"),
        ('"bento.example.org"', '"root@x"', "trust.toml:7", "'servers.address'"),
        ('"bento.example.org"', '"bento.example.org:22"', "trust.toml:7", "'servers.address'"),
        ('"bento.example.org"', '"[::1]:22"', "trust.toml:7", "'servers.address'"),
        ('"bento.example.org"', '"[bento.example.org]"', "trust.toml:7", "'servers.address'"),
        ('"bento.example.org"', '"::1%"', "trust.toml:7", "'servers.address'"),
        ('"bento.example.org"', '"-oProxyCommand=x"', "trust.toml:7", "'servers.address'"),
        (f'["{public(3).line}"]', "[]", "trust.toml:9", "'servers.host_keys'"),
        (public(3).line, "nonsense", "trust.toml:9", "'servers.host_keys'"),
        ("[[servers]]", "[servers]", "trust.toml:6", "'servers'"),
        ("[[servers]]", "[[servers.x]]", "trust.toml:6", "'servers'"),
    ],
)
def test_a_wrong_value_is_named_by_line_and_key(old: str, new: str, place: str, key: str) -> None:
    assert old in GOOD
    message = complaint(GOOD.replace(old, new, 1)).message
    assert message.startswith(f"{place}: ")
    assert key in message


@pytest.mark.parametrize(
    ("old", "new", "line", "meant"),
    [
        ("revoked", "revokd", 4, "revoked"),
        ("timeout", "timout", 10, "timeout"),
        ("port", "prt", 8, "port"),
        ("fleet", "flete", 2, "fleet"),
    ],
)
def test_a_mistyped_key_is_answered_with_the_right_one(old: str, new: str, line: int, meant: str) -> None:
    error = complaint(GOOD.replace(old, new))
    assert error.message.startswith(f"trust.toml:{line}: unknown key")
    assert new in error.message
    assert f"did you mean {meant}?" in error.hints


def test_a_file_without_servers_or_signers_is_refused() -> None:
    assert "'servers'" in complaint(GOOD[: GOOD.index("[[servers]]")]).message
    assert "'servers'" in complaint("servers = []\n" + GOOD[: GOOD.index("[[servers]]")]).message
    assert "'signers'" in complaint(GOOD.replace(f'["{public(1).line} admin", "{public(2).line}"]', "[]")).message


def test_what_is_no_toml_is_named_by_line() -> None:
    assert complaint("format = 1\nfleet = acme\n").message.startswith("trust.toml:2: not valid TOML")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.toml: No such file"):
        read_trust(tmp_path / "gone.toml")
    (tmp_path / "latin1.toml").write_bytes(b"fleet = \xe9")
    with pytest.raises(InputError, match="not UTF-8"):
        read_trust(tmp_path / "latin1.toml")


@pytest.mark.parametrize("name", ["a", "acme-1.example_x", "0", "A" * 64])
def test_fleet_names_of_plain_characters_are_taken(name: str) -> None:
    assert parse_fleet_name(name) == name


@pytest.mark.parametrize("name", ["", "---", "a b", "a/b", "é", "A" * 65, "a\n", 'a"b', "²"])
def test_other_fleet_names_are_refused(name: str) -> None:
    with pytest.raises(InputError):
        parse_fleet_name(name)


values = st.recursive(
    st.sampled_from(["1", "-1", "true", '""', '"x"', "1.5", "inf", "1979-05-27", "[]", "{}"]),
    lambda inner: st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]"),
    max_leaves=5,
)


@quick
@given(st.sampled_from(["format", "fleet", "signers", "revoked", "servers", "servers.port", "x"]), values)
def test_any_value_in_any_place_gives_an_input_error_or_a_trust(key: str, value: str) -> None:
    lines = [line for line in GOOD.splitlines() if not line.startswith(f"{key} =")]
    said = complaint_of(parse_trust, "\n".join([f"{key} = {value}", *lines]))
    assert said is None or said.startswith("trust.toml")


@quick
@given(st.text(max_size=80) | st.text(alphabet='[]{}="#.\n\r\\ a1', max_size=60))
def test_any_text_gives_nothing_but_an_input_error(text: str) -> None:
    with pytest.raises(InputError):
        parse_trust(text)


@quick
@given(st.binary(max_size=80))
def test_any_bytes_give_nothing_but_an_input_error(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any-trust.toml"
    path.write_bytes(data)
    with pytest.raises(InputError):
        read_trust(path)


@pytest.mark.parametrize("spelling", ["::1", "[::1]", "2001:db8::7", "[2001:db8::7]", "fe80::1%eth0"])
def test_an_ipv6_address_may_stand_in_brackets(spelling: str) -> None:
    (server,) = parse_trust(GOOD.replace("bento.example.org", spelling)).servers
    assert server.address == spelling.strip("[]")
    assert server.where == f"[{server.address}]:2222"


def with_proxy(words: str) -> str:
    return GOOD + f"proxy_command = {words}\n"


def test_a_proxy_command_gets_address_and_port_and_no_shell_reads_it() -> None:
    words = '["corkscrew", "$(x)", "8080", "%h", "[%h]:%p", "a b"]'
    (server,) = parse_trust(with_proxy(words)).servers
    assert server.proxy_argv == ("corkscrew", "$(x)", "8080", "bento.example.org", "[bento.example.org]:2222", "a b")
    (server,) = parse_trust(with_proxy(words).replace("bento.example.org", "fe80::1%p")).servers
    assert server.proxy_argv[3] == "fe80::1%p"  # what is put in is not read again


def test_without_a_proxy_command_there_is_none() -> None:
    assert parse_trust(GOOD).servers[0].proxy_command == ()
    assert parse_trust(with_proxy("[]")).servers[0].proxy_command == ()


@pytest.mark.parametrize(
    "words",
    [
        '"corkscrew proxy 8080 %h %p"',
        '["nc", 22]',
        '["nc", "%n"]',
        '["nc", "100%"]',
        '["nc", "%%h"]',
        '["%h"]',
        '["", "x"]',
        '["nc", "a\\nb"]',
        '["nc", "\\u001b[31m"]',
        str(["x"] * 65).replace("'", '"'),
    ],
)
def test_a_wrong_proxy_command_is_named_by_line_and_key(words: str) -> None:
    error = complaint(with_proxy(words))
    assert error.message.startswith("trust.toml:11: 'servers.proxy_command'")
    assert error.message.isprintable()
    assert error.hints
