"""Open files whose locks must end with this process.

A child made by fork shares its parent's open files, and with them their locks: it would keep its
dead parent alive for everybody. A program that is started anew (``subprocess``) closes them by
itself, as Python opens every file close-on-exec; a bare fork needs the hook below.
"""

from __future__ import annotations

import os
from io import FileIO
from pathlib import Path
from weakref import WeakSet

__all__ = ["open_for_this_process"]

# The one thing here that is global, because forks are.
_files: WeakSet[FileIO] = WeakSet()


def open_for_this_process(path: Path, flags: int) -> FileIO:
    """Open ``path`` with ``os.open`` flags; forked children close it at once.

    A new file is readable by its owner only.

    :raises OSError: as ``os.open`` does.
    """

    def opener(name: str, _: int) -> int:
        return os.open(name, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)

    mode = "rb" if flags & os.O_ACCMODE == os.O_RDONLY else "rb+"
    file = FileIO(str(path), mode, opener=opener)
    _files.add(file)
    return file


def _close_in_child() -> None:
    # Closing leaves the parent's locks alone; unlocking would free them.
    for file in list(_files):
        file.close()
    _files.clear()


os.register_at_fork(after_in_child=_close_in_child)
