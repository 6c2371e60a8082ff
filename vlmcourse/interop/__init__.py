"""Interop: the course's models with the weights of published libraries, key by key and strictly."""
