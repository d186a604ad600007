"""``python -m jaxephys`` is the command line of :mod:`jaxephys.cli`."""

import sys

from jaxephys.cli import main

if __name__ == "__main__":
    sys.exit(main())
