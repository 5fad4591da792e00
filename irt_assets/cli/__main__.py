"""`python -m irt_assets.cli`, the same as `irt`."""

from irt_assets.cli import main

main()
