"""Small real videos, written by PyAV."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

av = pytest.importorskip("av")

CLOCK = Fraction(1, 60000)


def frame_of(index: int, height: int = 48, width: int = 64) -> np.ndarray:
    """A grey picture with a bright square that moves to the right."""
    image = np.full((height, width, 3), 60, np.uint8)
    image[16:32, 4 + 2 * index : 20 + 2 * index] = (230, 60, 40)
    return image


def film(
    path: Path, times: list[float], *, sound: bool = False, size: tuple[int, int] = (48, 64), codec: str = "libx264",
    every: int = 5,
) -> Path:  # fmt: skip
    """Write a video with frames at these seconds, and a tone."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.time_base = CLOCK
        stream.codec_context.gop_size = every
        tone = container.add_stream("aac", rate=16000) if sound else None
        for index, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(frame_of(index, *size), format="rgb24")
            frame.pts, frame.time_base = round(time / CLOCK), CLOCK
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if tone is not None:
            samples = np.sin(np.arange(int(16000 * (times[-1] + 0.04))) * 0.2).astype(np.float32)
            for start in range(0, len(samples) - 1023, 1024):
                part = av.AudioFrame.from_ndarray(samples[None, start : start + 1024], "fltp", "mono")
                part.sample_rate, part.pts, part.time_base = 16000, start, Fraction(1, 16000)
                container.mux(tone.encode(part))
            container.mux(tone.encode(None))
    return path


def damage(path: Path, target: Path, packet_number: int) -> Path:
    """Copy a video with one packet overwritten by noise."""
    with av.open(str(path)) as source, av.open(str(target), "w") as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(source.demux(source.streams.video[0])):
            if packet.dts is None:
                continue
            if number == packet_number:
                noise = np.random.default_rng(0).integers(0, 255, packet.size, dtype=np.uint8).tobytes()
                spoilt = av.Packet(noise)
                spoilt.pts, spoilt.dts, spoilt.time_base = packet.pts, packet.dts, packet.time_base
                packet = spoilt
            packet.stream = stream
            container.mux(packet)
    return target


def sound_of(path: Path) -> np.ndarray:
    """All samples of the first channel of a video's sound."""
    with av.open(str(path)) as container:
        if not container.streams.audio:
            return np.zeros(0)
        return np.concatenate([f.to_ndarray()[0] for f in container.decode(audio=0)])
