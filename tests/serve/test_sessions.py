import pytest

from clips4.errors import UserError
from clips4.serve.sessions import MAX_SESSIONS, GoneError, Sessions


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_token_used_twice_starts_one_session() -> None:
    sessions = Sessions(60)
    token = sessions.new_token()
    assert sessions.start(token[:-1]) is None
    assert sessions.start("") is None
    assert sessions.start("é") is None
    assert sessions.start(token) is not None
    assert sessions.start(token) is None


def test_session_idle_for_too_long_is_forgotten() -> None:
    clock = Clock()
    sessions = Sessions(60, clock=clock)
    used, idle = (sessions.start(sessions.new_token()) for _ in range(2))
    assert used is not None
    assert idle is not None
    clock.now = 50
    assert sessions.find(used.id) is used
    clock.now = 100
    assert sessions.find(used.id) is used
    assert sessions.find(idle.id) is None
    sessions.forget_idle()
    clock.now = 0
    assert sessions.find(idle.id) is None  # not even if the clock went back


def test_memory_beyond_the_limit_is_refused() -> None:
    sessions = Sessions(60, max_bytes=1000)
    session = sessions.start(sessions.new_token())
    assert session is not None
    sessions.check_room(session, 1000)
    with pytest.raises(UserError, match="memory for images is full"):
        sessions.check_room(session, 1001)


def test_sessions_beyond_the_limit_are_refused() -> None:
    sessions = Sessions(60)
    for _ in range(MAX_SESSIONS):
        assert sessions.start(sessions.new_token()) is not None
    with pytest.raises(UserError, match="browsers are in use"):
        sessions.start(sessions.new_token())


def test_session_without_image_or_clip_raises_gone() -> None:
    sessions = Sessions(60)
    session = sessions.start(sessions.new_token())
    assert session is not None
    for find in (session.image, session.clip):
        with pytest.raises(GoneError):
            find("x")
