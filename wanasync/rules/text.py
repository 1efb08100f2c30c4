"""Making foreign text fit for a log, an error or a terminal."""

from __future__ import annotations

import re

__all__ = ["clean_text"]

# CSI, then OSC, DCS, SOS, PM and APC with whatever they carry, then two-character escapes; 7-bit and 8-bit forms.
# A sequence that is never closed ends with the text, as a terminal would swallow it.
_ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"
    r"|\x1b[ -/]*[0-~]?"
)
_BLANKS = re.compile(r"[\x00-\x20\x7f-\xa0\s]+")
# Invisible although they count as printable: fillers and variation selectors.
_INVISIBLE = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")

_SECRETS = re.compile(
    r"""
    (?P<kept>\btask-[A-Za-z0-9_-]{1,200})                              # an id is what a user goes on with
  | (?P<lead>
        \b(?:bearer|basic)\s+
      | \b(?:api[\s_-]?key|access[\s_-]?key|access[\s_-]?token|auth[\s_-]?token|token|secret|password|authorization
            |signature|credential)s?
        ["'`]?\s*[:=]\s*["'`]?(?:bearer\s+|basic\s+)?
    )
    [^\s"'`,;&<>(){}\[\]]{4,}
  | \b(?:sk|pk|rk|ak|key)-[A-Za-z0-9_*.-]{6,}                        # keys that say so themselves, masked ones too
  | \beyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)*                    # JSON web tokens
  | (?<![A-Za-z0-9_])(?=[A-Za-z_]*[0-9])(?=[0-9_]*[A-Za-z])[A-Za-z0-9_]{24,}
  | (?<![A-Za-z0-9_-])(?=[A-Za-z_-]*[0-9])[A-Za-z0-9_-]{40,}
    """,
    re.VERBOSE | re.IGNORECASE | re.ASCII,
)

_MARGIN = 256
"""How far beyond the limit secrets are looked for, so that one that is cut by the limit is still known for one."""


def clean_text(text: str, limit: int = 500) -> str:
    """Foreign text as one line of at most `limit` visible characters.

    Terminal escapes, control and bidirectional characters are taken out (first, so that they can't hide a key),
    blanks are folded, and what looks like a key or token is replaced by `[removed]`. Task ids stay readable.
    """
    # What is cut off here is never shown; the factor leaves room for characters that are about to be dropped.
    text = text[: limit * 8 + 4096]
    text = _BLANKS.sub(" ", _ESCAPES.sub("", text))
    if not text.isprintable():
        text = "".join(filter(str.isprintable, text))
    text = _INVISIBLE.sub("", text).strip()[: limit + _MARGIN]
    text = _SECRETS.sub(_removed, text)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _removed(match: re.Match[str]) -> str:
    return match["kept"] or f"{match['lead'] or ''}[removed]"
