"""Inverse problems: Plug-and-Play iterations that converge, and why."""
