"""Where a host's NixOS configuration and its release both speak of a secret: which holds, and when they differ."""

from collections.abc import Collection, Sequence

from bento.errors import InputError, Refused
from bento.models.declaration import DeclaredFile, HostDeclaration, template_refs
from bento.models.manifest import SecretRef, TemplateRef
from bento.names import HostName, SecretName, did_you_mean

# What secrets.toml says of a secret of which it says nothing.
_UNSAID = {"owner": "root", "group": "root", "mode": "0400", "path": None, "restart": (), "reload": (), "users": False}
_NIX_NAMES = {"path": "link", "restart": "restartUnits", "reload": "reloadUnits", "users": "neededForUsers"}


def fill(
    host: HostName,
    declaration: HostDeclaration,
    secrets: Sequence[SecretRef],
    templates: Sequence[TemplateRef],
) -> tuple[tuple[SecretRef, ...], tuple[TemplateRef, ...]]:
    """What the host is to get, with owner, mode, link and units as its configuration declares them.

    `secrets` and `templates` are as secrets.toml declares them; those that only stand there stay so.
    Raises InputError for a secret that the secret store lacks, and where both places speak and differ.
    """
    declared = {one.name: one for one in declaration.secrets}
    _refuse_absent(host, declared.keys(), [one.name for one in secrets])
    filled = []
    for secret in secrets:
        own = declared.get(secret.name)
        if own is not None:
            _refuse_difference(host, own, secret)
            secret = SecretRef(**{**secret.model_dump(), **own.model_dump()})  # noqa: PLW2901 — the same one, filled
        filled.append(secret)
    texts = {one.name: one for one in template_refs(declaration)}
    for template in templates:
        other = texts.get(template.name)
        if other is not None and other != template:
            raise InputError(
                f"secrets/secrets.toml and the configuration of {host} both declare the template {template.name}, and "
                "differ",
                f"remove one of them: the [[template]], or bento.secrets.{_quoted(template.name)}",
            )
    rest = tuple(one for one in templates if one.name not in texts)
    return tuple(filled), tuple(sorted((*rest, *texts.values()), key=lambda one: one.name))


def check_satisfied(
    declaration: HostDeclaration, secrets: Sequence[SecretRef], templates: Sequence[TemplateRef]
) -> None:
    """Refused, naming the secret, unless the release brings all that the system declares, as it declares it."""
    given: dict[tuple[bool, SecretName], SecretRef | TemplateRef] = {(False, one.name): one for one in secrets}
    given |= {(True, one.name): one for one in templates}
    wanted: list[tuple[bool, DeclaredFile]] = [(False, one) for one in declaration.secrets]
    wanted += [(True, one) for one in declaration.templates]
    for is_template, one in wanted:
        noun = "template" if is_template else "secret"
        found = given.get((is_template, one.name))
        if found is None:
            raise Refused(f"the system declares the {noun} {one.name}, which the release doesn't bring")
        for key, value in one.model_dump().items():
            if getattr(found, key) != value:
                raise Refused(f"the system declares another {key} for the {noun} {one.name} than the release brings")


def _refuse_absent(host: HostName, declared: Collection[SecretName], there: list[SecretName]) -> None:
    absent = sorted(set(declared) - set(there))
    if absent:
        first = absent[0]
        also = f" (and {', '.join(absent[1:])})" if absent[1:] else ""
        raise InputError(
            f"the configuration of {host} declares the secret {first}{also}, which the secret store lacks",
            *did_you_mean(first, there),
            f"add it: bento secret add {host} FILE --name {first}",
        )


def _refuse_difference(host: HostName, own: DeclaredFile, secret: SecretRef) -> None:
    for key, unsaid in _UNSAID.items():
        there, here = getattr(secret, key), getattr(own, key)
        if there not in (unsaid, here):
            option = f"bento.secrets.{_quoted(own.name)}.{_NIX_NAMES.get(key, key)}"
            raise InputError(
                f"the secret {own.name} of {host}: secrets/secrets.toml says {key} = {_shown(there)}, its "
                f"configuration says {option} = {_shown(here)}",
                "say it in one place: take it out of secrets/secrets.toml, or make both the same",
            )


def _quoted(name: SecretName) -> str:
    return f'"{name}"'


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_shown, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    return "null" if value is None else f'"{value}"'
