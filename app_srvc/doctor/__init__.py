"""`app-srvc doctor`: is every setting and connection as it should be, and what to do where not."""

from app_srvc.doctor.check import Check
from app_srvc.doctor.database_checks import check_database
from app_srvc.doctor.other_checks import check_data_folder, check_source, check_web
from app_srvc.doctor.redis_checks import check_redis
from app_srvc.logs import mask_text
from app_srvc.settings import Settings

__all__ = ["Check", "render_checks", "run_checks"]


def run_checks(settings: Settings) -> list[Check]:
    """Check everything once, each connection for some seconds at most. Raises nothing of its own.

    Nothing in the answer is secret.
    """
    groups = (check_web, check_data_folder, check_redis, check_database, check_source)
    return [_without_secrets(check) for group in groups for check in group(settings)]


def render_checks(checks: list[Check]) -> str:
    """Return the checks as lines for a terminal."""
    width = max(len(check.name) for check in checks)
    lines = []
    for check in checks:
        lines.append(f"{'ok  ' if check.ok else 'FAIL'}  {check.name:<{width}}  {check.detail}")
        if check.remedy:
            lines.append(f"{'':<{width + 8}}{'advice' if check.ok else 'to do'}: {check.remedy}")
    failed = sum(not check.ok for check in checks)
    lines.append(f"{failed} of {len(checks)} checks failed." if failed else "All is well.")
    return "\n".join(lines)


def _without_secrets(check: Check) -> Check:
    return Check(check.name, check.ok, mask_text(check.detail), mask_text(check.remedy))
