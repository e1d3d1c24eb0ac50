"""The commands behind the `.sh` and `.cmd` files of the folder above: `python parts COMMAND …`."""

import sys

# Old Pythons must be able to read this file, to be told what is missing.
if sys.version_info < (3, 8):  # noqa: UP036
    sys.exit("Python 3.8 or newer is needed, this is %s." % sys.version.split()[0])  # noqa: UP031

from commands import main

sys.exit(main(sys.argv[1:]))
