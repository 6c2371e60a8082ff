"""Scenes, the laboratory world: pictures whose whole truth is known, with captions, questions, instructions, twins."""
