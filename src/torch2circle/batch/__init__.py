"""Many exports from one manifest: each in a process of its own, here or on a cluster, and only those that are not done yet."""
