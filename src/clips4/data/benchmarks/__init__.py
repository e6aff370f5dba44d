"""Published data sets in their own layouts: descriptions, readers, checks of a copy; no scores."""
