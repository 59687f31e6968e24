"""Change several files of a folder, all or none, whenever the process or the power is cut.

New contents are written to `.staged/0`, `.staged/1`, … and then `.staged/plan` says where each belongs, and which files
go. The rename that puts the plan in place is the commit: without it the left-over is dropped, with it the work is
finished. Readers that find a plan look through it, so from the commit on they see the new state, though they never
write.
"""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import PurePosixPath

from bento_secrets import durable
from bento_secrets.errors import StoreFailed

STAGED = ".staged"
_PLAN = "plan"
_PLAN_LIMIT = 8 * 1024 * 1024  # bytes: 50,000 destinations
_FOLDER_MODE = 0o755
_FILE_MODE = 0o644

Plan = dict[str, str | None]  # destination, relative to the folder -> name below .staged; None: the file goes


def commit(folder_fd: int, files: Mapping[str, bytes | None]) -> None:
    """Write `files` (path relative to the folder -> content, or None to remove it), all or none.

    No left-over may be there: settle first.
    """
    plan: Plan = {}
    try:
        with durable.folder_at(folder_fd, (STAGED,), make=_FOLDER_MODE) as staged_fd:
            for number, (path, content) in enumerate(sorted(files.items())):
                if content is None:
                    plan[path] = None
                    continue
                durable.write_new_at(staged_fd, str(number), content, _FILE_MODE)
                plan[path] = str(number)
            os.fsync(staged_fd)
            text = json.dumps({"format": 1, "files": plan})
            durable.write_atomic_at(staged_fd, _PLAN, text.encode(), _FILE_MODE)
    except BaseException:
        # Tidy for whoever looks; the next writer would drop it too. The first error is the one to tell.
        with suppress(OSError, StoreFailed):
            if read_plan(folder_fd) is None:
                _remove(folder_fd)
        raise
    _finish(folder_fd, plan)


def settle(folder_fd: int) -> None:
    """Finish a committed left-over, drop any other."""
    plan = read_plan(folder_fd)
    if plan is not None:
        _finish(folder_fd, plan)
    else:
        _remove(folder_fd)


def read_plan(folder_fd: int) -> Plan | None:
    """The committed left-over's plan, if there is one."""
    try:
        with durable.folder_at(folder_fd, (STAGED,)) as staged_fd:
            content = durable.read_at(staged_fd, _PLAN, _PLAN_LIMIT)
    except FileNotFoundError:
        return None
    return None if content is None else _parse_plan(content)


def read(folder_fd: int, path: str, limit: int, plan: Plan | None) -> bytes | None:
    """At most `limit` + 1 bytes of the file at `path`, as it will be once `plan` is finished; None if there is none."""
    if plan and path in plan:
        number = plan[path]
        if number is None:
            return None
        with suppress(FileNotFoundError), durable.folder_at(folder_fd, (STAGED,)) as staged_fd:
            staged = durable.read_at(staged_fd, number, limit)
            if staged is not None:
                return staged
    *folders, name = path.split("/")
    try:
        with durable.folder_at(folder_fd, tuple(folders)) as parent:
            return durable.read_at(parent, name, limit)
    except FileNotFoundError:
        return None


def _finish(folder_fd: int, plan: Plan) -> None:
    """Put each file in its place, or remove it; then drop the plan. Each folder is fsynced once: it is slow."""
    by_folder: dict[tuple[str, ...], dict[str, str | None]] = {}
    for path, staged in plan.items():
        *folders, name = path.split("/")
        by_folder.setdefault(tuple(folders), {})[name] = staged
    with durable.folder_at(folder_fd, (STAGED,)) as staged_fd:
        for parts, names in by_folder.items():
            make = _FOLDER_MODE if any(staged is not None for staged in names.values()) else None
            with suppress(FileNotFoundError), durable.folder_at(folder_fd, parts, make=make, lasting=False) as parent:
                _move(staged_fd, parent, names)
    for parts, names in by_folder.items():
        if None in names.values():
            _remove_empty(folder_fd, parts)
    # The names of folders that were made, in this go or in one that was cut.
    for above in {parts[:depth] for parts in by_folder for depth in range(len(parts))}:
        with suppress(FileNotFoundError), durable.folder_at(folder_fd, above) as descriptor:
            os.fsync(descriptor)
    _remove(folder_fd)


def _move(staged_fd: int, parent: int, names: Mapping[str, str | None]) -> None:
    for name, staged in names.items():
        # What is gone already was renamed or removed before a cut.
        with suppress(FileNotFoundError):
            if staged is None:
                os.unlink(name, dir_fd=parent)
            else:
                os.rename(staged, name, src_dir_fd=staged_fd, dst_dir_fd=parent)
    # On a second go too: what the first did may not have reached the disk before the plan goes.
    os.fsync(parent)


def _remove_empty(folder_fd: int, parts: tuple[str, ...]) -> None:
    """Remove a folder that lost files, if it is empty, and those above it that are then."""
    for depth in range(len(parts), 0, -1):
        try:
            with durable.folder_at(folder_fd, parts[: depth - 1]) as above:
                os.rmdir(parts[depth - 1], dir_fd=above)
        except FileNotFoundError:
            continue
        except OSError:  # not empty; and an empty folder that stays does no harm
            return


def _remove(folder_fd: int) -> None:
    """Remove .staged, which holds no content that is still wanted: nothing was committed, or all was renamed."""
    try:
        with durable.folder_at(folder_fd, (STAGED,)) as staged_fd:
            with os.scandir(staged_fd) as entries:
                names = [entry.name for entry in entries]
            for name in names:
                os.unlink(name, dir_fd=staged_fd)
    except FileNotFoundError:
        return
    os.rmdir(STAGED, dir_fd=folder_fd)
    os.fsync(folder_fd)


def _parse_plan(content: bytes) -> Plan:
    try:
        plan = json.loads(content)
        files = plan["files"]
        sound = plan["format"] == 1 and all(
            _is_inside(path) and (name is None or str(name).isdecimal()) for path, name in files.items()
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        sound = False
    if not sound:
        raise StoreFailed(
            f"{STAGED}/{_PLAN} in the secret store is damaged or from another version of Bento",
            f"look at it; then remove the folder {STAGED} and run the last bento command again",
        )
    return {path: None if name is None else str(name) for path, name in files.items()}


def _is_inside(path: str) -> bool:
    parts = PurePosixPath(path).parts
    return bool(parts) and "/".join(parts) == path and ".." not in parts and parts[0] not in ("/", STAGED)
