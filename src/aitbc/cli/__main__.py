"""`python -m aitbc.cli`: the same program as `aitbc`."""

from aitbc.cli.main import app

app(prog_name="aitbc")
