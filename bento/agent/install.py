"""Open a release's secrets into a generation on tmpfs, render its templates there, and flip between generations.

What a release says is `for users` is a generation of its own, beside the other: it is live before there are users.

The manifest of the release that is live may be lost (docs/decisions/0031). Then its generation, as it was opened, is
all that is known of it: enough to go back to it, and no reason to keep this host from another release.
"""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bento.adapters.files import read_capped
from bento.adapters.systemd import Units
from bento.agent.host import Host
from bento.errors import BentoError, WorkFailed
from bento.models.limits import LIMITS
from bento.models.signed import canonical, sha256
from bento.names import Digest, SecretName, Serial, listed
from bento_secrets.runtime import Installed, Runtime, Unowned
from bento_secrets.templates import parse_template, render

_SHOWN = 3  # identities and further secrets that an error lists

if TYPE_CHECKING:  # pydantic stays out of the agent's poll path (docs/decisions/0002)
    from bento.models.manifest import Manifest, SecretRef, TemplateRef
    from bento_secrets.identities import Identity
    from bento_secrets.sealing import Plaintext


def stored_manifest(host: Host, serial: Serial) -> "Manifest":
    """A release that this host accepted, and verified then; signers may have changed since. Raises Damaged."""
    from bento.models.manifest import parse_manifest

    return parse_manifest(host.state.manifest_line(serial))


def installed(manifest: "Manifest") -> tuple[Installed, ...]:
    """The release's secrets and templates as they stand in `secrets/`, once there are users."""
    secrets = {secret.name: secret.digest for secret in manifest.secrets}
    return (
        *(_installed(secret, secret.digest) for secret in manifest.secrets if not secret.users),
        *(_installed(template, _digest(template, secrets)) for template in manifest.templates),
    )


def installed_for_users(manifest: "Manifest") -> tuple[Installed, ...]:
    """The release's secrets as they stand in `secrets-for-users/`."""
    return tuple(_installed(secret, secret.digest) for secret in manifest.secrets if secret.users)


def _installed(one: "SecretRef | TemplateRef", digest: Digest) -> Installed:
    return Installed(
        name=one.name,
        owner=one.owner,
        group=one.group,
        mode=one.mode,
        path=one.path,
        restart=one.restart,
        reload=one.reload,
        digest=digest,
    )


def _digest(template: "TemplateRef", secrets: dict[SecretName, Digest]) -> Digest:
    """Of all that the rendered text follows from."""
    names = parse_template(template.text, f"the template {template.name}").secrets
    return sha256(canonical([template.text, [secrets[name] for name in names]]))


def open_generation(host: Host, manifest: "Manifest") -> None:
    """Open every secret of a release into its generations, all or nothing; live links stay. Raises WorkFailed."""
    opened = _open_all(host, manifest, manifest.secrets)
    rendered = opened | _render_all(manifest, opened)
    with host.changing:
        _write_for_users(host, manifest, opened)
        host.runtime.write_generation(manifest.serial, [(one, rendered[one.name]) for one in installed(manifest)])


def open_for_users(host: Host, manifest: "Manifest") -> None:
    """Open what must be there before users, and nothing else: one that is wrong elsewhere must lock nobody out."""
    opened = _open_all(host, manifest, [secret for secret in manifest.secrets if secret.users])
    with host.changing:
        _write_for_users(host, manifest, opened)


def _write_for_users(host: Host, manifest: "Manifest", opened: "dict[SecretName, Plaintext]") -> None:
    wanted = installed_for_users(manifest)
    if wanted:
        host.for_users.write_generation(manifest.serial, [(one, opened[one.name]) for one in wanted])


def _open_all(host: Host, manifest: "Manifest", secrets: "Sequence[SecretRef]") -> "dict[SecretName, Plaintext]":
    """All of `secrets`, or WorkFailed, which names those that don't open, whom they are for, and who tried."""
    from bento_secrets.sealing import open_sealed

    if not secrets:
        return {}
    identities = _identities(host)
    opened: dict[SecretName, Plaintext] = {}
    failed: dict[SecretName, tuple[str, BentoError]] = {}
    for secret in secrets:
        data = read_capped(host.state.objects / secret.digest, LIMITS.ciphertext, f"the sealed secret {secret.name}")
        if data is None or sha256(data) != secret.digest:
            raise WorkFailed(
                f"the sealed secret {secret.name} isn't stored here whole",
                "the next poll fetches it again: bento-agent run",
            )
        try:
            opened[secret.name] = open_sealed(data, [identity for _, identity in identities])
        except BentoError as error:
            failed[secret.name] = (secret.recipient, error)
    if failed:
        (first, (recipient, why)), *others = failed.items()
        tried = listed([f"{_short(identity.recipient.text)} ({path})" for path, identity in identities], _SHOWN)
        also = f"; nor {listed([name for name, _ in others], _SHOWN)}" if others else ""
        raise WorkFailed(
            f"can't open the secret {first} of release {manifest.serial}: {why.message}; it is sealed to "
            f"{_short(recipient)}, tried were {tried}{also}",
            *why.hints,
        )
    return opened


