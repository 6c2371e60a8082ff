"""Models: each file builds one part of a vision-language model, from slots and plain torch modules."""
