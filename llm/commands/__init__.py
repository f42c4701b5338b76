"""The subcommands: one file each, its name the command's name, its `command` the click command."""
