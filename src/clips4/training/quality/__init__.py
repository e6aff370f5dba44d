"""The quality report of a run: which images it is measured on, the figures, and their verdict; no labels are needed."""
