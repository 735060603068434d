"""`python -m pilotis` is `pilotis`."""

from pilotis.cli import main

main()
