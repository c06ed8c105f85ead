"""The clips of the demo: what is filmed, what is heard, what is wrong with it; `truth.toml` says what must come out."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from ...manifests.records import FRAME_RATE, SAMPLE_RATE_HZ, SAMPLES_PER_FRAME
from ..media.mp4 import Shown
from .face import CLOSE, WIDE, Framing
from .shots import DemoShot, Edit, Hidden, SideBySide, Still, Talker
from .speech import Silence, Speech

NTSC = Fraction(30_000, 1001)
HALF = Framing(width=320, height=400, zoom=1.7, centre=(224.0, 125.0))
"""One of two people in a picture."""


@dataclass(frozen=True, kw_only=True)
class DemoVideo:
    """Pictures that one or more files show."""

    shoot: Callable[[], DemoShot]
    """Sets the shot up; called when the pictures are needed."""
    duration_s: float
    rate: Fraction = Fraction(FRAME_RATE)
    """Pictures a second."""
    dropped_share: float = 0.0
    """Share of the pictures left out at random, their neighbours' times kept."""

    def pictures(self) -> Iterator[Shown]:
        """Yield `(shown_s, rgb)` in order.

        Each shows the world as it is halfway through its time on screen, as the sound of that time is; then sound and
        picture agree to within a fraction of a frame at any frame rate.
        """
        shot = self.shoot()
        rng = np.random.default_rng(4)
        for number in range(self.num_frames):
            if number and rng.random() < self.dropped_share:
                continue
            yield number / self.rate, shot.draw(float((number + Fraction(1, 2)) / self.rate))

    @property
    def num_frames(self) -> int:
        """Pictures, the dropped ones included."""
        return round(self.duration_s * self.rate)

    @property
    def num_samples(self) -> int:
        """Samples at 16 kHz that last as long as the pictures."""
        return round(self.num_frames / self.rate * SAMPLE_RATE_HZ)


@dataclass(frozen=True, kw_only=True)
class DemoClip:
    """One file."""

    name: str
    video: DemoVideo
    speech: Speech | None
    """Sound of the clip; None: there is no audio stream."""
    audio_lead_frames: int = 0
    """Lead of the sound, frames of 40 ms; negative: it is late."""
    sample_rate_hz: int = SAMPLE_RATE_HZ
    num_channels: int = 1
    kept_bytes: float = 1.0
    """Share of the file that is there; less than 1: it was cut off."""

    def pcm(self) -> np.ndarray:
        """Return the sound, int16 [S] at 16 kHz."""
        assert self.speech is not None
        return self.speech.pcm(self.video.num_samples, lead_samples=self.audio_lead_frames * SAMPLES_PER_FRAME)


def clips() -> list[DemoClip]:
    """Return all clips; drawing and talking begin when they are asked for pictures and sound."""
    return [*_talkers(), *_edits(), *_silent(), *_damaged()]


def _talk(who: str, framing: Framing, speech: Speech, duration_s: float, *, manner: int, **more: object) -> DemoVideo:
    return DemoVideo(
        shoot=lambda: Talker(who, framing, speech, manner=manner, duration_s=duration_s),
        duration_s=duration_s,
        **more,  # type: ignore[arg-type]
    )


def _talkers() -> list[DemoClip]:
    """People who talk without interruption, in sync and out of it."""
    first, second, long = Speech(1, 8.0), Speech(2, 9.0, pitch_hz=130), Speech(3, 12.0)
    a, b = _talk("a", CLOSE, first, 8.0, manner=1), _talk("b", CLOSE, second, 9.0, manner=2)
    ntsc = _talk("a", CLOSE, first, 8.0, manner=1, rate=NTSC)
    vfr = _talk("b", CLOSE, second, 9.0, manner=2, dropped_share=0.2)
    return [
        DemoClip(name="talker_a.mp4", video=a, speech=first),
        DemoClip(name="talker_b_stereo_48k.mp4", video=b, speech=second, sample_rate_hz=48_000, num_channels=2),
        DemoClip(name="talker_a_long_wide.mp4", video=_talk("a", WIDE, long, 12.0, manner=3), speech=long),
        DemoClip(name="sound_early_5.mp4", video=a, speech=first, audio_lead_frames=5),
        DemoClip(name="sound_early_3.mp4", video=b, speech=second, audio_lead_frames=3),
        DemoClip(name="sound_late_4.mp4", video=a, speech=first, audio_lead_frames=-4),
        DemoClip(name="sound_late_2.mp4", video=b, speech=second, audio_lead_frames=-2, sample_rate_hz=44_100),
        DemoClip(name="sound_early_12.mp4", video=a, speech=first, audio_lead_frames=12),
        DemoClip(name="other_sound.mp4", video=a, speech=Speech(4, 8.0)),
        DemoClip(name="ntsc_2997.mp4", video=ntsc, speech=first),
        DemoClip(name="vfr.mp4", video=vfr, speech=second),
    ]


def _edits() -> list[DemoClip]:
    """Footage in which the face comes and goes, or is not alone."""
    voice, hidden, pair, off_screen = Speech(5, 11.2), Speech(6, 12.0), Speech(7, 7.0), Speech(8, 5.0)

    def cut() -> DemoShot:
        close = Talker("a", CLOSE, voice, manner=5, duration_s=11.2)
        wide = Talker("b", WIDE, voice, manner=6, duration_s=11.2)
        return Edit([close, Still("coffee.png", 512, 512), wide], [4.0, 6.6])

    def gap() -> DemoShot:
        return Hidden(Talker("a", CLOSE, hidden, manner=7, duration_s=12.0), 5.4, 6.6)

    def two() -> DemoShot:
        speaker = Talker("a", HALF, pair, manner=8, duration_s=7.0)
        return SideBySide(speaker, Talker("b", HALF, Silence(7.0, room=True), manner=9, duration_s=7.0))

    def rocket() -> DemoShot:
        return Still("rocket.jpg", 640, 480)

    return [
        DemoClip(name="cuts.mp4", video=DemoVideo(shoot=cut, duration_s=11.2), speech=voice),
        DemoClip(name="face_hidden.mp4", video=DemoVideo(shoot=gap, duration_s=12.0), speech=hidden),
        DemoClip(name="two_people.mp4", video=DemoVideo(shoot=two, duration_s=7.0), speech=pair),
        DemoClip(name="nobody.mp4", video=DemoVideo(shoot=rocket, duration_s=5.0), speech=off_screen),
    ]


def _silent() -> list[DemoClip]:
    """A closed mouth, in a room that is heard and in digital silence."""
    room, nothing = Silence(6.0, room=True), Silence(6.0, room=False)
    video = _talk("b", CLOSE, room, 6.0, manner=10)
    return [
        DemoClip(name="silent_room.mp4", video=video, speech=room),
        DemoClip(name="silent_digital.mp4", video=video, speech=nothing),
    ]


def _damaged() -> list[DemoClip]:
    """Files that never become clips."""
    speech = Speech(9, 4.0)
    video = _talk("a", CLOSE, speech, 4.0, manner=11)
    short = Speech(10, 1.0)
    return [
        DemoClip(name="too_short.mp4", video=_talk("a", CLOSE, short, 1.0, manner=12), speech=short),
        DemoClip(name="no_sound.mp4", video=video, speech=None),
        DemoClip(name="cut_off.mp4", video=video, speech=speech, kept_bytes=0.6),
        DemoClip(name="empty.mp4", video=video, speech=speech, kept_bytes=0.0),
    ]
