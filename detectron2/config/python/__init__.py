"""Python configs (LazyConfig): load, save, print and override them."""
