"""Random worlds, frames, filters, actions and changes, each from a seed."""
