"""One interface to both kinds of config."""
