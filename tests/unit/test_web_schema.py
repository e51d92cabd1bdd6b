"""The web API against its own OpenAPI document: schemathesis asks what a document allows, and what it does not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from page_lab import Fleet
from schemathesis import BaseSchema, Case, GenerationMode
from schemathesis.config import (
    ChecksConfig,
    GenerationConfig,
    NotAServerErrorConfig,
    PositiveDataAcceptanceConfig,
    ProjectConfig,
    ProjectsConfig,
    SchemathesisConfig,
)

from worker.embedded import EmbeddedRedis
from worker.journal import Journal, connect
from worker.runtime import Runtime
from worker.settings import WebSettings
from worker.web import waiting
from worker.web.app import create
from worker.web.tokens import make

EXAMPLES = 3
"""Of each operation, once of what fits its document and once of what does not."""
ACCEPT_SECONDS = 0.01
"""No scheduler answers here: what is asked for is answered as queued, or with 503."""
HEARTBEAT_SECONDS = 0.2
"""Whoever asks for events after the last one hears after so long that there are none."""
KNOWN = {"migration": ["m-ended", "m-active"], "batch": ["b-list"], "host": ["node-00", "node-01"]}
"""What there is: half of all cases name something of it, since guessing finds nothing."""
CHECKS = ChecksConfig(
    not_a_server_error=NotAServerErrorConfig(expected_statuses=["2xx", "3xx", "4xx", 503]),
    # A refusal may follow from fields together, or from how things stand, which no schema tells.
    positive_data_acceptance=PositiveDataAcceptanceConfig(expected_statuses=["2xx", 304, 404, 409, 422, 503]),
)


@pytest.fixture(scope="module")
def api(redis_server: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BaseSchema]:
    """The API over a journal with hosts, migrations and a batch."""
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushall()
    journal = Journal(connect(redis_server.url))
    fleet = Fleet(journal, 2, redis_server.url)
    fleet.people("node-00", ["web-1", "web-2", "web-3"])
    fleet.ask("m-active", "web-1", "node-00", "node-01")
    fleet.ask("m-ended", "web-2", "node-00", "node-01", start=False)
    journal.cancel("m-ended", "somebody", 3600)
    fields = {"kind": "list", "digest": "d", "request": {}, "hosts": [], "priority": "normal", "requested_by": ""}
    journal.create_batch("b-list", fields, '{"moves": []}', 0, {})
    file = tmp_path_factory.mktemp("web") / "tokens.toml"
    token = make(file, "schema", "admin", speaks_for_others=True, expires=None, replace=False)
    fleet.settings.web = WebSettings(tokens_file=file, requests_per_minute=10**9, accept_seconds=ACCEPT_SECONDS)
    project = ProjectConfig(
        headers={"Authorization": f"Bearer {token}"},
        generation=GenerationConfig(with_security_parameters=False),
        checks=CHECKS,
    )
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(waiting, "HEARTBEAT_SECONDS", HEARTBEAT_SECONDS)
        yield schemathesis.openapi.from_asgi(
            "/v1/openapi.json",
            create(Runtime(fleet.settings, fleet.inventory, journal)),
            config=SchemathesisConfig(projects=ProjectsConfig(default=project)),
        )
    journal.client.close()


@pytest.mark.parametrize("tag", ["migrations", "batches", "hosts", "health"])
@pytest.mark.parametrize("mode", list(GenerationMode))
def test_the_api_is_what_its_document_says(api: BaseSchema, tag: str, mode: GenerationMode) -> None:
    """Whatever is sent, the answer has a status, a type and a form that the document names, and is no error of ours."""
    operations = [found.ok() for found in api.include(tag=tag).get_all_operations()]
    assert operations
    for operation in operations:

        @given(case=operation.as_strategy(generation_mode=mode), known=st.integers(-2, 1))
        @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        def check(case: Case, known: int) -> None:
            for kind in case.path_parameters if known >= 0 else ():
                there = KNOWN[kind][:1] if case.path.endswith("/events") else KNOWN[kind]  # the others' never end
                case.path_parameters[kind] = there[known % len(there)]
            case.call_and_validate(headers=dict(api.config.headers or {}))

        try:
            check()
        except Unsatisfiable:  # nothing of it could be wrong: it takes a path alone
            assert mode is GenerationMode.NEGATIVE
            assert not list(operation.body)
