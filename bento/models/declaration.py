"""`TOPLEVEL/bento/secrets.json`: the secrets that a host's NixOS configuration declares (nix/agent.nix renders it)."""

import json
from typing import Annotated, Literal

from pydantic import Field, ValidationError
from pydantic_core import ErrorDetails

from bento.errors import InputError
from bento.models.fields import AccountField, Frozen, LinkField, ModeField, SecretField, UnitsField
from bento.models.limits import LIMITS
from bento.models.manifest import SecretRef, TemplateRef, check_contents
from bento.models.signed import sha256
from bento.names import printable
from bento_secrets.templates import parse_template


class DeclaredFile(Frozen):
    """How a secret or a template stands on the host. `path` is where a link to it should be."""

    name: SecretField
    owner: AccountField
    group: AccountField
    mode: ModeField
    path: LinkField | None
    restart: UnitsField
    reload: UnitsField


class DeclaredSecret(DeclaredFile):
    """A secret. What it holds stands in no configuration."""

    users: bool


class DeclaredTemplate(DeclaredFile):
    """A text that names secrets, and is filled in on the host."""

    text: Annotated[str, Field(max_length=LIMITS.template)]


class HostDeclaration(Frozen):
    """The whole file."""

    format: Literal[1]
    secrets: Annotated[tuple[DeclaredSecret, ...], Field(max_length=LIMITS.secrets)]
    templates: Annotated[tuple[DeclaredTemplate, ...], Field(max_length=LIMITS.templates)]


def parse_declaration(data: bytes, where: str) -> HostDeclaration:
    """The declaration in `data`; InputError naming `where` and the secret for one that no host could install.

    A template may name secrets that only secrets.toml declares, so which there are is asked when a release is made.
    """
    try:
        found = HostDeclaration.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        message, hints = _cause(first)
        raise InputError(f"{where}: {_place(data, first['loc'])}: {message}", *hints) from None
    try:
        templates = template_refs(found)
        for one in templates:
            parse_template(one.text, f"the template {one.name}")
        check_contents(_stand_ins(found), [one.model_copy(update={"text": ""}) for one in templates])
    except InputError as error:
        raise InputError(f"{where}: {error.message}", *error.hints) from None
    return found


def template_refs(declaration: HostDeclaration) -> tuple[TemplateRef, ...]:
    """The declared templates as a manifest holds them."""
    return tuple(TemplateRef(**one.model_dump()) for one in declaration.templates)


def _stand_ins(declaration: HostDeclaration) -> tuple[SecretRef, ...]:
    """The declared secrets as if they were sealed: the manifest's own rules about names and links are asked of them."""
    nothing = sha256(b"")
    return tuple(SecretRef(**one.model_dump(), digest=nothing, size=1, recipient="") for one in declaration.secrets)


def _place(data: bytes, loc: tuple[int | str, ...]) -> str:
    """`secrets.3.mode` says little; the secret's name says it."""
    shown = printable(".".join(str(part) for part in loc)) or "document"
    if len(loc) > 1 and isinstance(loc[1], int):
        one = json.loads(data)[loc[0]][loc[1]]
        if isinstance(one, dict) and isinstance(one.get("name"), str):
            return f"'{printable(one['name'])}', {'.'.join(str(part) for part in loc[2:]) or 'the whole'}"
    return shown


def _cause(error: ErrorDetails) -> tuple[str, tuple[str, ...]]:
    """What is wrong, and hints."""
    cause = error.get("ctx", {}).get("error")
    return (cause.message, cause.hints) if isinstance(cause, InputError) else (printable(error["msg"]), ())
