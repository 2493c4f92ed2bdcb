"""The hospital's node."""
