"""Commands in modules of their own, registered in cli.py."""
