"""Images, label maps, class lists, views and batches; no network lives here."""
