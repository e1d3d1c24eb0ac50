"""The scripts that run inside Redis, each in one step. Each file opens with the keys that it touches."""

from pathlib import Path

from redis import Redis
from redis.commands.core import Script

FOLDER = Path(__file__).parent / "lua"


def load_script(client: Redis, name: str) -> Script:
    """A script by its name; Redis is asked when it is first called."""
    return client.register_script((FOLDER / f"{name}.lua").read_text())
