"""The shipped checkpoints: what their cards say is measured again."""
