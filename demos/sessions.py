"""The voices of the sessions, within a budget of memory: the oldest are dropped first."""

import threading
import time
from collections import deque
from weakref import WeakSet

import ssl_vc

MAX_VOICES = 3  # of a session
SESSION_BYTES = 256 << 20  # of a session's voices, with their search index
TOTAL_BYTES = 1 << 30  # of all voices
IDLE_MINUTES = 60  # after which a session's voices are dropped

Key = tuple[str, ...]


class Session:
    """The voices of a session, by the files that they were made from.

    Attributes:
        voices: the least recently used first.
        dropped: keys of the last ones that were dropped.
        used: time of the last use.
    """

    def __init__(self) -> None:
        self.voices: dict[Key, ssl_vc.Voice] = {}
        self.dropped: deque[Key] = deque(maxlen=2 * MAX_VOICES)
        self.used = time.monotonic()


class Sessions:
    """All sessions that have a voice.

    Args:
        session_bytes: limit of the voices of one session.
        total_bytes: limit of all voices.
    """

    def __init__(self, session_bytes: int = SESSION_BYTES, total_bytes: int = TOTAL_BYTES) -> None:
        self.session_bytes, self.total_bytes = session_bytes, total_bytes
        self._sessions: WeakSet[Session] = WeakSet()
        self._lock = threading.Lock()

    def get(self, session: Session, key: Key) -> "ssl_vc.Voice | None":
        """Returns a session's voice, and notes its use."""
        with self._lock:
            session.used = time.monotonic()
            voice = session.voices.pop(key, None)
            if voice is not None:
                session.voices[key] = voice
            return voice

    def add(self, session: Session, key: Key, voice: "ssl_vc.Voice") -> None:
        """Keep a voice, and drop the oldest ones until all fit: first the session's own, then those of idle ones."""
        with self._lock:
            self._sessions.add(session)
            session.voices[key] = voice
            while len(session.voices) > 1 and (len(session.voices) > MAX_VOICES or _size(session) > self.session_bytes):
                _drop_oldest(session)
            others = sorted(self._sessions - {session}, key=lambda each: each.used)
            excess = sum(map(_size, [*others, session])) - self.total_bytes
            for other in others:
                while excess > 0 and other.voices:
                    excess -= _drop_oldest(other)

    def drop_idle(self, minutes: float = IDLE_MINUTES) -> None:
        """Drop the voices of sessions that have been idle for so long."""
        with self._lock:
            for session in list(self._sessions):
                while session.voices and time.monotonic() - session.used > 60 * minutes:
                    _drop_oldest(session)


def _size(session: Session) -> int:
    return sum(map(size, session.voices.values()))


def size(voice: "ssl_vc.Voice") -> int:
    """Returns the bytes that a voice takes: its frames, and as much again at most for the index to search them."""
    return 2 * sum(part.nbytes for part in (voice.frames, voice.synthesis) if part is not None)


def _drop_oldest(session: Session) -> int:
    """Drop a session's oldest voice; returns its size."""
    key = next(iter(session.voices))
    session.dropped.append(key)
    return size(session.voices.pop(key))
