"""The JSON API over HTTP: addresses, checks, headers; what a model does is beside this folder."""
