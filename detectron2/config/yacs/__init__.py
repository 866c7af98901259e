"""YAML configs (``CfgNode``): node class, value types, files, and additional keys."""
