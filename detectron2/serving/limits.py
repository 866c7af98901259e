"""What a service accepts, so that no client can exhaust it."""

from dataclasses import dataclass, fields

from detectron2.utils.errors import BadValue

__all__ = ["Limits"]


@dataclass(frozen=True)
class Limits:
    """Bounds of a service.

    Attributes:
        max_bytes: of one request's body.
        max_pixels: of one picture.
        queue_size: requests that may be in the house at once, waiting or running.
        timeout: seconds that a request may take, from its first byte to its answer.
        batch_size: pictures of equal size that run together, at most.
        batch_wait: seconds for which the first picture of a batch waits for others.
    """

    max_bytes: int = 20_000_000
    max_pixels: int = 50_000_000
    queue_size: int = 256
    timeout: float = 60.0
    batch_size: int = 8
    batch_wait: float = 0.005

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value < 0 or (value == 0 and field.name != "batch_wait"):
                raise BadValue(f"{field.name} must be positive, got {value}")
