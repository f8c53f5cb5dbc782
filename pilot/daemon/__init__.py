"""The daemon: options, composition, control socket."""
