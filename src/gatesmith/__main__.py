"""``python -m gatesmith``."""

from gatesmith.cli.main import main

main()
