"""The small shared kernel that bots, worker and training import, and that imports none of them."""
