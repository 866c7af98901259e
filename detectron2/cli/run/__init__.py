"""What the commands share: configs, data sets, recipes and run folders."""
