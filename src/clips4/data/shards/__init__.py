"""Tar shards of images in WebDataset's layout: names, members, samples, streams; nothing is unpacked to disk."""
