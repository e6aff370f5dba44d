"""One module per command: its options, the call, the summary. ``cli/app.py`` registers them."""
