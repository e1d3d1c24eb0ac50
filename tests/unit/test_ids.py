"""Message ids: UUIDs of version 7 that grow."""

import time
import uuid

from app_srvc.messages.ids import is_message_id, new_message_id


def test_an_id_is_a_uuid_of_version_7_that_says_when_it_was_made() -> None:
    before = time.time_ns() // 1_000_000
    made = uuid.UUID(new_message_id())
    after = time.time_ns() // 1_000_000
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert before <= made.int >> 80 <= after


def test_ids_grow_strictly_and_none_comes_twice() -> None:
    ids = [new_message_id() for _ in range(20_000)]
    assert ids == sorted(ids)
    assert len(set(ids)) == len(ids)


def test_what_is_not_such_an_id_is_told_apart() -> None:
    good = new_message_id()
    assert is_message_id(good)
    for bad in ("", good.upper(), good + "\n", str(uuid.uuid4()), good[:-1], "robot-todos-1-1"):
        assert not is_message_id(bad)
