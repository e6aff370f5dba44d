"""The page's files, and the page as a folder that needs no server; no model of its own, no equations."""
