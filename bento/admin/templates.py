"""The fleet's templates: read from secrets.toml and the files it names, and told to each host in its manifest."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from bento.admin.inventory import Fleet
from bento.errors import InputError
from bento.models.limits import LIMITS
from bento.models.manifest import TemplateRef
from bento.names import HostName
from bento_secrets import durable
from bento_secrets.declared_templates import DeclaredTemplate, effective_templates, parse_templates
from bento_secrets.limits import LIMITS as STORE_LIMITS
from bento_secrets.templates import parse_template


def declared_templates(fleet: Fleet) -> Mapping[HostName, tuple[DeclaredTemplate, ...]]:
    """Each host's templates, as secrets.toml declares them. Raises InputError."""
    text = _read(fleet.root / "secrets", "secrets.toml", STORE_LIMITS.MAX_SECRETS_TOML)
    return effective_templates(parse_templates(text or ""), fleet.members)


def template_refs(fleet: Fleet, templates: Sequence[DeclaredTemplate]) -> tuple[TemplateRef, ...]:
    """One host's templates for its manifest, their texts read. Raises InputError naming file and line."""
    refs: list[TemplateRef] = []
    for one in templates:
        text, where = one.text, f"the template {one.declaration.name}"
        if one.file is not None:
            text, where = _read(fleet.root, one.file, LIMITS.template * 4), one.file
        if text is None:
            raise InputError(
                f"the template {one.declaration.name} has no file {one.file} in the fleet folder",
                "write it, or name another file in secrets/secrets.toml",
            )
        if len(text) > LIMITS.template:
            raise InputError(
                f"{where} is too large for a template: at most {LIMITS.template} characters",
                "make it shorter, or divide it into two",
            )
        parse_template(text, where)
        declared = one.declaration
        refs.append(
            TemplateRef(
                name=declared.name,
                text=text,
                owner=declared.owner,
                group=declared.group,
                mode=declared.mode,
                path=declared.path,
                restart=declared.restart,
                reload=declared.reload,
            )
        )
    if len(refs) > LIMITS.templates:
        raise InputError(
            f"a host takes {LIMITS.templates} templates, and these are {len(refs)}",
            "leave some out in secrets/secrets.toml, or merge them",
        )
    return tuple(refs)


def _read(top: Path, path: str, limit: int) -> str | None:
    """A file below `top`, no symlink followed: deploy may run as root, and what it reads here is published."""
    *folders, name = path.split("/")
    try:
        with durable.folder(top) as root, durable.folder_at(root, tuple(folders)) as folder:
            data = durable.read_at(folder, name, limit)
            return None if data is None else data[: limit + 1].decode()
    except FileNotFoundError:
        return None
    except OSError as error:
        why = (error.strerror or "unknown error").lower()
        raise InputError(f"{path} can't be read: {why}", "name a file, not a symlink, below the fleet folder") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} isn't UTF-8", f"see what it is: file {path}") from None
