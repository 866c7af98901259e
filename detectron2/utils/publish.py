"""Names that live elsewhere than where they are documented."""

__all__ = ["publish"]


def publish(module: str, *objects: object) -> None:
    """Make ``module`` the home of classes and functions that are defined in another file.

    Pickles, dumped configs and documentation name an object by its ``__module__``, so that path must stay the same
    when the definition moves to another file.

    Args:
        module: dotted path of the public module, usually ``__name__``.
        *objects: classes or functions.
    """
    for item in objects:
        item.__module__ = module
