"""One pool, by the names of two settings: `python -m app_srvc.workers rdsq_robot robot_processes`.

It is what the entry scripts run, for `app-srvc up`, which can't know where those stand; unlike them
it ends when its parent does.
"""

import sys

from app_srvc.supervisor import ParentLink
from app_srvc.workers.pool import run_script

if __name__ == "__main__":
    sys.exit(run_script(sys.argv[1], sys.argv[2], link=ParentLink()))
