"""Who is brought home by a return, and who has been moved by somebody since."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tasks.homes import MOVED, homecoming
from worker.journal.cordons import Home

HOSTS = ("alpha", "beta", "gamma")
hosts = st.sampled_from(HOSTS)
homes = st.builds(
    Home,
    uuid=st.sampled_from([f"u{number}" for number in range(6)]),
    domain=st.just("web"),
    host=hosts,
    to=hosts,
    batch=st.just("b"),
    at=st.just(1),
).filter(lambda home: home.host != home.to)


@given(
    st.lists(homes, unique_by=lambda home: home.uuid),
    st.dictionaries(st.sampled_from([f"u{number}" for number in range(6)]), st.sets(hosts)),
)
def test_only_who_is_where_the_drain_sent_it_is_brought_home(known: list[Home], places: dict[str, set[str]]) -> None:
    """Over all places a guest may be shown at: brought home, named as moved, or neither at home nor anywhere."""
    found = homecoming(known, places)
    moved = {left["guest"]: left for left in found.left}
    for home in known:
        there = places.get(home.uuid, set())
        assert (home.uuid in found.targets) == (home.to in there)
        assert (home.uuid in found.targets) != (home.uuid in found.over)
        assert (home.uuid in moved) == (bool(there) and home.to not in there and home.host not in there)
        if home.uuid in moved:
            left = moved[home.uuid]
            assert left["code"] == MOVED
            assert left["host"] in there
            assert home.to in left["why"]
            assert home.host in left["unblock"]
    assert all(found.targets[home.uuid] == home.host for home in known if home.uuid in found.targets)
