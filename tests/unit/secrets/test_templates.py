"""Templates: one way to name a secret, everything else is an error with its line."""

import pytest

from bento_secrets.declared_templates import effective_templates, parse_templates
from bento_secrets.errors import InputError
from bento_secrets.limits import LIMITS
from bento_secrets.names import SecretName
from bento_secrets.templates import parse_template, render

WHERE = "the template app.env"


def rendered(text: str, **contents: bytes) -> bytes:
    return render(parse_template(text, WHERE), {SecretName(name): data for name, data in contents.items()}, WHERE)


def test_secrets_are_put_in_byte_for_byte_but_for_one_line_end() -> None:
    assert rendered("no secrets }} at all {\n") == b"no secrets }} at all {\n"
    assert rendered('a={{ secret "a" }};b={{ secret "b" }}{{ secret "a" }}\n', a=b"1\n", b=b"\xff\x00\n\n") == (
        b"a=1;b=\xff\x00\n1\n"
    )
    # what a secret holds is never looked at again
    assert rendered('{{ secret "a" }}', a=b'{{ secret "b" }}') == b'{{ secret "b" }}'
    assert rendered("ü\n") == "ü\n".encode()


def test_the_names_are_told_once_each() -> None:
    template = parse_template('{{ secret "tls/key" }}{{ secret "a" }}{{ secret "tls/key" }}', WHERE)
    assert template.secrets == ("tls/key", "a")


@pytest.mark.parametrize(
    "wrong",
    [
        "{{",
        "{{ }}",
        '{{secret "a"}}',
        '{{  secret "a" }}',
        "{{ secret 'a' }}",
        "{{ secret a }}",
        '{{ secret "a" | upper }}',
        '{{ secret "a" }',
        '{{ secret "a\n" }}',
        '{{{ secret "a" }}}',
        '{{ secrets "a" }}',
        '{{ secret "" }}',
        '{{ secret "../a" }}',
        '{{ secret "-a" }}',
        "{{ if }}",
    ],
)
def test_anything_else_is_an_error_with_its_line(wrong: str) -> None:
    with pytest.raises(InputError, match=r"the template app.env, line 3: "):
        parse_template(f'one\n{{{{ secret "a" }}}}\n{wrong}\nlast\n', WHERE)


def test_a_missing_secret_and_too_large_a_result_quote_nothing() -> None:
    with pytest.raises(InputError, match="names the secret b, which this host doesn't have"):
        rendered('{{ secret "a" }}{{ secret "b" }}', a=b"hunter2")
    with pytest.raises(InputError, match="too large") as caught:
        rendered('{{ secret "a" }}' * 3, a=b"hunter2" * (LIMITS.MAX_RENDERED // 20))
    assert "hunter2" not in str(caught.value)


def test_text_that_is_no_utf8_is_refused() -> None:
    with pytest.raises(InputError, match="isn't UTF-8"):
        parse_template("\ud800", WHERE)


def table(*lines: str) -> str:
    return "[[template]]\n" + "\n".join(lines) + "\n"


def test_tables_are_read_with_their_attributes_and_secrets_are_left_alone() -> None:
    text = (
        '[[secret]]\nanything = 1\n[[template]]\ntarget = "web"\nname = "app.env"\nowner = "app"\nmode = "440"\n'
        'restart = ["app.service"]\ntext = "x"\n[[template]]\ntarget = "@dc"\nname = "b"\nfile = "templates/b"\n'
    )
    one, two = parse_templates(text)
    declared = one.declaration
    assert (declared.target, declared.name, declared.owner, declared.group) == ("web", "app.env", "app", "root")
    assert (declared.mode, declared.restart, one.text, one.file) == ("0440", ("app.service",), "x", None)
    assert (two.declaration.target, two.text, two.file) == ("@dc", None, "templates/b")
    assert parse_templates("") == ()


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (('target = "web"', 'text = ""'), "has no name"),
        (('target = "web"', 'name = "a"'), "either a text or a file"),
        (('target = "web"', 'name = "a"', 'text = ""', 'file = "b"'), "either a text or a file"),
        (('target = "web"', 'name = "a"', "text = 1"), "text: should be a string"),
        (('target = "web"', 'name = "a"', 'text = ""', 'restart = "a.service"'), "restart: should be a list"),
        (('target = "web"', 'name = "a"', 'text = ""', 'ownr = "x"'), "unknown key 'ownr'"),
        (('target = "web"', 'name = "../a"', 'text = ""'), "no secret name"),
        (('target = "web"', 'name = "a"', 'text = ""', 'mode = "0755"'), "executable"),
        (('target = "web"', 'name = "a"', 'file = "/etc/shadow"'), "no path below the fleet folder"),
        (('target = "web"', 'name = "a"', 'file = "../x"'), "no path below the fleet folder"),
    ],
)
def test_what_is_wrong_in_a_table_is_said_with_its_number(lines: tuple[str, ...], said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        parse_templates(table('target = "web"', 'name = "first"', 'text = ""') + table(*lines))
    assert "[[template]] number 2" in str(caught.value)


def test_one_name_twice_for_a_target_and_a_list_that_is_none_are_refused() -> None:
    with pytest.raises(InputError, match="stands twice"):
        parse_templates(table('target = "web"', 'name = "a"', 'text = ""') * 2)
    for text in ("template = 1\n", "template = [1]\n", "[template\n"):
        with pytest.raises(InputError):
            parse_templates(text)


def test_a_hosts_own_template_beats_its_tags(member) -> None:  # type: ignore[no-untyped-def]
    text = "".join(
        table(f'target = "{target}"', 'name = "a"', f'text = "{target}"') for target in ("@dc", "web")
    ) + table('target = "@dc"', 'name = "b"', 'text = ""')
    found = effective_templates(parse_templates(text), [member("web", "dc"), member("db", "dc"), member("alone")])
    assert {host: [(one.declaration.name, one.text) for one in ones] for host, ones in found.items()} == {
        "web": [("a", "web"), ("b", "")],
        "db": [("a", "@dc"), ("b", "")],
        "alone": [],
    }
    with pytest.raises(InputError, match="template a is for @dc, and no host has that tag"):
        effective_templates(parse_templates(text), [member("web")])
