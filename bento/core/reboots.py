"""Whether and when a host reboots by itself. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from bento.errors import InputError
from bento.names import printable

PARTS: Final = ("kernel", "initrd", "kernel-modules")  # what a running machine can't exchange

_WINDOW = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])-([01][0-9]|2[0-3]):([0-5][0-9])")


@dataclass(frozen=True)
class Window:
    """A part of each day, in minutes after midnight by the host's own clock. It may lie across midnight."""

    begins: int
    ends: int

    @classmethod
    def parse(cls, text: str) -> "Window":
        """`HH:MM-HH:MM`, or InputError."""
        found = _WINDOW.fullmatch(text)
        if found is None:
            raise InputError(f"'{printable(text)}' is no part of a day", 'write it so: "02:00-05:00"')
        hours = [int(number) for number in found.groups()]
        return cls(hours[0] * 60 + hours[1], hours[2] * 60 + hours[3])

    def holds(self, minute: int) -> bool:
        """Whether `minute` of a day lies in it. One that ends when it begins is the whole day."""
        if self.begins < self.ends:
            return self.begins <= minute < self.ends
        return minute >= self.begins or minute < self.ends


def changed_parts(booted: Mapping[str, str | None], default: Mapping[str, str | None]) -> tuple[str, ...]:
    """Which of `PARTS` a reboot would exchange; those that aren't known on both sides don't count."""
    return tuple(
        part
        for part in PARTS
        if booted.get(part) is not None and default.get(part) is not None and booted[part] != default[part]
    )
