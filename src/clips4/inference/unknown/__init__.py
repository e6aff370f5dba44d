"""What no queried name fits: unknown classes found in a set, and names suggested for them."""
