"""`python -m irt_psychometrics analyse|fit|score|link|simulate-responses|warm-up`: see `commands.program`."""

import sys

from irt_psychometrics.commands import main

if __name__ == "__main__":
    sys.exit(main())
