"""What publish.to may say: a folder, sftp://user@server/folder, or a list of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.samples import complaint_of, public, quick

from bento.errors import InputError
from bento.models.fleet import FleetFile, parse_fleet
from bento.models.strict import Source
from bento.models.targets import ServerKey, SftpPlace, parse_target


def fleet(text: str) -> FleetFile:
    return parse_fleet(Source("bento.toml", text))


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("sftp://bento@server.example.org/home/chroot", SftpPlace("bento", "server.example.org", 22, "/home/chroot")),
        ("sftp://bento@192.0.2.1:2222/srv/", SftpPlace("bento", "192.0.2.1", 2222, "/srv")),
        ("sftp://b@[2001:db8::1]:22/x", SftpPlace("b", "2001:db8::1", 22, "/x")),
        ("sftp://bento@server/", SftpPlace("bento", "server", 22, "/")),
        ("sftp://bento@server//home//chroot", SftpPlace("bento", "server", 22, "/home/chroot")),
        ("sftp://bento@server/with%20space", SftpPlace("bento", "server", 22, "/with space")),
    ],
)
def test_a_url_says_user_server_port_and_folder(text: str, place: SftpPlace) -> None:
    assert parse_target(text) == place
    assert parse_target(str(place).replace(" ", "%20")) == place


@pytest.mark.parametrize("text", ["/home/chroot", "~/publish", "publish", "C:x", "a b"])
def test_anything_without_a_scheme_is_a_folder(text: str) -> None:
    assert parse_target(text) == text


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("sftp://server/home", "names no user"),
        ("sftp://@server/home", "names no user"),
        ("sftp://bento@/home", "names no server"),
        ("sftp://bento@server", "no folder"),
        ("sftp://bento:secret@server/home", "password"),
        ("sftp://bento:@server/home", "password"),
        ("sftp://bento:secret@server:x/home", "no URL"),
        ("https://bento:secret@server/home", "folder or to sftp"),
        ("sftp://:secret@server/home", "password"),
        ("sftp://-oProxyCommand=x@server/home", "no user's name"),
        ("sftp://b\x1b@server/home", "no user"),
        ("sftp://bento@server:0/home", "no URL"),
        ("sftp://bento@server:99999/home", "no URL"),
        ("sftp://bento@server:x/home", "no URL"),
        ("sftp://bento@[::1/home", "no URL"),
        ("sftp://bento@server/home?x", "no URL"),
        ("sftp://bento@server/home#x", "no URL"),
        ("sftp://bento@server/a%00b", "no folder"),
        ("sftp://bento@ser ver/home", "no host name"),
        ("ssh://bento@server/home", "folder or to sftp"),
        ("https://server/home", "folder or to sftp"),
        ("", "empty"),
    ],
)
def test_a_wrong_url_is_said_without_its_password(text: str, why: str) -> None:
    with pytest.raises(InputError) as error:
        parse_target(text)
    assert why in error.value.message
    assert error.value.hints
    assert "secret" not in error.value.message
    assert error.value.message.isprintable()


@quick
@given(st.text())
def test_no_text_breaks_the_parser(text: str) -> None:
    for one in (text, f"sftp://{text}", f"sftp://u@{text}", f"sftp://u@h/{text}"):
        if complaint_of(parse_target, one) is None and isinstance(place := parse_target(one), SftpPlace):
            assert place.path.startswith("/")
            assert "\0" not in place.path


def test_several_targets_are_mirrors_in_the_file_s_order() -> None:
    two = fleet('[publish]\nto = ["/srv/chroot", "sftp://b@server/srv"]\n').publish.to
    assert two == ("/srv/chroot", SftpPlace("b", "server", 22, "/srv"))


@pytest.mark.parametrize(
    "value", ["[]", "[3]", "3", "true", '["/a", "/a"]', '["sftp://b@h/x", "sftp://b@h:22/x"]', '["/a", "sftp://h/x"]']
)
def test_a_wrong_list_is_named_by_line_and_key(value: str) -> None:
    with pytest.raises(InputError) as error:
        fleet(f"[publish]\nto = {value}\n")
    assert error.value.message.startswith("bento.toml:2: 'publish.to' is wrong: ")
    assert error.value.hints


def test_pinned_keys_are_parsed_with_the_file() -> None:
    table = fleet(f'[publish]\nto = "sftp://b@h/x"\nhost_keys = ["{public(1).line}"]\nidentity = "~/k"\n').publish
    assert table.host_keys == (ServerKey(public(1)),)
    assert table.identity == "~/k"
    with pytest.raises(InputError, match=r"bento\.toml:2: 'publish\.host_keys"):
        fleet('[publish]\nhost_keys = ["ssh-ed25519 AAAA"]\n')


@pytest.mark.parametrize(
    ("before", "place"),
    [
        ("bento.example.org", ("bento.example.org", 22)),
        ("[Bento.example.org]:2222", ("bento.example.org", 2222)),
        ("[::1]:2222", ("::1", 2222)),
        ("::1", ("::1", 22)),
    ],
)
def test_a_key_with_an_address_before_it_as_in_known_hosts_is_pinned_for_that_port_alone(
    before: str, place: tuple[str, int]
) -> None:
    (key,) = fleet(f'[publish]\nhost_keys = ["{before} {public(1).line}"]\n').publish.host_keys
    assert key.key == public(1)
    assert key.is_for(*place)
    assert not key.is_for(place[0], place[1] + 1)
    assert not key.is_for("other.example.org", place[1])


@pytest.mark.parametrize("before", ["[::1]:0", "[::1]:99999", "[::1", "a b", "::1:22:x", "-o", "[]:22"])
def test_a_key_with_no_address_before_it_is_refused(before: str) -> None:
    with pytest.raises(InputError, match=r"bento\.toml:2: 'publish\.host_keys"):
        fleet(f'[publish]\nhost_keys = ["{before} {public(1).line}"]\n')


@pytest.mark.parametrize("to", ["sftp://b@::1/x", "sftp://b@2001:db8::7/x", "sftp://b@::1:22/x"])
def test_an_ipv6_address_without_brackets_is_told_where_they_go(to: str) -> None:
    with pytest.raises(InputError) as error:
        parse_target(to)
    assert "[2001:db8::7]:22" in error.value.hints[0]


def test_the_proxy_command_is_a_list_of_words() -> None:
    words = '["ssh", "-W", "[%h]:%p", "gateway"]'
    assert fleet(f"[publish]\nproxy_command = {words}\n").publish.proxy_command == ("ssh", "-W", "[%h]:%p", "gateway")
    for wrong in ('"ssh -W %h:%p gateway"', '["ssh", 22]', '["nc", "%n"]', "[[]]"):
        with pytest.raises(InputError, match=r"bento\.toml:2: 'publish\.proxy_command"):
            fleet(f"[publish]\nproxy_command = {wrong}\n")
