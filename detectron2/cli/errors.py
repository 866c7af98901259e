"""The error of the command line."""

__all__ = ["UserError"]


class UserError(Exception):
    """Something that the person at the keyboard can mend; its text is all that they see."""
