"""Where a video may be written, checked before it is paid for."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from wanasync.errors import ConfigError, DownloadError

__all__ = ["check_file_names", "free_target"]


def free_target(to: str | os.PathLike[str], stem: str) -> Path:
    """The file to write: `to` itself, or `stem`.mp4 in it where it is a directory or ends with a slash.

    Makes missing parent directories. Raises `DownloadError` where the file exists already or its directory can't be
    written; both are better known before the video is paid for.
    """
    # Asked of the text, since a Path forgets the slash at its end.
    is_directory = os.fspath(to).endswith(("/", os.sep)) or Path(to).is_dir()
    target = Path(to, f"{stem}.mp4") if is_directory else Path(to)
    if os.path.lexists(target):
        raise DownloadError(f"{target} exists already; choose another name or remove it", path=str(target))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise DownloadError(f"{target.parent} is not a directory; choose another", path=str(target)) from error
    except OSError as error:
        raise DownloadError(f"can't make {target.parent}: {error.strerror or error}", path=str(target)) from error
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise DownloadError(f"no permission to write in {target.parent}", path=str(target))
    return target


def check_file_names(encoding: str | None = None) -> None:
    """Raises `ConfigError` where the locale's file names can't be of any script, as those made of prompts are.

    Python uses UTF-8 in the C locale and on Windows; what is left are locales of other character sets. There a video
    would be paid for that can't be written.
    """
    encoding = encoding or sys.getfilesystemencoding()
    if encoding.lower().replace("-", "") != "utf8":
        raise ConfigError(f"file names are {encoding} here, which can't hold every prompt's: set PYTHONUTF8=1")
