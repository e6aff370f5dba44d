"""The tables of the paper from data sets to figures; what a table consists of, its steps, its costs, its page."""
