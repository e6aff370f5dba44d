"""A page on which one types class names and clicks: server, JSON API, static folder; no equations, no file formats."""
