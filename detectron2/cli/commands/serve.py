"""``detectron2 serve``: a model as an HTTP service."""

import argparse
import socket
from pathlib import Path

from detectron2.prediction import Predictor
from detectron2.serving import Limits, create_app
from detectron2.utils.logger import setup_logger

from ..errors import UserError
from ..run.recipe import chosen_device

__all__ = ["run"]


def run(args: argparse.Namespace) -> int:
    """Serve until a signal ends the process; what was taken by then is answered."""
    setup_logger(name="detectron2")
    limits = Limits(
        max_bytes=round(args.max_megabytes * 1e6),
        max_pixels=round(args.max_megapixels * 1e6),
        queue_size=args.queue,
        timeout=args.timeout,
        batch_size=args.batch_size,
        batch_wait=args.batch_wait / 1000,
    )
    # A port in use is known before the model is loaded.
    door = _bound(args.host, args.port)
    with door:
        predictor = Predictor(
            args.model, weights=args.weights, scores=args.threshold,
            device=chosen_device(args.device) if args.device else None,
            precision=args.precision, compile=args.compile, batch_size=args.batch_size,
        )  # fmt: skip
        app = create_app(predictor, limits, Path(args.model).name)
        import uvicorn  # create_app has said how to install it

        door.listen(2048)  # from here on clients may connect
        host, port = door.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        print(f"Serving {args.model} at http://{shown}:{port}/ (Ctrl-C ends)", flush=True)
        config = uvicorn.Config(
            app, log_level="warning", timeout_graceful_shutdown=round(limits.timeout) + 1, server_header=False
        )
        uvicorn.Server(config).run(sockets=[door])
    return 0


def _bound(host: str, port: int) -> socket.socket:
    """Return a socket bound to the address; port 0 takes any that is free."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    door = socket.socket(family, socket.SOCK_STREAM)
    door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        door.bind((host, port))
    except (OSError, OverflowError) as error:
        door.close()
        raise UserError(
            f"cannot serve at {host} port {port}: {error}; choose another --host or --port"
        ) from None
    return door