def _identities(host: Host) -> "list[tuple[Path, Identity]]":
    """Those of the settings that can be read: any may open, so that a host key can rotate. Raises WorkFailed."""
    from bento_secrets.identities import load_ssh_identity

    found: list[tuple[Path, Identity]] = []
    troubles: list[BentoError] = []
    for path in host.settings.identities:
        try:
            found.append((path, load_ssh_identity(path)))
        except BentoError as error:
            troubles.append(error)
            host.say(error.message)
    if not found:
        raise WorkFailed(f"no identity to open secrets with: {troubles[0].message}", *troubles[0].hints)
    return found


def _short(recipient: str) -> str:
    """An X25519 recipient whole; an RSA one by its end, which tells two apart."""
    return recipient if recipient.startswith("age1") else f"ssh-rsa …{recipient[-16:]}"


def _render_all(manifest: "Manifest", opened: "dict[SecretName, Plaintext]") -> "dict[SecretName, Plaintext]":
    from bento_secrets.sealing import Plaintext

    contents = {name: plaintext.data for name, plaintext in opened.items()}
    rendered: dict[SecretName, Plaintext] = {}
    for one in manifest.templates:
        where = f"the template {one.name}"
        try:
            rendered[one.name] = Plaintext(render(parse_template(one.text, where), contents, where))
        except BentoError as error:
            raise WorkFailed(error.message, *error.hints) from None
    return rendered


def has_generation(host: Host, manifest: "Manifest") -> bool:
    """Whether all of the release is on the tmpfs."""
    users = bool(installed_for_users(manifest))
    return host.runtime.has(manifest.serial) and (not users or host.for_users.has(manifest.serial))


def known_manifest(host: Host, serial: Serial | None) -> "Manifest | None":
    """`stored_manifest` for what must go on all the same: None where it is gone or damaged."""
    try:
        return None if serial is None else stored_manifest(host, serial)
    except BentoError as error:
        host.say(error.message)
        return None


def live_manifest(host: Host) -> "Manifest | None":
    """The release whose secrets are live; None without any, or where its manifest is gone."""
    serial = host.runtime.live()
    return None if serial is None else known_manifest(host, Serial(serial))


def is_lost(host: Host, serial: Serial | None) -> bool:
    """Whether a release's manifest is gone or damaged."""
    return serial is not None and known_manifest(host, serial) is None


def to_go_back_to(host: Host, serial: Serial | None) -> Serial | None:
    """An earlier release with its generation on the tmpfs. Raises WorkFailed where it can't be opened.

    None where its manifest is lost, and the generation too: what runs then gets no secrets rather than another
    release's.
    """
    manifest = known_manifest(host, serial)
    if manifest is None:
        return serial if serial is not None and host.runtime.has(serial) else None
    if not has_generation(host, manifest):
        open_generation(host, manifest)
    return serial


def is_live(host: Host, serial: Serial | None) -> bool:
    """Whether both links are right for a release; None is "no release"."""
    return host.runtime.live() == serial and host.for_users.live() == _serial_for_users(host, serial)


def _serial_for_users(host: Host, serial: Serial | None) -> Serial | None:
    if serial is None:
        return None
    manifest = known_manifest(host, serial)
    some = host.for_users.has(serial) if manifest is None else bool(installed_for_users(manifest))
    return serial if some else None


def flip(host: Host, serial: Serial | None) -> None:
    """Make a generation live, as far as possible with its owners; None makes none live. It must be on the tmpfs.

    Links elsewhere are another matter (`link`): they can be refused, and then this must not be half done.
    """
    with host.changing:
        flip_for_users(host, serial)
        if serial is not None:
            host.runtime.set_owners(serial, _wanted(host, serial))
        host.runtime.flip(serial)


def _wanted(host: Host, serial: Serial | None) -> tuple[Installed, ...]:
    """Of a release that is lost nothing: its files have their owners from when it was installed."""
    manifest = known_manifest(host, serial)
    return () if manifest is None else installed(manifest)


def check_links(host: Host, serial: Serial) -> None:
    """Raise LinkRefused where somebody else's file stands in a link's place: asked before anything is changed."""
    from bento_secrets import links

    links.check_links(host.runtime.root, installed(stored_manifest(host, serial)), host.state.links())


