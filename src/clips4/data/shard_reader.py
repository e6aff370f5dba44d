"""The earlier place and names of what ``data.shards`` holds, for programs that import them."""

from clips4.data.shards.files import expand_shards, is_shard
from clips4.data.shards.samples import count_images, read_shard

count_pictures = count_images

__all__ = ["count_images", "count_pictures", "expand_shards", "is_shard", "read_shard"]
