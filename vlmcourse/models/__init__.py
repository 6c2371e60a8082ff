"""Models: each file builds one part of a vision-language model by hand, from slots and plain torch
modules."""
