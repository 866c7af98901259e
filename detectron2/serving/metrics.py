"""Figures of a running service, for Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

__all__ = ["Metrics"]


class Metrics:
    """Counters and histograms of one application, in a registry of their own.

    Attributes:
        requests: finished requests, by their HTTP status.
        seconds: time from a request's arrival to its answer.
        in_flight: requests in the house.
        batches: sizes of the batches that ran.
        objects: instances found.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "detectron2_requests", "Finished requests", ["status"], registry=self._registry
        )
        self.seconds = Histogram(
            "detectron2_request_seconds", "Time from arrival to answer", registry=self._registry
        )
        self.in_flight = Gauge(
            "detectron2_requests_in_flight", "Requests in the house", registry=self._registry
        )
        self.batches = Histogram(
            "detectron2_batch_size",
            "Pictures of a batch",
            buckets=(1, 2, 4, 8, 16, 32),
            registry=self._registry,
        )
        self.objects = Counter("detectron2_objects", "Instances found", registry=self._registry)

    def text(self) -> bytes:
        """Return all figures in Prometheus' text format."""
        return generate_latest(self._registry)
