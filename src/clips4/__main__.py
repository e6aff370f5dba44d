"""``python -m clips4`` is the command ``clips4``."""

from clips4.cli.app import main

main()
