"""`python -m aitbc.cli`: the same program as `aitbc`."""

from aitbc.cli.start import main

main()
