"""Attacks on graphs: one interface over DeepRobust, PyG and our own white-box attacks."""
