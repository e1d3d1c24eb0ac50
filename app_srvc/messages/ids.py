"""Message ids: UUID version 7 (RFC 9562, section 5.7), so that ids sort by the time they were made."""

import os
import re
import threading
import time

MESSAGE_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")

_lock = threading.Lock()
_last_tick = 0


def new_message_id() -> str:
    """A new id. Ids made by one process grow strictly, also within a millisecond.

    The 12 bits of `rand_a` carry the fraction of the millisecond (RFC 9562, section 6.2, method 3);
    the remaining 62 bits are random.
    """
    global _last_tick
    tick = (time.time_ns() << 12) // 1_000_000
    with _lock:
        tick = _last_tick = max(tick, _last_tick + 1)
    milliseconds, fraction = tick >> 12, tick & 0xFFF
    tail = int.from_bytes(os.urandom(8), "big") & 0x3FFF_FFFF_FFFF_FFFF | 0x8000_0000_0000_0000
    head = f"{milliseconds:012x}"
    end = f"{tail:016x}"
    return f"{head[:8]}-{head[8:]}-7{fraction:03x}-{end[:4]}-{end[4:]}"


def is_message_id(text: str) -> bool:
    return MESSAGE_ID.fullmatch(text) is not None
