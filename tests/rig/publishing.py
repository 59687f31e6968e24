"""One host's release, published as a deploy publishes those of many."""

from collections.abc import Sequence
from pathlib import Path

from bento.adapters.transport import PublishTarget
from bento.admin.content import Content
from bento.admin.look import BeforeSigning, look_at
from bento.admin.memory import Memory
from bento.admin.publish import Published, bring, drafted, sign
from bento.admin.shares import Shares
from bento.errors import BentoError
from bento.models.trust import Trust


def publish(
    targets: Sequence[PublishTarget],
    content: Content,
    trust: Trust,
    keys: tuple[Path, ...],
    now: int,
    memory: Memory,
    shares: Shares,
    before_signing: BeforeSigning = lambda _: None,
) -> Published:
    """Look at the targets, and bring them what they lack."""
    draft = drafted(look_at(targets, content, trust, now, memory), trust, keys, now, before_signing)
    (document,) = sign([draft])
    if isinstance(document, BentoError):
        raise document
    if not draft.seen.current:
        memory.will_publish({content.host: draft.manifest.serial})
    try:
        return bring(draft, document, now, memory, shares)
    finally:
        memory.keep()
