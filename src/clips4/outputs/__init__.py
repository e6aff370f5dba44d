"""Arrays and names in, bytes out: file formats and drawing; knows no model and no result class."""
