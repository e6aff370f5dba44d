"""``python -m clips4`` is the command ``clips4``."""

from clips4.cli import main

main()
