"""Hosts that stand just as a deploy left them in order: none of them is packed, built or looked at more closely.

What is compared: in words what a host's release follows from, and how everything stands that a deploy would read of it
(adapters/stamps.py). Where a single part differs, or can't be told, the host takes the long way.
"""

import os
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Final

from bento.adapters import signatures
from bento.adapters.stamps import Part, Sight, Stamps
from bento.adapters.transport import Objects, PublishTarget
from bento.admin.build import Here
from bento.admin.content import Sealed
from bento.admin.inventory import Fleet, Host
from bento.admin.pack import Tree
from bento.admin.publish import Published
from bento.admin.standing import verdict_name
from bento.admin.workspace import Workspace
from bento.errors import BentoError
from bento.models.limits import LIMITS
from bento.models.manifest import ConfigKind, Settings
from bento.models.signed import canonical, sha256
from bento.models.trust import Trust
from bento.names import Digest, HostName, Serial, SystemPath

_TOGETHER: Final = 1024  # hosts asked for at once of a server

Wish = tuple[Host, Tree, Sealed]


class Unchanged:
    """What is remembered of hosts that were in order on all `targets`. All locks must be held.

    `found` are those that still are, `trees` the digests of their trees.
    """

    def __init__(
        self, fleet: Fleet, trust: Trust, targets: Sequence[PublishTarget], workspace: Workspace, stamps: Stamps
    ) -> None:
        self.found: dict[HostName, Published] = {}
        self.trees: dict[HostName, Digest] = {}
        self._fleet = fleet
        self._trust = trust
        self._targets = targets
        self._workspace = workspace
        self._stamps = stamps
        self._memory = workspace.memory()
        self._builds = fleet.file.build.mode == "build"
        self._settings: dict[Settings, Digest] = {}
        self._sights: dict[HostName, Sight] = {}

    def find(self, wishes: Sequence[Wish], here: Here, later: AbstractSet[HostName] = frozenset()) -> None:
        """Find the hosts that are in order as they stand. Reports that are too many go, as on the long way.

        The turn of those `later` comes after a wait, in which others may publish: how they stand now says nothing.
        """
        for name in later:
            self._stamps.keep(_what(name))
        wishes = [one for one in wishes if one[0].name not in later]
        common = {kind: self._common(kind, here) for kind in {tree.kind for _, tree, _ in wishes}}
        for start in range(0, len(wishes), _TOGETHER):
            some = wishes[start : start + _TOGETHER]
            for target in self._targets:
                target.look_ahead(asked_first(some))
            for host, tree, sealed in some:
                # What has to be packed is new, or too young to be known again: then so is what follows from it.
                known = None if tree.packed is None else self._recall(common[tree.kind], host, tree, sealed)
                if tree.packed is not None and known is not None:
                    self.found[host.name] = known
                    self.trees[host.name] = tree.packed[0]

    def remember(
        self, host: HostName, published: Published, built: SystemPath | None, reached: Sequence[PublishTarget]
    ) -> None:
        """The host was found in order on the targets `reached`, if there was nothing to do or to say.

        `built` is what its content gives here. A target that went away meanwhile wasn't looked at: then it isn't known.
        """
        sight = self._sights.get(host)
        idle = published.changed is None and not (published.healed or published.missed or published.warnings)
        if sight is not None and built is not None and idle and tuple(reached) == tuple(self._targets):
            system = [published.system] if published.system else []
            self._stamps.remember(sight, (published.serial, built, int(os.path.exists(built)), *system))  # noqa: PTH110

    def _common(self, kind: ConfigKind, here: Here) -> Digest:
        """What all releases of this kind follow from."""
        keys = [signatures.public_half(key).fingerprint for key in self._fleet.signing_keys]
        signers = [[one.line for one in some] for some in (self._trust.signers, self._trust.revoked)]
        targets = [target.name for target in self._targets]
        return sha256(canonical([self._trust.fleet, signers, keys, targets, self._builds, *here.of(kind)]))

    def _recall(self, common: Digest, host: Host, tree: Tree, sealed: Sealed) -> Published | None:
        """What is published for the host, if it is in order."""
        began = self._stamps.now()
        parts = self._parts(common, host, tree, sealed)
        if parts is None:
            return None
        sight = self._sights[host.name] = self._stamps.sight(_what(host.name), parts, began)
        value = self._stamps.recall(sight)
        if value is None:
            return None
        serial, built, there, *system = value  # channel hosts are published without a system
        if not self._is_built(host.name, SystemPath(str(built)), there):
            return None
        try:
            for target in self._targets:
                target.drop_reports_but(host.name, LIMITS.reports_kept)
        except BentoError:  # the long way names it
            return None
        for target in self._targets:
            self._stamps.keep(verdict_name(target, host.name))  # for a look that isn't taken here
        return Published(Serial(int(serial)), SystemPath(str(system[0])) if system else None, None)

    def _is_built(self, host: HostName, system: SystemPath, there: int | str) -> bool:
        """Whether it stands in the store as it should; only evaluated, as it did: what it declares is read there."""
        return self._workspace.has(host, system) if self._builds else os.path.exists(system) == there  # noqa: PTH110

    def _parts(self, common: Digest, host: Host, tree: Tree, sealed: Sealed) -> list[Part] | None:
        """None where something isn't there."""
        words = [common, str(tree.packed), host.attribute, self._settings_of(host), str(self._memory.last(host.name))]
        if sealed.refs or sealed.templates:
            words.append(sha256(canonical([one.model_dump() for one in (*sealed.refs, *sealed.templates)])))
        parts: list[Part] = [(" ".join(words), None)]
        objects = _objects(tree, sealed) or []
        for target in self._targets:
            its = target.parts(host.name, objects)
            if its is None:
                return None
            parts += its
        return parts

    def _settings_of(self, host: Host) -> Digest:
        """In words; most hosts have the same."""
        found = self._settings.get(host.settings)
        if found is None:
            found = self._settings[host.settings] = sha256(canonical(host.settings.model_dump()))
        return found


def asked_first(wishes: Sequence[Wish]) -> Objects:
    """What a target is asked about before all else."""
    return {host.name: _objects(tree, sealed) for host, tree, sealed in wishes[:_TOGETHER]}


def _what(host: HostName) -> str:
    return f"host {host}"


def _objects(tree: Tree, sealed: Sealed) -> list[Digest] | None:
    """None where what they will be isn't known yet."""
    return None if tree.packed is None else [tree.packed[0], *sealed.ciphertexts]
