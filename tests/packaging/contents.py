"""Checks a wheel and an unpacked source archive: `python contents.py WHEEL SOURCE`. Needs the standard library only."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

REPOSITORY = (
    "pyproject.toml",
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "tests/provider/openapi.yaml",
)


def package_files(source: Path) -> set[str]:
    files = (path for path in (source / "wanasync").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(source).as_posix() for path in files}


def problems(wheel: Path, source: Path) -> list[str]:
    there = set(zipfile.ZipFile(wheel).namelist())
    here = package_files(source)
    strange = {name for name in there - here if ".dist-info/" not in name}
    return [
        *(f"the wheel lacks {name}" for name in sorted({*here, "wanasync/py.typed"} - there)),
        *(f"the wheel has {name} too" for name in sorted(strange)),
        *(f"the archive lacks {name}" for name in REPOSITORY if not (source / name).is_file()),
        *([] if any(name.endswith("/licenses/LICENSE") for name in there) else ["the wheel has no licence"]),
    ]


if __name__ == "__main__":
    found = problems(Path(sys.argv[1]), Path(sys.argv[2]))
    sys.exit("\n".join(found) or None)
