"""sops-nix's layout: YAML and JSON files, each value a secret; other files, each one. `sops` itself opens them."""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ed25519

from bento_secrets import armor
from bento_secrets.durable import write_all
from bento_secrets.errors import InputError, OpenFailed
from bento_secrets.identities import Locked, age_identity_of_seed, read_private, read_ssh_private
from bento_secrets.importing import sops_files
from bento_secrets.importing.agenix import walk
from bento_secrets.importing.found import Found, Runner, read_regular
from bento_secrets.importing.limits import IMPORT_LIMITS
from bento_secrets.names import printable
from bento_secrets.sealing import Plaintext

_CONFIG = (".sops.yaml", ".sops.yml")
_CLEAR = "it isn't encrypted in the file"


def find(path: Path) -> tuple[Found, ...]:
    """The values and files below `path` (or in it, if it is a file) that SOPS sealed, by name. Nothing is opened.

    Hidden folders and symlinks are passed over, and so are files that aren't SOPS's.
    """
    if not path.exists():
        raise InputError(f"there is no {path}", "name the folder with your .sops.yaml, or one sealed file")
    root = path.resolve()
    files = [root] if root.is_file() else [parent / name for parent, name in walk(root) if name not in _CONFIG]
    base = root.parent if root.is_file() else root
    found = [one for file in files if not file.is_symlink() for one in _find_in(file, str(file.relative_to(base)))]
    if not found:
        raise InputError(f"{path} holds no file that SOPS sealed", "name the folder with your .sops.yaml, or one file")
    if len(found) > IMPORT_LIMITS.MAX_SECRETS:
        raise InputError(f"{path} holds more than {IMPORT_LIMITS.MAX_SECRETS} secrets", "import folder by folder")
    return tuple(found)


def open_all(
    wanted: Sequence[Found], run: Runner, key_files: Sequence[Path], ask: Callable[[str], str]
) -> list[Plaintext]:
    """The contents in the order of `wanted`, through `sops --decrypt` and a pipe; OpenFailed naming the file.

    With no `key_files`, SOPS finds its keys as it does for its user (SOPS_AGE_KEY_FILE, gpg-agent, …).
    """
    trees: dict[Path, Any] = {}
    with _keys_for_sops(key_files, ask) as (env, descriptors):
        for one in wanted:
            if one.file not in trees:
                trees[one.file] = _decrypt(one, run, env, descriptors)
    return [_value(one, trees[one.file]) for one in wanted]


def _find_in(file: Path, relative: str) -> Iterator[Found]:
    source, name = printable(relative, 200), file.name
    try:
        if not file.is_file():
            return
        if file.stat().st_size > IMPORT_LIMITS.MAX_FILE and sops_files.format_of(name) == "binary":
            return  # larger than SOPS's form of the largest secret: a disk image, an archive
        parsed = sops_files.parse(name, read_regular(file, IMPORT_LIMITS.MAX_FILE))
    except (InputError, OSError) as error:
        yield Found(source, file, name, (), problem=str(error))
        return
    if parsed is None:
        return
    if parsed.names is None:
        yield Found(source, file, name, parsed.keys, problem=parsed.problem)
    for path, sealed in parsed.names or ():
        problem = parsed.problem or (None if sealed else _CLEAR)
        inner = "/".join(path)
        yield Found(f"{source}: {printable(inner)}", file, inner, parsed.keys, path, problem)


def _decrypt(one: Found, run: Runner, env: Mapping[str, str], descriptors: tuple[int, ...]) -> Any:
    as_json = () if one.inner is None else ("--output-type", "json")
    argv = ["sops", "--decrypt", *as_json, str(one.file)]
    out = run(argv, env=env, timeout=IMPORT_LIMITS.DECRYPTION, pass_fds=descriptors)
    if one.inner is None:
        return out
    try:
        # Numbers as SOPS wrote them: Python would read 1e3 and write 1000.0.
        return json.loads(out, parse_int=str, parse_float=str, parse_constant=str)
    except (ValueError, RecursionError):
        raise OpenFailed(f"sops gave no JSON for {one.file}", f"see what it says: sops --decrypt {one.file}") from None


def _value(one: Found, tree: Any) -> Plaintext:
    for part in one.inner or ():
        try:
            tree = tree[int(part)] if isinstance(tree, list) else tree[part]
        except (KeyError, IndexError, TypeError, ValueError):
            raise OpenFailed(f"{one.source} isn't in what sops gave", "did the file change meanwhile?") from None
    if isinstance(tree, bool):
        tree = "true" if tree else "false"
    try:
        content = tree.encode() if isinstance(tree, str) else tree
    except UnicodeEncodeError:
        content = None
    if not isinstance(content, bytes):
        raise OpenFailed(f"{one.source} is no text", "seal it by hand: bento secret add TARGET FILE")
    return Plaintext(content)


@contextmanager
def _keys_for_sops(
    files: Sequence[Path], ask: Callable[[str], str]
) -> Iterator[tuple[dict[str, str], tuple[int, ...]]]:
    """Variables that lead sops to the identities in `files`, and descriptors it has to inherit.

    An ssh-ed25519 key is turned into an age identity, as `ssh-to-age -private-key` does, in a file that is in memory
    only (memfd): neither a disk nor the environment gets to see it.
    """
    texts, ssh = _identities(files, ask)
    env = {} if ssh is None else {"SOPS_AGE_SSH_PRIVATE_KEY_FILE": str(ssh)}
    if not texts:
        yield env, ()
        return
    descriptor = os.memfd_create("identities", os.MFD_CLOEXEC)
    try:
        write_all(descriptor, "".join(f"{text}\n" for text in texts).encode())
        yield env | {"SOPS_AGE_KEY_FILE": f"/proc/self/fd/{descriptor}"}, (descriptor,)
    finally:
        os.close(descriptor)


def _identities(files: Sequence[Path], ask: Callable[[str], str]) -> tuple[list[str], Path | None]:
    texts: list[str] = []
    ssh: Path | None = None
    for path in (file.expanduser().resolve() for file in files):
        content = read_private(path)
        if content.lstrip().startswith(b"-----BEGIN ") and not content.lstrip().startswith(armor.BEGIN):
            try:
                key = read_ssh_private(path, content, None)
                ssh = ssh or path  # for SOPS's own use of SSH keys, which takes one, without a passphrase
            except Locked:
                passphrase = ask(f"passphrase of {path}")
                if not passphrase:
                    raise InputError(
                        f"{path} needs its passphrase, and none was given", "run the command again, and type it"
                    ) from None
                key = read_ssh_private(path, content, passphrase)
            if isinstance(key, ed25519.Ed25519PrivateKey):
                texts.append(age_identity_of_seed(key.private_bytes_raw()))
            continue
        lines = [line.strip() for line in content.decode("utf-8", "replace").splitlines()]
        own = [line for line in lines if line.startswith(("AGE-SECRET-KEY-", "AGE-PLUGIN-"))]
        if not own:
            raise InputError(
                f"{path} holds no identity that sops could use", "give it to sops itself, without --identity"
            )
        texts += own
    return texts, ssh
