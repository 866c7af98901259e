"""YAML configs (``CfgNode``): the node class, its value types, its files, the keys of this package."""
