"""Patches for Caffe2: gone. Its names can be imported, and say when used what to use instead."""

from ._retired import retired_module

__getattr__ = retired_module(__name__)
