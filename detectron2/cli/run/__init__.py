"""Code shared by the commands: configs, datasets, recipes and run folders."""