def link(host: Host, serial: Serial | None, over: Serial | None = None) -> None:
    """Make the release's links elsewhere, and remove those it hasn't. Raises LinkRefused, mostly with nothing done.

    Those of the release `over`, if it is lost, stay: they couldn't be made again on the way back.
    """
    _link(host, _wanted(host, serial), frozenset(host.state.links()) if is_lost(host, over) else frozenset())


def link_leniently(host: Host, serial: Serial | None) -> tuple[str, ...]:
    """`link`, but without those that are refused, which are returned as sentences: for going back and for booting."""
    from bento_secrets import links

    if is_lost(host, serial):
        return (f"the links of release {serial} are left as they are: its manifest is lost",)
    before = host.state.links()
    able: list[Installed] = []
    refused: dict[str, str] = {}
    for one in _wanted(host, serial):
        try:
            links.check_links(host.runtime.root, [one], before)
        except BentoError as error:
            refused[str(one.path)] = error.message
        else:
            able.append(one)
    try:
        _link(host, able, frozenset(refused))
    except BentoError as error:  # somebody was quick
        return (*refused.values(), error.message)
    return tuple(refused.values())


def _link(host: Host, wanted: Sequence[Installed], refused: frozenset[str]) -> None:
    """Links lie on disks and outlive the tmpfs: what was ever made is written down before it is."""
    from bento_secrets.links import apply_links, link_paths

    with host.changing:
        before, now = host.state.links(), link_paths(wanted)
        host.state.write_links({*before, *now})
        apply_links(host.runtime.root, wanted, [path for path in before if path not in refused])
        host.state.write_links({*now, *(path for path in before if path in refused)})


def flip_for_users(host: Host, serial: Serial | None) -> None:
    """Make the release's secrets for users live; a release without any takes the link away."""
    with host.changing:
        host.for_users.flip(_serial_for_users(host, serial))


def settle_owners(host: Host, serial: Serial) -> tuple[Unowned, ...]:
    """Set owners once more, now that the system that brings its users is active; still missing ones are returned."""
    with host.changing:
        return host.runtime.set_owners(serial, _wanted(host, serial))


def prune_generations(host: Host, keep: Collection[int]) -> None:
    """Remove all opened secrets but those of `keep` and the live ones."""
    with host.changing:
        for runtime in (host.runtime, host.for_users):
            runtime.prune(keep)


def changed_units(host: Host, before: Serial | None, after: Serial | None) -> Units:
    """The units of secrets that came, or whose content, owner, group or mode changed.

    Nothing where no secrets were live: what runs then has started without them. A removal restarts nothing either.
    Where one of the two releases is lost, all that the other names counts as changed.
    """
    if before is None or after is None:
        return Units()
    changed = _changed(host, before, after)
    restart = tuple(dict.fromkeys(unit for item in changed for unit in item.restart))
    reload = tuple(dict.fromkeys(unit for item in changed for unit in item.reload if unit not in restart))
    return Units(restart, reload)


def users_changed(host: Host, before: Serial | None, after: Serial | None) -> bool:
    """Whether a secret for users came, went or changed: only activation gives users their passwords."""
    if is_lost(host, before) or is_lost(host, after):
        return any(serial is not None and host.for_users.has(serial) for serial in (before, after))
    old = () if before is None else installed_for_users(stored_manifest(host, before))
    new = () if after is None else installed_for_users(stored_manifest(host, after))
    if before is None or after is None or {item.name for item in old} != {item.name for item in new}:
        return bool(old or new)
    return bool(_changed_in(host.for_users, before, after, old, new))


def _changed(host: Host, before: Serial, after: Serial) -> list[Installed]:
    old, new = known_manifest(host, before), known_manifest(host, after)
    if old is None or new is None:
        known = old or new
        return [] if known is None else [*installed_for_users(known), *installed(known)]
    return [
        *_changed_in(host.for_users, before, after, installed_for_users(old), installed_for_users(new)),
        *_changed_in(host.runtime, before, after, installed(old), installed(new)),
    ]


def _changed_in(
    runtime: Runtime, before: Serial, after: Serial, old: Sequence[Installed], new: Sequence[Installed]
) -> list[Installed]:
    """Those of `new` that weren't there, or were another. Sealed anew with the same content is no change."""
    known = {item.name: item for item in old}
    changed = []
    for item in new:
        was = known.get(item.name)
        same = (
            was is not None
            and (item.owner, item.group, item.mode) == (was.owner, was.group, was.mode)
            and (item.digest == was.digest or runtime.same_content(before, after, item.name) is True)
        )
        if not same:
            changed.append(item)
    return changed
