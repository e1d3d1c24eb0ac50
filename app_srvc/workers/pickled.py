"""Pickled jobs, as stock RQ writes them by default: which function one calls, and nothing more.

A pickle is a program; to read it is to run it. Here only its first words are looked at, one opcode at a
time, as `pickletools` names them. Nothing is built, imported or called.
"""

import io
import pickletools
import re
import zlib

# The name of the function stands at the beginning; what follows, however much, is not looked at.
LOOKED_AT_BYTES = 4 * 1024
MAX_NAME_CHARS = 200
NAME = re.compile(r"[A-Za-z_]\w*(\.\w+)*", re.ASCII)
# RQ pickles the tuple (name, instance, arguments, named arguments): a few words of order, then the name.
BEFORE_THE_NAME = frozenset({"PROTO", "FRAME", "MARK"})
TEXTS = frozenset({"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE"})


def pickled_function(data: bytes) -> str | None:
    """The name of the function that a pickled job calls, or None if the data is not such a job.

    `data` is what stands in a job's hash, compressed or not. Never raises. What is returned has the
    form of a dotted name, so it may be shown and logged, whoever wrote it into Redis.
    """
    try:
        for opcode, argument, _ in pickletools.genops(io.BytesIO(_beginning(data))):
            if opcode.name in TEXTS and isinstance(argument, str):
                return argument if _is_name(argument) else None
            if opcode.name not in BEFORE_THE_NAME:
                return None
    except (ValueError, OverflowError, IndexError):
        # Cut off, or never a pickle: genops says both with ValueError, an odd text with the others.
        return None
    return None


def _beginning(data: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(data, LOOKED_AT_BYTES)
    except zlib.error:
        return data[:LOOKED_AT_BYTES]


def _is_name(text: str) -> bool:
    return len(text) <= MAX_NAME_CHARS and NAME.fullmatch(text) is not None
