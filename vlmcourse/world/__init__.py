"""Scenes, the laboratory world: pictures whose whole truth is known, and all that can be said about them."""
